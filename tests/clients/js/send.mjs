// Sends one trace with everything a span can hold, as the JavaScript SDK does: OTLP/HTTP in JSON.
import { SpanKind, SpanStatusCode, context, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'

const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'js-client' }),
  spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter())],
})
provider.register()
const tracer = trace.getTracer('js', '1.0')

const other = tracer.startSpan('other')
const root = tracer.startSpan('root', {
  kind: SpanKind.SERVER,
  links: [{ context: other.spanContext(), attributes: { why: 'linked' } }],
})
root.setAttributes({ text: 'hällo', whole: 42, part: 0.5, yes: true, list: ['a', 'b'] })
root.addEvent('happened', { n: 1 })
const child = tracer.startSpan('child', {}, trace.setSpan(context.active(), root))
child.setStatus({ code: SpanStatusCode.ERROR, message: 'oh no' })
child.end()
root.end()
other.end()
await provider.forceFlush()
await provider.shutdown()
console.log(root.spanContext().traceId)
