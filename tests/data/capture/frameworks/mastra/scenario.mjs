// Mastra's agent with its exporter for OpenTelemetry; the answer that is cut off is streamed.
import { createOpenAI } from "@ai-sdk/openai";
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { createTool } from "@mastra/core/tools";
import { Observability } from "@mastra/observability";
import { OtelExporter } from "@mastra/otel-exporter";
import { z } from "zod";
import { AGENT, CUT_OFF, FAILING, INSTRUCTIONS, SESSION, USER, ask, failing } from "./scene.mjs";

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "none" });
const agent = new Agent({
  id: AGENT,
  name: AGENT,
  instructions: INSTRUCTIONS,
  model: openai.chat("gpt-4o-mini"),
  maxRetries: 0,
  tools: {
    weather: createTool({
      id: "weather",
      description: "The weather of a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        if (city === "Nowhere") throw new Error("there is no such city");
        return `sunny in ${city}`;
      },
    }),
  },
});
const endpoint = `${process.env.PROVIDER_URL}/v1/traces`;
const mastra = new Mastra({
  agents: { [AGENT]: agent },
  logger: false,
  observability: new Observability({
    configs: {
      otel: {
        serviceName: "mastra-agent",
        exporters: [
          new OtelExporter({ provider: { custom: { endpoint, protocol: "http/protobuf" } }, signals: { logs: false } }),
        ],
      },
    },
  }),
});
const asked = mastra.getAgent(AGENT);
const asking = { maxSteps: 3, tracingOptions: { metadata: { sessionId: SESSION, userId: USER } } };
await asked.generate(ask("Paris"), asking);
await asked.generate(ask("Nowhere"), asking);
await (await asked.stream(CUT_OFF, asking)).consumeStream();
await failing(asked.generate(FAILING, asking));
await mastra.shutdown();
