"""Spans as rows, to be asked about: what is known of them, by trace, over many traces, over time.

protocol.py    the verbs, the questions and the answers that everybody else uses
feed.py        the journal's consumer: has the index take what was appended
backfill.py    what MLflow had before
queries/       questions as data: parameters in, checked queries out
sql/           the queries as SQL, for a dialect
rows/          entries and traces -> rows, the same for both engines
duckdb/        a store in DuckDB, in a process of its own
clickhouse/    a store on ClickHouse, for many processes

    journal -> feed -> take -> shard (entries -> rows) -> store          duckdb/take.py, shard.py, rows/
    log -> feed -> take (consumer) -> make (entries -> rows) -> store    clickhouse/take.py, make.py, rows/
    API -> IndexQuery -> client -> process -> engine -> answers -> SQL   duckdb/client.py, engine.py

Another engine writes the verbs of protocol.py over a store of its own, and a Dialect if it speaks SQL.
"""
