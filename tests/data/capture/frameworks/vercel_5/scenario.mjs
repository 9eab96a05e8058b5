// Vercel's AI SDK 5 with its own spans.
import { tell } from "./vercel_story.mjs";

await tell("vercel-5-agent");
