// What scenarios in JavaScript share: the same words as scene.py.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

export const QUESTION = "What is the weather in Paris?";
export const SESSION = "capture-session";
export const USER = "capture-user";
export const AGENT = "weather_agent";
export const INSTRUCTIONS = "You are brief.";
export const ask = (city) => `What is the weather in ${city}?`;
export const CUT_OFF = "Tell me all about the sea.";
export const FAILING = "Please fail.";

/** The weather of a city. */
export function weather(city) {
  if (city === "Nowhere") throw new Error("there is no such city");
  return `sunny in ${city}`;
}

/** OpenTelemetry's own SDK and exporter, registered globally; `await shutdown()` at the end. */
export function tracerProvider(service) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": service, "service.version": "3.1" }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  return provider;
}

/** Awaits what is meant to fail: whatever it throws has been traced by then. */
export async function attempt(promise) {
  try {
    await promise;
  } catch (error) {
    console.log(`as expected: ${error.name}`);
  }
}
