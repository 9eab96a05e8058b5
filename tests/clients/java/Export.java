// Sends spans as OpenTelemetry's Java SDK does, in batches of 50: with the JDK's own HTTP client, or over gRPC.
// java -cp 'lib/*' Export.java http|grpc URL EXPERIMENT_ID none|gzip SPANS

import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.util.concurrent.TimeUnit;

public class Export {
  public static void main(String[] arguments) {
    var exporter = exporter(arguments[0], arguments[1], arguments[2], arguments[3]);
    var processor = BatchSpanProcessor.builder(exporter).setMaxExportBatchSize(50).build();
    var provider = SdkTracerProvider.builder().addSpanProcessor(processor).build();
    Tracer tracer = provider.get("java");
    for (int number = 0; number < Integer.parseInt(arguments[4]); number++) {
      tracer.spanBuilder("span " + number).setAttribute("text", "hällo").startSpan().end();
    }
    boolean flushed = provider.forceFlush().join(30, TimeUnit.SECONDS).isSuccess();
    provider.shutdown().join(10, TimeUnit.SECONDS);
    System.out.println(flushed ? "exported" : "failed");
    System.exit(0);
  }

  static SpanExporter exporter(String protocol, String url, String experiment, String compression) {
    if (protocol.equals("grpc")) {
      return OtlpGrpcSpanExporter.builder()
          .setEndpoint(url)
          .addHeader("x-mlflow-experiment-id", experiment)
          .setCompression(compression)
          .build();
    }
    return OtlpHttpSpanExporter.builder()
        .setEndpoint(url + "/v1/traces")
        .addHeader("x-mlflow-experiment-id", experiment)
        .setCompression(compression)
        .build();
  }
}
