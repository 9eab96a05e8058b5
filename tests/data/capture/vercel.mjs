// One run of a Vercel AI SDK agent with its mock model, exported to model.py: node vercel.mjs
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { generateText, stepCountIs, tool } from "ai";
import { MockLanguageModelV3 } from "ai/test";
import { z } from "zod";

const exporter = new OTLPTraceExporter({ url: "http://127.0.0.1:5056/v1/traces" });
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "vercel-agent", "service.version": "2.0.0" }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
provider.register();

const usage = (input, output, cached, reasoning) => ({
  inputTokens: { total: input, noCache: input - cached, cacheRead: cached, cacheWrite: 0 },
  outputTokens: { total: output, text: output - reasoning, reasoning },
});
const answer = (id, reason, content, used) => ({
  finishReason: { unified: reason, raw: reason },
  usage: used,
  content: [content],
  warnings: [],
  response: { id, modelId: "gpt-4o-2024-08-06", timestamp: new Date() },
});
const call = { type: "tool-call", toolCallId: "c1", toolName: "weather", input: '{"city":"Paris"}' };
const answers = [
  answer("r1", "tool-calls", call, usage(120, 20, 40, 5)),
  answer("r2", "stop", { type: "text", text: "It is sunny in Paris." }, usage(180, 30, 100, 0)),
];
await generateText({
  model: new MockLanguageModelV3({
    provider: "openai.responses",
    modelId: "gpt-4o",
    doGenerate: async () => answers.shift(),
  }),
  prompt: "What is the weather in Paris?",
  tools: {
    weather: tool({
      description: "The weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `sunny in ${city}`,
    }),
  },
  stopWhen: stepCountIs(5),
  experimental_telemetry: {
    isEnabled: true,
    functionId: "weather-fn",
    metadata: { sessionId: "vercel-session", userId: "vercel-user", plan: "gold" },
  },
});
await provider.forceFlush();
await provider.shutdown();
