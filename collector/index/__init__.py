"""What spans say, in one vocabulary, and where it is kept to be asked about.

conventions.py   the table: each fact and the attributes that it is read from, best first     pure
values.py        what is known of one span                                                    pure
facts.py         one OTLP span -> SpanFacts; wire.py: the same bytes read faster              pure
rows.py          the spans of a trace -> its rows, and back; columns.py: the tables           pure

shard.py         entries of the journal -> rows in files, in one process or several
store.py         the tables in DuckDB, changed in transactions
take.py          the sentence: read on -> rows -> put
process.py       the index's own process; client.py: the service's side of it
consumer.py      the service's side of following the journal
backfill.py      what MLflow had before

collector/index/queries/ asks.
"""
