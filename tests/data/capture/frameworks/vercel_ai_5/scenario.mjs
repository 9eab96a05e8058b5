// Vercel AI SDK 5: generateText with a tool, streamText, a call that fails, embeddings.
import { createOpenAI } from "@ai-sdk/openai";
import { embed, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import * as scene from "./scene.mjs";

const weather = async ({ city }) => {
  if (city === "Nowhere") throw new Error("there is no such city");
  return scene.weather({ city });
};
const provider = scene.tracerProvider("vercel-5");
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "none" });
const common = {
  maxRetries: 0,
  experimental_telemetry: {
    isEnabled: true,
    functionId: scene.AGENT,
    metadata: { sessionId: scene.SESSION, userId: scene.USER, plan: "gold" },
  },
};
const asking = {
  ...common,
  model: openai.chat("gpt-4o-mini"),
  system: scene.INSTRUCTIONS,
  stopWhen: stepCountIs(3),
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
const embedding = openai.embedding("text-embedding-3-small");
await embed({ ...common, model: embedding, value: scene.ask("London") });
await embedMany({ ...common, model: embedding, values: [scene.ask("Oslo"), "and tomorrow?"] });
await provider.shutdown();
