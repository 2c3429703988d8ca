"use strict";
// Starts a Node function and runs its invocations, worded as AWS's Node runtime words them (behaviour and texts:
// aws-lambda-ric 3.4, from nodejs24.x on 4.0). CommonJS, `net` alone and one kept connection: every cold start pays for
// what is loaded here.

const fs = require("fs");
const net = require("net");
const path = require("path");
const util = require("util");

const VERSION = "/2018-06-01/runtime";
const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const TASK_ROOT = process.env.LAMBDA_TASK_ROOT || "/var/task";
// From nodejs24.x on there are no callbacks, and no methods of the context that are like them. What the function is made
// for counts, whichever Node runs it here.
const PROMISES_ALONE = Number(/nodejs(\d+)/.exec(process.env.AWS_EXECUTION_ENV)?.[1]) >= 24;
// After a longer answer the connection may be closed; until then the next event is asked for without waiting for "accepted",
// which says nothing new: half as many turns of the event loop (measured: 1.5 times the invocations a second).
const ANSWER_MAX = 1 << 20;
const EXIT_REJECTED = 128;
const EXIT_UNCAUGHT = 129;

// ---- Errors: the bodies that callers see -------------------------------------------------------------------------

const faults = {};
for (const name of [
  "ImportModuleError",
  "HandlerNotFound",
  "MalformedHandlerName",
  "UserCodeSyntaxError",
  "MalformedStreamingHandler",
  "InvalidStreamingOperation",
  "CallbackHandlerDeprecated",
  "NodeJsExit",
  "UnhandledPromiseRejection",
]) {
  faults[name] = { [name]: class extends Error {} }[name];
  faults[name].prototype.name = `Runtime.${name}`;
}

const isError = (it) => util.types.isNativeError(it) || Boolean(it && it.name && it.message && it.stack);
const clean = (text) => (typeof text === "string" ? text.replace(/\x7F/g, "%7F") : text);

/** The body of an error: `{errorType, errorMessage, trace}`. */
function described(error) {
  try {
    if (isError(error)) {
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack).split("\n") };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: "handled",
      errorMessage:
        "callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack",
    };
  }
}

/** An error with all its own properties, for the log. */
function formatted(error) {
  const open = (_key, value) => {
    if (!(value instanceof Error)) return value;
    const shown = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
    if (typeof value.stack === "string") shown.stack = value.stack.split("\n");
    return shown;
  };
  try {
    return "\t" + JSON.stringify(error, open);
  } catch {
    return "\t" + JSON.stringify(described(error));
  }
}

function serialized(value) {
  try {
    return JSON.stringify(value === undefined ? null : value);
  } catch {
    throw new Error("Unable to stringify response body");
  }
}

// ---- The log: ISO time, request id, level, message; one line per event -------------------------------------------

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const JSON_LOG = (process.env.AWS_LAMBDA_LOG_FORMAT || "").toUpperCase() === "JSON";
let requestId;

function jsonLine(level, messages) {
  const line = { timestamp: new Date().toISOString(), level, requestId };
  const shown = (error) => ({
    errorType: error.constructor?.name ?? "UnknownError",
    errorMessage: error.message,
    stackTrace: typeof error.stack === "string" ? error.stack.split("\n") : [],
  });
  if (messages.length === 1) {
    try {
      const open = (_key, value) => (value instanceof Error ? { ...shown(value), ...value } : value);
      return JSON.stringify({ ...line, message: messages[0] }, open);
    } catch {
      return JSON.stringify({ ...line, message: util.format(messages[0]) });
    }
  }
  const error = messages.find((it) => it instanceof Error);
  return JSON.stringify({ ...line, message: util.format(...messages), ...(error && shown(error)) });
}

function log(level, ...messages) {
  const text = () => `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(...messages)}`;
  const line = JSON_LOG ? jsonLine(level, messages) : text();
  process.stdout.write(line.replace(/\n/g, "\r") + "\n");
}

function patchConsole() {
  const lowest = Math.max(LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || "").toUpperCase()), 0);
  LEVELS.forEach((level, index) => {
    console[level.toLowerCase()] = index >= lowest ? (...messages) => log(level, ...messages) : () => {};
  });
  console.log = console.info;
}

function logError(message, error) {
  const real = error instanceof Error ? error : new Error(error);
  if (JSON_LOG) console.error(real);
  else console.error(message, formatted(real));
}

// ---- The Runtime API over one kept connection --------------------------------------------------------------------

class RuntimeApi {
  constructor(address) {
    const colon = address.lastIndexOf(":");
    this.host = address.slice(0, colon);
    this.port = Number(address.slice(colon + 1));
    this.socket = undefined;
    this.received = [];
    this.length = 0;
    this.head = undefined;
    // Requests whose answers have not come, the oldest first.
    this.waiting = [];
    this.ending = false;
  }

  /** One request; `done(error, {status, headers, body})`. While it waits, the process stays alive. */
  call(method, path, headers, body, done) {
    if (this.ending) return;
    this.waiting.push({ done, posts: method === "POST" });
    if (!this.socket) this.connect();
    const length = Buffer.byteLength(body);
    let head = `${method} ${VERSION}${path} HTTP/1.1\r\nHost: ${this.host}:${this.port}\r\nContent-Length: ${length}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name].replace(/[^\x20-\x7e]/g, "?")}\r\n`;
    this.socket.ref();
    this.socket.write(head + "\r\n" + body);
  }

  connect() {
    const socket = net.connect({ host: this.host, port: this.port, noDelay: true });
    socket.on("data", (chunk) => this.receive(chunk));
    socket.on("error", (error) => this.fail(socket, error));
    socket.on("close", () => this.fail(socket, new Error("the Runtime API closed the connection")));
    this.socket = socket;
  }

  fail(socket, error) {
    if (socket !== this.socket) return;
    this.socket = this.head = undefined;
    this.received = [];
    this.length = 0;
    const [first] = this.waiting.splice(0);
    if (first) first.done(error);
  }

  receive(chunk) {
    this.received.push(chunk);
    this.length += chunk.length;
    if (!this.head) {
      const all = this.take();
      const end = all.indexOf("\r\n\r\n");
      if (end < 0) return;
      const [first, ...lines] = all.toString("latin1", 0, end).split("\r\n");
      const headers = {};
      for (const line of lines) {
        const colon = line.indexOf(":");
        headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
      }
      this.head = { status: Number(first.split(" ")[1]), headers, body: "" };
      this.received = [all.subarray(end + 4)];
      this.length -= end + 4;
    }
    const body = this.body();
    if (body === undefined) return;
    const answer = { ...this.head, body: body.toString("utf8") };
    this.head = undefined;
    const { done } = this.waiting.shift();
    if ((answer.headers.connection || "").toLowerCase() === "close") {
      this.socket.destroy();
      this.socket = undefined;
    } else if (this.waiting.length === 0) {
      this.socket.unref();
    }
    const more = this.length > 0 && this.waiting.length > 0;
    done(undefined, answer);
    if (more && this.socket) this.receive(Buffer.alloc(0));
  }

  take() {
    const all = this.received.length === 1 ? this.received[0] : Buffer.concat(this.received);
    this.received = [all];
    return all;
  }

  /** The whole body once it is there, taken out of what was received. */
  body() {
    if ((this.head.headers["transfer-encoding"] || "").toLowerCase() === "chunked") return this.chunkedBody();
    const length = Number(this.head.headers["content-length"] || 0);
    if (this.length < length) return undefined;
    return this.cut(this.take(), length);
  }

  chunkedBody() {
    const all = this.take();
    const chunks = [];
    for (let at = 0; ; ) {
      const line = all.indexOf("\r\n", at);
      if (line < 0) return undefined;
      const size = parseInt(all.toString("latin1", at, line), 16);
      at = line + 2 + size + 2;
      if (all.length < at) return undefined;
      if (size > 0) {
        chunks.push(all.subarray(line + 2, line + 2 + size));
        continue;
      }
      this.cut(all, at);
      return Buffer.concat(chunks);
    }
  }

  /** What comes before `at` is taken, the rest stays. */
  cut(all, at) {
    this.received = [all.subarray(at)];
    this.length = all.length - at;
    return all.subarray(0, at);
  }

  post(path, body, headers, done) {
    this.call("POST", path, { "Content-Type": "application/json", ...headers }, body, (error, answer) => {
      if (error) throw error;
      done(answer);
    });
  }

  postError(path, error, done) {
    const body = described(error);
    this.post(path, serialized(body), { [ERROR_TYPE]: String(body.errorType) }, done);
  }

  /** The last thing this process says. What is being posted goes first, and nothing is asked for any more. */
  postLastError(path, error, status) {
    if (this.ending) process.exit(status);
    this.ending = true;
    const api = new RuntimeApi(`${this.host}:${this.port}`);
    const report = () => api.postError(path, error, () => process.exit(status));
    if (this.waiting[0]?.posts) this.waiting[0].done = report;
    else report();
  }
}

// ---- Finding the handler -----------------------------------------------------------------------------------------

const requireIfThere = (file) => (fs.existsSync(file) ? require(file) : undefined);
const importIfThere = async (file) => (fs.existsSync(file) ? import(require("url").pathToFileURL(file)) : undefined);

/** Whether the package.json nearest to a .js file says `"type": "module"`. */
function isModule(folder) {
  if (folder.endsWith("/node_modules")) return false;
  const file = path.join(folder, "package.json");
  if (fs.existsSync(file)) {
    try {
      return JSON.parse(fs.readFileSync(file, "utf8")).type === "module";
    } catch (error) {
      console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
      return false;
    }
  }
  return folder !== "/" && isModule(path.resolve(folder, ".."));
}

async function loadModule(folder, name) {
  const file = path.resolve(TASK_ROOT, folder, name);
  const asModule = fs.existsSync(file + ".js") && isModule(path.dirname(file));
  const loaded =
    requireIfThere(file) ||
    (asModule ? await importIfThere(file + ".js") : requireIfThere(file + ".js")) ||
    (await importIfThere(file + ".mjs")) ||
    requireIfThere(file + ".cjs");
  if (loaded) return loaded;
  return require(require.resolve(name, { paths: [TASK_ROOT, folder] }));
}

async function loadHandler(handler) {
  if (handler.includes("..")) {
    throw new faults.MalformedHandlerName(
      `'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(handler);
  const match = base.match(/^([^.]*)\.(.*)$/);
  if (!match) throw new faults.MalformedHandlerName("Bad handler");
  let loaded;
  try {
    loaded = await loadModule(handler.slice(0, handler.indexOf(base)), match[1]);
  } catch (error) {
    if (error instanceof SyntaxError) throw new faults.UserCodeSyntaxError(error);
    if (error && error.code === "MODULE_NOT_FOUND") throw new faults.ImportModuleError(error);
    throw error;
  }
  const found = match[2].split(".").reduce((nested, key) => nested && nested[key], loaded);
  if (!found) throw new faults.HandlerNotFound(`${handler} is undefined or not exported`);
  if (typeof found !== "function") throw new faults.HandlerNotFound(`${handler} is not a function`);
  return found;
}

const isAsync = (handler) => handler.constructor?.name === "AsyncFunction";

/** What has room for a callback takes one, whatever it does with it. */
function checkCallback(handler) {
  if (handler[STREAMING] || handler.length < 3) return;
  if (PROMISES_ALONE) {
    throw new faults.CallbackHandlerDeprecated(
      "ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.",
    );
  }
  const isSilent = process.env.AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING !== undefined;
  if (handler.length > 3 || isAsync(handler) || isSilent) return;
  console.warn(
    "AWS Lambda plans to remove support for callback-based function handlers starting with Node.js 24. You will need to update this function to use an async handler to use Node.js 24 or later. For more information and to provide feedback on this change, see https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/137. To disable this warning, set the AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING environment variable.",
  );
}

/** An async handler that waits when nothing is left to do will wait for ever. */
const neverSettled = () =>
  new faults.NodeJsExit(
    "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes",
  );

// ---- Streaming ---------------------------------------------------------------------------------------------------

const httpResponseStream = {
  /** Status, headers and cookies go ahead of the body: a prelude of JSON and eight zero bytes. */
  from(stream, prelude) {
    stream.setContentType("application/vnd.awslambda.http-integration-response");
    stream._onBeforeFirstWrite = (write) => {
      write(JSON.stringify(prelude));
      write(new Uint8Array(8));
    };
    return stream;
  },
};

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    if (typeof options?.highWaterMark === "number") handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
    return handler;
  },
  HttpResponseStream: httpResponseStream,
};

/** The request that carries a streamed response; a connection of its own, closed after the last chunk. */
function openStream(api, id, highWaterMark) {
  const errorType = "Lambda-Runtime-Function-Error-Type";
  const errorBody = "Lambda-Runtime-Function-Error-Body";
  let answered;
  const stream = require("http").request({
    method: "POST",
    host: api.host,
    port: api.port,
    path: `${VERSION}/invocation/${encodeURIComponent(id)}/response`,
    agent: false,
    ...(highWaterMark && { highWaterMark }),
    headers: {
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Content-Type": "application/octet-stream",
      "Transfer-Encoding": "chunked",
      Trailer: `${errorType}, ${errorBody}`,
    },
  });
  const done = new Promise((resolve, reject) => {
    answered = resolve;
    stream.on("error", reject);
  });
  done.catch(() => {});
  stream.on("response", (response) => response.on("end", answered).resume());
  const write = stream.write.bind(stream);
  let written = false;
  stream.setContentType = (type) => {
    if (written) throw new faults.InvalidStreamingOperation("Cannot set content-type, too late.");
    stream.setHeader("Content-Type", type);
  };
  stream.write = (chunk, ...rest) => {
    const plain = typeof chunk === "string" || chunk instanceof Uint8Array ? chunk : JSON.stringify(chunk);
    if (!written && stream._onBeforeFirstWrite) stream._onBeforeFirstWrite(write);
    written = true;
    return write(plain, ...rest);
  };
  // `end(chunk)` writes too, and its chunk comes after the prelude.
  const end = stream.end.bind(stream);
  stream.end = (chunk, ...rest) => {
    if (chunk !== undefined && chunk !== null && typeof chunk !== "function") stream.write(chunk);
    const callback = [chunk, ...rest].find((it) => typeof it === "function");
    return end(callback);
  };
  const fail = (error) => {
    const body = described(error);
    // Trailers belong to a chunked body that was begun.
    stream.flushHeaders();
    stream.addTrailers({ [errorType]: body.errorType, [errorBody]: Buffer.from(JSON.stringify(body)).toString("base64") });
    end();
  };
  return { stream, done, fail };
}

// ---- Invocations -------------------------------------------------------------------------------------------------

let whenEmpty = () => {}; // what an empty event loop means just now
let onUncaught; // (error, exit status): how an error nobody caught is reported just now

function headerJson(text, name) {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

/** What AWS's context carries; throws when a header is no JSON. */
function contextData(headers) {
  const trace = headers["lambda-runtime-trace-id"];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: headerJson(headers["lambda-runtime-client-context"], "ClientContext"),
    identity: headerJson(headers["lambda-runtime-cognito-identity"], "CognitoIdentity"),
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: requestId,
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

/** A context before [`contextData`] is in it. */
function newContext() {
  if (PROMISES_ALONE) return {};
  let waits = true;
  return {
    get callbackWaitsForEmptyEventLoop() {
      return waits;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits = value;
    },
  };
}

class Invocations {
  constructor(api, handler) {
    this.api = api;
    this.handler = handler;
    this.handle = handler[STREAMING] ? this.stream : this.buffer;
  }

  next() {
    whenEmpty = () => {};
    this.api.call("GET", "/invocation/next", {}, "", (error, answer) => {
      if (this.api.ending) return;
      if (error) throw error;
      if (answer.status !== 200) throw new Error(`Runtime API answered ${answer.status}: ${answer.body}`);
      requestId = answer.headers["lambda-runtime-aws-request-id"];
      const id = requestId;
      onUncaught = (error, status) => this.api.postLastError(`/invocation/${id}/error`, error, status);
      // From an empty stack, so that the function's traces end where its own code does.
      queueMicrotask(() => this.handle(answer.headers, answer.body));
    });
  }

  later() {
    setImmediate(() => this.next());
  }

  /** A handler that returns a promise, or calls back, or neither. */
  buffer(headers, body) {
    const id = requestId;
    let finished = false;
    const complete = (result) => {
      const answer = serialized(result);
      const isSmall = answer.length <= ANSWER_MAX;
      this.api.post(`/invocation/${encodeURIComponent(id)}/response`, answer, {}, () => isSmall || this.later());
      // What the function left for this turn of the event loop runs before the next event is asked for, as at AWS.
      if (isSmall) this.later();
    };
    const fail = (error) => {
      logError("Invoke Error", error);
      this.api.postError(`/invocation/${encodeURIComponent(id)}/error`, error, () => this.later());
    };
    const context = newContext();
    const once = (report) => (error, result) => {
      if (finished) return;
      whenEmpty = () => {};
      if (error !== undefined && error !== null) fail(error);
      else report(result);
      // Last, so that a result that cannot be said may still be reported as an error.
      finished = true;
    };
    const done = once(complete);
    const callback = once((result) => {
      if (!context.callbackWaitsForEmptyEventLoop) return complete(result);
      whenEmpty = () => {
        whenEmpty = () => {};
        setImmediate(() => complete(result));
      };
    });
    const succeed = (result) => done(null, result);
    const failed = (error) => done(error ?? "handled");
    if (!PROMISES_ALONE) Object.assign(context, { done, succeed, fail: failed });
    // Neither a promise nor a callback: null, once nothing is left to do.
    const settles = PROMISES_ALONE || isAsync(this.handler);
    whenEmpty = () => (settles ? failed(neverSettled()) : succeed(null));
    try {
      const given = [JSON.parse(body), Object.assign(context, contextData(headers))];
      const result = this.handler(...given, ...(PROMISES_ALONE ? [] : [callback]));
      const isPromise = result && typeof result.then === "function";
      if (isPromise) result.then(succeed, failed).catch(failed);
      else if (PROMISES_ALONE) succeed(result);
    } catch (error) {
      if (PROMISES_ALONE) failed(error);
      else callback(error);
    }
  }

  async stream(headers, body) {
    const { stream, done, fail } = openStream(this.api, requestId, this.handler[HIGH_WATER_MARK]);
    const context = newContext();
    const finish = () => {
      whenEmpty = () => this.later();
      if (!context.callbackWaitsForEmptyEventLoop) {
        whenEmpty = () => {};
        this.later();
      }
    };
    const failed = (error) => {
      logError("Invoke Error", error);
      fail(error);
      done.then(finish, finish);
    };
    const misused = (text) => failed(PROMISES_ALONE ? new Error(text) : text);
    whenEmpty = () => this.later();
    try {
      const result = this.handler(JSON.parse(body), stream, Object.assign(context, contextData(headers)));
      if (!result || typeof result.then !== "function") {
        return misused("Streaming does not support non-async handlers.");
      }
      if ((await result) !== undefined) console.warn("Streaming handlers ignore return values.");
      if (!stream.writableEnded) return misused("Response stream is not finished.");
      await done;
      finish();
    } catch (error) {
      failed(error);
    }
  }
}

// ---- Start -------------------------------------------------------------------------------------------------------

async function run() {
  patchConsole();
  const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
  onUncaught = (error, status) => api.postLastError("/init/error", error, status);
  process.on("uncaughtException", (error) => {
    logError("Uncaught Exception", error);
    onUncaught(error, EXIT_UNCAUGHT);
  });
  process.on("unhandledRejection", (reason, promise) => {
    const error = Object.assign(new faults.UnhandledPromiseRejection(reason), { reason, promise });
    logError("Unhandled Promise Rejection", error);
    onUncaught(error, EXIT_REJECTED);
  });
  process.on("beforeExit", () => whenEmpty());
  let handler;
  try {
    handler = await loadHandler(process.env._HANDLER);
    if (handler[STREAMING] && handler[STREAMING] !== "response") {
      throw new faults.MalformedStreamingHandler("Only response streaming is supported.");
    }
    checkCallback(handler);
  } catch (error) {
    logError(PROMISES_ALONE ? "Init Error" : "Uncaught Exception", error);
    return onUncaught(error, EXIT_UNCAUGHT);
  }
  new Invocations(api, handler).next();
}

run();
