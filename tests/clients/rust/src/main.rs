//! A program with OpenTelemetry's own exporter that makes spans at a steady rate until its standard input ends,
//! and says how many it made.
//!
//!     sender SPANS_A_SECOND    with OTEL_EXPORTER_OTLP_ENDPOINT set

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

fn main() {
    let rate = std::env::args().nth(1).expect("SPANS_A_SECOND").parse::<f64>().expect("a number");
    let pause = Duration::from_secs_f64(1.0 / rate);

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
    let input_ended = Arc::new(AtomicBool::new(false));
    let seen_by_reader = input_ended.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        seen_by_reader.store(true, Ordering::Relaxed);
    });
    while !input_ended.load(Ordering::Relaxed) {
        tracer.in_span("rust", |_| {});
        made += 1;
        std::thread::sleep(pause);
    }
    let ended = provider.shutdown();
    println!("{{\"made\": {made}, \"failures\": {}}}", u8::from(ended.is_err()));
}
