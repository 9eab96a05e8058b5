"""Sidespan's service: a durable OTLP collector in front of MLflow, with a proxy and summaries.

    OTLP/HTTP :4318 /v1/traces, OTLP/gRPC :4317
          |   receivers/    read the body in bounds; prepare (decode, validate, route) -> append -> receipt
          v
       journal/             the durable log; the client is answered after the commit
          |   sampling/     which traces are forwarded, if that is asked for
          |   delivery/     read -> harmonise and process -> send -> commit | park | wait    -> MLflow
          |   index/        facts of every span, in a process of its own -> DuckDB; questions to it
          |   answers/      one trace, many traces, runs: from the index, the journal and MLflow
          |   api/          answers over HTTP, behind the door; the page
          v
    every other path        -> proxy/ (a package of its own)                          -> MLflow

The promise: a span that was answered with 200 is on disk, and stays there until MLflow has taken it or
until it is in the dead letters with a reason. service/app.py puts the parts together; nothing else
imports all of them. Each folder imports those below it only (tests/test_architecture.py).
"""
