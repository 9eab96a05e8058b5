//! A program with OpenTelemetry's own exporter that makes spans at a steady rate and says how many it made.
//!
//!     sender SECONDS SPANS_A_SECOND    with OTEL_EXPORTER_OTLP_ENDPOINT set

use std::time::{Duration, Instant};

use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

fn main() {
    let mut given = std::env::args().skip(1).map(|text| text.parse::<f64>().expect("a number"));
    let seconds = Duration::from_secs_f64(given.next().expect("SECONDS"));
    let pause = Duration::from_secs_f64(1.0 / given.next().expect("SPANS_A_SECOND"));

    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()
        .expect("an exporter");
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(Duration::from_millis(100))
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = provider.tracer("restart");

    let mut made = 0;
    let started = Instant::now();
    while started.elapsed() < seconds {
        tracer.in_span("rust", |_| {});
        made += 1;
        std::thread::sleep(pause);
    }
    let ended = provider.shutdown();
    println!("{{\"made\": {made}, \"failures\": {}}}", u8::from(ended.is_err()));
}
