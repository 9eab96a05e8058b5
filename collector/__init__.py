"""Sidespan's service: a durable OTLP collector in front of MLflow, with a proxy and summaries.

    OTLP/HTTP :4318 /v1/traces
          |   receivers/http.py   read the body, within bounds
          |   ingest.py           prepare (decode, validate, route) -> append -> receipt
          v
       journal/                   the durable log; the client is answered after the commit
          |   delivery/           read -> send -> commit | park | wait      -> MLflow
          |   index/              facts of every span, in a process of its own -> DuckDB
          |   queries/            questions to the index
          |   summaries/          one trace, from the index, the journal and MLflow; many traces
          v
    every other path              -> proxy/ (a package of its own)          -> MLflow

The promise: a span that was answered with 200 is on disk, and stays there until MLflow has taken it or
until it is in the dead letters with a reason. app.py puts the parts together; nothing else imports all.
"""
