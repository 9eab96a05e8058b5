// Sends spans as OpenTelemetry's Java SDK does with the JDK's own HTTP client, in batches of 50.
// java -cp 'lib/*' Export.java URL EXPERIMENT_ID none|gzip SPANS

import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import java.util.concurrent.TimeUnit;

public class Export {
  public static void main(String[] arguments) {
    var exporter =
        OtlpHttpSpanExporter.builder()
            .setEndpoint(arguments[0] + "/v1/traces")
            .addHeader("x-mlflow-experiment-id", arguments[1])
            .setCompression(arguments[2])
            .build();
    var processor = BatchSpanProcessor.builder(exporter).setMaxExportBatchSize(50).build();
    var provider = SdkTracerProvider.builder().addSpanProcessor(processor).build();
    Tracer tracer = provider.get("java");
    for (int number = 0; number < Integer.parseInt(arguments[3]); number++) {
      tracer.spanBuilder("span " + number).setAttribute("text", "hällo").startSpan().end();
    }
    boolean flushed = provider.forceFlush().join(30, TimeUnit.SECONDS).isSuccess();
    provider.shutdown().join(10, TimeUnit.SECONDS);
    System.out.println(flushed ? "exported" : "failed");
    System.exit(0);
  }
}
