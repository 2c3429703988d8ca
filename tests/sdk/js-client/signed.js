// AWS's SDK for JavaScript against a platform that verifies signatures, driven by tests/sdk/test_other_sdks.py: what it saw, as JSON.

import { createHash, createHmac } from "node:crypto";
import { GetFunctionConfigurationCommand, InvokeCommand, LambdaClient, ListFunctionsCommand } from "@aws-sdk/client-lambda";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { SignatureV4 } from "@smithy/signature-v4";

const [endpoint, accessKeyId, secretAccessKey, name] = process.argv.slice(2);
const HOUR_MS = 3_600_000;
const options = { endpoint, region: "us-east-1", maxAttempts: 1, credentials: { accessKeyId, secretAccessKey } };
const lambda = (own) => new LambdaClient({ ...options, ...own });
const sts = (own) => new STSClient({ ...options, ...own });
const code = (answer) => answer.then((found) => found.$metadata.httpStatusCode, (error) => [error.$metadata.httpStatusCode, error.name]);
const wrong = { credentials: { accessKeyId, secretAccessKey: "another" } };
const unknown = { credentials: { accessKeyId: "AKIDUNKNOWN", secretAccessKey } };

class Sha256 {
  constructor(secret) { this.hash = secret ? createHmac("sha256", secret) : createHash("sha256"); }
  update(data) { this.hash.update(data); }
  async digest() { return new Uint8Array(this.hash.digest()); }
}

async function presigned(path, signingDate) {
  const { protocol, hostname, port, host } = new URL(endpoint);
  const signer = new SignatureV4({ service: "lambda", region: "us-east-1", credentials: options.credentials, sha256: Sha256 });
  const request = { method: "GET", protocol, hostname, port: Number(port), path, query: {}, headers: { host } };
  const { query } = await signer.presign(request, { expiresIn: 60, signingDate });
  return (await fetch(`${endpoint}${path}?${new URLSearchParams(query)}`)).status;
}

const late = lambda({ systemClockOffset: -HOUR_MS, maxAttempts: 3 });
const path = `/2015-03-31/functions/${name}/configuration`;
const seen = {
  right: await code(lambda().send(new InvokeCommand({ FunctionName: `${name}:$LATEST`, Payload: '{"a": "ö"}' }))),
  wrong: await code(lambda(wrong).send(new ListFunctionsCommand({}))),
  unknown: await code(lambda(unknown).send(new ListFunctionsCommand({}))),
  late: await code(lambda({ systemClockOffset: -HOUR_MS }).send(new ListFunctionsCommand({}))),
  early: await code(lambda({ systemClockOffset: HOUR_MS }).send(new ListFunctionsCommand({}))),
  // The SDK sets its clock by the refusal and asks again.
  set_right: await code(late.send(new GetFunctionConfigurationCommand({ FunctionName: name }))),
  presigned: [await presigned(path), await presigned(path, new Date(Date.now() - HOUR_MS)), await presigned(path, new Date(Date.now() + HOUR_MS))],
  who: await sts().send(new GetCallerIdentityCommand({})).then(({ Account, Arn }) => [Account, Arn]),
  nobody: [await code(sts(wrong).send(new GetCallerIdentityCommand({}))), await code(sts(unknown).send(new GetCallerIdentityCommand({})))],
};
console.log(JSON.stringify(seen));
