// Vercel AI SDK 6: generateText with a tool, streamText, an answer cut off, a call that fails, an embedding.
import { openai } from "@ai-sdk/openai";
import { embed, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import * as scene from "./scene.mjs";

const provider = scene.tracerProvider("vercel");
const named = {
  model: openai.chat("gpt-4o-mini"),
  maxRetries: 0,
  tools: {
    weather: tool({
      description: "The weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async (input) => scene.weather(input),
    }),
  },
  stopWhen: stepCountIs(5),
};
const telemetry = { isEnabled: true, functionId: "weather-fn" };

await generateText({
  ...named,
  prompt: scene.ask("Paris"),
  experimental_telemetry: {
    ...telemetry,
    metadata: { sessionId: scene.SESSION, userId: scene.USER, plan: "gold" },
  },
});
const stream = streamText({ ...named, prompt: scene.ask("Oslo"), experimental_telemetry: telemetry });
for await (const _ of stream.textStream);
await generateText({ ...named, tools: {}, prompt: scene.CUT_OFF, experimental_telemetry: telemetry });
await scene.failing(generateText({ ...named, prompt: scene.FAILING, experimental_telemetry: telemetry }));
await embed({
  model: openai.embedding("text-embedding-3-small"),
  value: scene.ask("Rome"),
  experimental_telemetry: telemetry,
});
await provider.forceFlush();
await provider.shutdown();
