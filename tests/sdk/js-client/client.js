// AWS's SDK for JavaScript as it is published, driven by tests/sdk/test_other_sdks.py: what it saw, as JSON.

import { readFileSync } from "node:fs";
import {
  CreateFunctionCommand, DeleteFunctionCommand, GetFunctionCommand, InvokeCommand, InvokeWithResponseStreamCommand,
  LambdaClient, PutFunctionConcurrencyCommand, ResourceNotFoundException, TooManyRequestsException, UpdateFunctionCodeCommand,
  paginateListFunctions, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";

const [endpoint, role, echo, rogue, streams] = process.argv.slice(2);
const client = new LambdaClient({
  endpoint, region: "us-east-1", maxAttempts: 1, credentials: { accessKeyId: "test", secretAccessKey: "test" },
});
const wait = { client, maxWaitTime: 60, minDelay: 1, maxDelay: 2 };
const text = (bytes) => new TextDecoder().decode(bytes);
const failure = (command) => client.send(command).then(() => null, (error) => error);
const create = (FunctionName, file) => client.send(new CreateFunctionCommand({
  FunctionName, Role: role, Runtime: "provided.al2023", Handler: "bootstrap", Code: { ZipFile: readFileSync(file) }, Timeout: 10,
}));
const seen = {};

const made = await create("js-cart", echo);
seen.made = [made.FunctionName, made.Version, made.PackageType, made.Timeout];
await waitUntilFunctionActiveV2(wait, { FunctionName: "js-cart" });
const ran = await client.send(new InvokeCommand({ FunctionName: "js-cart", Payload: '{"hello": "wörld"}', LogType: "Tail" }));
const log = Buffer.from(ran.LogResult, "base64").toString();
seen.invoked = [ran.StatusCode, text(ran.Payload), ran.ExecutedVersion, ran.FunctionError ?? null, log.includes("REPORT RequestId: ")];
const queued = await client.send(new InvokeCommand({ FunctionName: "js-cart", InvocationType: "Event", Payload: "{}" }));
seen.queued = queued.StatusCode;

await client.send(new UpdateFunctionCodeCommand({ FunctionName: "js-cart", ZipFile: readFileSync(rogue) }));
await waitUntilFunctionUpdatedV2(wait, { FunctionName: "js-cart" });
const failed = await client.send(new InvokeCommand({ FunctionName: "js-cart", Payload: '{"do": "exit1"}' }));
seen.failed = [failed.StatusCode, failed.FunctionError, JSON.parse(text(failed.Payload)).errorType];

await create("js-streams", streams);
await waitUntilFunctionActiveV2(wait, { FunctionName: "js-streams" });
const order = JSON.stringify({ pieces: ["one,", "two,", "three"], pause_ms: 20 });
const streamed = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: "js-streams", Payload: order }));
seen.streamed = "";
for await (const event of streamed.EventStream) {
  if (event.PayloadChunk) seen.streamed += text(event.PayloadChunk.Payload);
  if (event.InvokeComplete) seen.complete = event.InvokeComplete.ErrorCode ?? null;
}

seen.listed = [];
for await (const page of paginateListFunctions({ client, pageSize: 1 }, {})) {
  seen.listed.push(...page.Functions.map((found) => found.FunctionName));
}

await client.send(new PutFunctionConcurrencyCommand({ FunctionName: "js-cart", ReservedConcurrentExecutions: 0 }));
const throttled = await failure(new InvokeCommand({ FunctionName: "js-cart" }));
seen.throttled = throttled instanceof TooManyRequestsException ? [throttled.$metadata.httpStatusCode, throttled.Reason] : String(throttled);
for (const name of ["js-cart", "js-streams"]) await client.send(new DeleteFunctionCommand({ FunctionName: name }));
const missing = await failure(new GetFunctionCommand({ FunctionName: "js-cart" }));
seen.missing = missing instanceof ResourceNotFoundException ? [missing.$metadata.httpStatusCode, missing.message] : String(missing);
console.log(JSON.stringify(seen));
