"""The index on ClickHouse: a server, or a cluster, that many processes feed and ask.

schema.py      the tables, on one server or on shards, and their versions              pure
dialect.py     ClickHouse's SQL, where it isn't standard                               pure
rows.py        rows as they are stored: numbers for ids, versions                      pure
errors.py      the server's errors, by what the caller must do                         pure
make.py        entries of the log -> rows, in processes beside the service
server.py      statements over HTTP; preparing.py: the tables made ready at the start
store.py       what is stored of traces, and every change; book.py: experiments
take.py        the sentence: read on -> rows -> put
lookups.py     what is asked beside the questions of index/sql/
daily.py       numbers day by day (pure); kept.py: which of them are kept, and answers from them
engine.py      the verbs of the index; examining.py: for `sidespan doctor`; opening.py: the door
"""

from collector.index.clickhouse.opening import examine_clickhouse, open_clickhouse_index

__all__ = ["examine_clickhouse", "open_clickhouse_index"]
