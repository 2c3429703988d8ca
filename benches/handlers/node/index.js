// The handler that Onrush and its Node peer both run; `where` says which interpreter that is.
exports.handler = async (event) => ({
  statusCode: 200,
  body: event.where ? JSON.stringify([process.execPath, process.version]) : '{"ok":true}',
});
