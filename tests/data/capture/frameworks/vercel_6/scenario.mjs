// Vercel's AI SDK 6 with its own spans.
import { tell } from "./vercel_story.mjs";

await tell("vercel-6-agent");
