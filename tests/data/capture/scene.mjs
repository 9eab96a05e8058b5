// What scenarios in JavaScript share: OpenTelemetry's own SDK with its own exporter, and the questions.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

export const ask = (city) => `What is the weather in ${city}?`;
export const CUT_OFF = "Tell me all about the sea.";
export const FAILING = "Please fail.";
export const SESSION = "capture-session";
export const USER = "capture-user";
export const AGENT = "weather_agent";
export const INSTRUCTIONS = "You are brief.";
export const weather = ({ city }) => `sunny in ${city}`;

export function tracerProvider(service) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": service, "service.version": "3.1" }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  return provider;
}

export async function failing(promise) {
  try {
    await promise;
  } catch (error) {
    console.log(`as expected: ${error.name}`);
  }
}
