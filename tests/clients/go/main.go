// A program with OpenTelemetry's own exporter that makes spans at a steady rate until its standard input ends,
// and says how many it made.
//
//	sender SPANS_A_SECOND    with OTEL_EXPORTER_OTLP_ENDPOINT set, and OTEL_EXPORTER_OTLP_PROTOCOL=grpc for gRPC
package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func exporter(ctx context.Context) *otlptrace.Exporter {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return must(otlptracegrpc.New(ctx))
	}
	return must(otlptracehttp.New(ctx))
}

func main() {
	ctx := context.Background()
	rate := must(strconv.ParseFloat(os.Args[1], 64))

	var failures atomic.Int64
	var last atomic.Value
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		failures.Add(1)
		last.Store(err.Error())
	}))
	provider := trace.NewTracerProvider(
		trace.WithBatcher(exporter(ctx), trace.WithBatchTimeout(100*time.Millisecond)))
	tracer := provider.Tracer("restart")

	made := 0
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	every := time.NewTicker(time.Duration(float64(time.Second) / rate))
	for ; !ended.Load(); made++ {
		<-every.C
		_, span := tracer.Start(ctx, "go")
		span.End()
	}
	if err := provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"made": made, "failures": failures.Load(), "last_failure": last.Load()})
}
