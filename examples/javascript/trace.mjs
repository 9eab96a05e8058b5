// Sends a trace from JavaScript without any package: OTLP/HTTP in JSON, with fetch.
//
//     node examples/javascript/trace.mjs
//
// Look at: the trace in MLflow with an agent, a model call and its tokens. Your own program would use
// @opentelemetry/sdk-node with @opentelemetry/exporter-trace-otlp-proto and OTEL_EXPORTER_OTLP_ENDPOINT.

import { randomBytes } from "node:crypto";

const endpoint = process.env.SIDESPAN_ENDPOINT ?? "http://127.0.0.1:4318";
const experiment = process.env.SIDESPAN_EXPERIMENT ?? "examples";
const hex = (bytes) => randomBytes(bytes).toString("hex");
const now = () => BigInt(Date.now()) * 1_000_000n;
const value = (it) => (typeof it === "number" ? { intValue: String(it) } : { stringValue: it });
const attributes = (all) => Object.entries(all).map(([key, it]) => ({ key, value: value(it) }));

const traceId = hex(16);
const agentId = hex(8);
const start = now();
const span = (spanId, parentSpanId, name, all, from, to) => ({
  traceId, spanId, parentSpanId, name, kind: 1,
  startTimeUnixNano: String(from), endTimeUnixNano: String(to),
  attributes: attributes(all),
});
const spans = [
  span(hex(8), agentId, "chat gpt-4o", {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.provider.name": "openai",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.input.messages": JSON.stringify([{ role: "user", parts: [{ type: "text", content: "Hello?" }] }]),
    "gen_ai.output.messages": JSON.stringify([{ role: "assistant", parts: [{ type: "text", content: "Hi." }] }]),
  }, start + 1_000_000n, start + 4_000_000n),
  span(agentId, "", "invoke_agent greeter", {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "greeter",
    "session.id": "javascript-1",
  }, start, start + 5_000_000n),
];
const answer = await fetch(`${endpoint}/v1/traces`, {
  method: "POST",
  headers: {
    "content-type": "application/json",
    [/^\d+$/.test(experiment) ? "x-mlflow-experiment-id" : "x-mlflow-experiment-name"]: experiment,
  },
  body: JSON.stringify({
    resourceSpans: [{
      resource: { attributes: attributes({ "service.name": "javascript" }) },
      scopeSpans: [{ scope: { name: "example" }, spans }],
    }],
  }),
});
if (!answer.ok) {
  console.error(`${answer.status} ${await answer.text()}`);
  process.exit(1);
}
console.log(traceId);
