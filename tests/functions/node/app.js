// Handlers for the kinds of answers and errors that AWS's Node runtime has.

let count = 0;

exports.echo = async (event) => event;

exports.context = async (event, context) => ({
  count: ++count,
  requestId: context.awsRequestId,
  functionName: context.functionName,
  functionVersion: context.functionVersion,
  memory: context.memoryLimitInMB,
  arn: context.invokedFunctionArn,
  logGroup: context.logGroupName,
  logStream: context.logStreamName,
  remainingMs: context.getRemainingTimeInMillis(),
  trace: process.env._X_AMZN_TRACE_ID,
  client: context.clientContext?.custom,
});

exports.environment = async () => process.env;

exports.imports = async (event) => {
  const found = {};
  for (const name of event.modules) {
    try {
      found[name] = require.resolve(name);
    } catch (error) {
      found[name] = error.code;
    }
  }
  return found;
};

class StoreClosed extends Error {
  get name() {
    return "StoreClosed";
  }
}

exports.fails = async () => {
  throw new StoreClosed("the store is closed");
};

exports.throws = () => {
  throw new TypeError("not a function");
};

exports.rejectsText = () => Promise.reject("just text");

exports.callsBack = (event, context, callback) => {
  setTimeout(() => callback(null, { called: "back" }), 5);
};

exports.callsBackError = (event, context, callback) => callback(new Error("called back"));

// The answer waits until nothing is left to do; with the flag off it does not.
exports.lingers = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = event.waits;
  const started = Date.now();
  const timer = setTimeout(() => (count += 1), 60);
  callback(null, { waited: event.waits, started, timer: timer.hasRef() });
};

exports.says = (event, context) => {
  if (event.how === "succeed") context.succeed("succeeded");
  if (event.how === "fail") context.fail(new Error("failed"));
  if (event.how === "done") context.done(null, "done");
};

exports.nothing = async () => {};
exports.neither = () => {};
exports.returns = (event) => event;

// Nothing is left to do, and the promise is not settled.
exports.neverSettles = async () => new Promise(() => {});
exports.neverSettlesPlain = () => new Promise(() => {});

exports.methods = async (event, context) => ["done", "succeed", "fail", "callbackWaitsForEmptyEventLoop"].filter((it) => it in context);

// A module that only newer Nodes load with `require`.
exports.requiresModule = async () => require("./typed/index.js").handler();

// Keeps 18 MB of the heap and drops six more in each round.
exports.wastes = async (event) => {
  const objects = () => Array.from({ length: 150000 }, (_, number) => ({ number, next: null }));
  const kept = [objects(), objects(), objects()];
  for (let round = 0; round < event.rounds; round += 1) kept[round % 3] = objects();
  return event.rounds;
};

exports.heap = async () => require("v8").getHeapStatistics().heap_size_limit / 2 ** 20;

exports.circular = async () => {
  const ring = {};
  ring.ring = ring;
  return ring;
};

exports.stray = async () => {
  Promise.reject(new Error("stray"));
  await new Promise((resolve) => setTimeout(resolve, 1000));
};

exports.strayAfterAnswer = (event, context) => {
  context.succeed("answered");
  Promise.reject(new Error("stray"));
};

exports.late = async () => {
  setTimeout(() => {
    throw new Error("late");
  }, 1);
  await new Promise((resolve) => setTimeout(resolve, 1000));
};

exports.exits = async (event) => process.exit(event.status ?? 0);

exports.sleeps = (event) => new Promise((resolve) => setTimeout(resolve, event.seconds * 1000, "woke up"));

exports.large = async (event) => "a".repeat(event.bytes - 2);

exports.logs = async () => {
  console.log("logged %d things", 2, { a: 1 });
  console.error("line one\nline two");
  console.debug("debugged");
  return "logged";
};

exports.streams = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { "x-kind": "streamed" } });
  stream.write("one,");
  stream.end("two");
});

exports.streamBreaks = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("one,");
  throw new Error("broke");
});

exports.streamPipes = awslambda.streamifyResponse(
  async (event, stream) => {
    const { Readable } = require("stream");
    const { pipeline } = require("stream/promises");
    stream.setContentType("text/plain");
    const piece = "a".repeat(65536);
    await pipeline(Readable.from(Array(event.pieces).fill(piece)), stream);
  },
  { highWaterMark: 16384 },
);

exports.streamPauses = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("one,");
  // What the client has seen by now was not sent with the rest.
  await new Promise((resolve) => setTimeout(resolve, event.pause ?? 500));
  stream.end("two");
});

exports.streamForgets = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("one,");
});

exports.streamSync = awslambda.streamifyResponse((event, stream) => {
  stream.write("one,");
});

exports.streamRaises = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("one,");
  throw new RangeError("too far");
});
