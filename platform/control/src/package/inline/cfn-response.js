// Answers a custom resource's request, as CloudFormation's module of this name does. Inline code alone has it.
//
// Source: CloudFormation User Guide, "`cfn-response` module", published: the arguments, the document, that `context.done` ends
// the invocation. Returns a promise, so that handlers may be asynchronous or not; it is rejected only where the runtime has no
// `context.done` (Node 24). The URL may have any port, and plain HTTP, so that a test can take the answer.
"use strict";

exports.SUCCESS = "SUCCESS";
exports.FAILED = "FAILED";

exports.send = (event, context, responseStatus, responseData, physicalResourceId, noEcho) => {
  const body = JSON.stringify({
    Status: responseStatus,
    Reason: "See the details in CloudWatch Log Stream: " + context.logStreamName,
    PhysicalResourceId: physicalResourceId || context.logStreamName,
    StackId: event.StackId,
    RequestId: event.RequestId,
    LogicalResourceId: event.LogicalResourceId,
    NoEcho: noEcho || false,
    Data: responseData,
  });
  console.log("Response body:\n", body);
  return new Promise((resolve, reject) => {
    const end = (error) => {
      if (context.done) {
        context.done(error);
      } else if (error) {
        return reject(error);
      }
      resolve();
    };
    const url = new URL(event.ResponseURL);
    // The signature of the URL covers an empty content type.
    const headers = { "content-type": "", "content-length": Buffer.byteLength(body) };
    const request = require(url.protocol === "http:" ? "http" : "https").request(url, { method: "PUT", headers }, (response) => {
      console.log("Status code: " + response.statusCode);
      response.resume();
      end();
    });
    request.on("error", (error) => {
      console.log("send(..) failed executing https.request(..): " + error);
      end(error);
    });
    request.end(body);
  });
};
