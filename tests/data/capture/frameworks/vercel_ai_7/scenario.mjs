// Vercel's AI SDK 7 with its OpenTelemetry integration, which ends an agent before its last step.
import { createOpenAI } from "@ai-sdk/openai";
import { OpenTelemetry } from "@ai-sdk/otel";
import {
  embed,
  experimental_decide,
  generateText,
  isStepCount,
  registerTelemetry,
  rerank,
  streamText,
  tool,
} from "ai";
import { z } from "zod";
import * as scene from "./scene.mjs";

const weather = async ({ city }) => {
  if (city === "Nowhere") throw new Error("there is no such city");
  return scene.weather({ city });
};
const provider = scene.tracerProvider("vercel-7");
registerTelemetry(new OpenTelemetry({ usage: true, runtimeContext: true }));
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "none" });
const common = {
  maxRetries: 0,
  runtimeContext: { sessionId: scene.SESSION, userId: scene.USER },
  telemetry: { functionId: scene.AGENT, includeRuntimeContext: { sessionId: true, userId: true } },
};
const asking = {
  ...common,
  model: openai.chat("gpt-4o-mini"),
  instructions: scene.INSTRUCTIONS,
  stopWhen: isStepCount(3),
  tools: {
    weather: tool({
      description: "The weather of a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: weather,
    }),
  },
};
await generateText({ ...asking, prompt: scene.ask("Paris") });
await generateText({ ...asking, prompt: scene.ask("Nowhere") });
await streamText({ ...asking, prompt: scene.CUT_OFF }).consumeStream();
await scene.failing(generateText({ ...asking, prompt: scene.FAILING }));
await embed({ ...common, model: openai.embedding("text-embedding-3-small"), value: scene.ask("London") });
// the provider has no models that rank or decide: these are made here
const own = { specificationVersion: "v4", provider: "own" };
await rerank({
  ...common,
  model: {
    ...own,
    modelId: "ranker",
    doRerank: async () => ({ ranking: [{ index: 1, relevanceScore: 0.9 }] }),
  },
  query: scene.ask("Oslo"),
  documents: ["London is grey.", "Oslo is sunny."],
});
await experimental_decide({
  ...common,
  model: {
    ...own,
    modelId: "decider",
    supportedQuestionTypes: ["boolean"],
    doDecide: async () => ({ answers: { sunny: { type: "boolean", probability: 0.9 } }, warnings: [] }),
  },
  state: scene.ask("Rome"),
  questions: { sunny: { type: "boolean", instructions: "Is it sunny?" } },
});
await provider.shutdown();
