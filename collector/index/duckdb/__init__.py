"""The index in DuckDB: a side process that owns the file, and the client that the service asks it through.

schema.py     the tables; upgrade.py: those of earlier versions                    pure
dialect.py    DuckDB's SQL, where it isn't standard                                pure
store.py      the tables in a file, changed in transactions; held.py: one process has it at a time
scores.py     the table of scores, which MLflow has the last word on
shard.py      entries of the journal -> rows in files, in one process or several
take.py       the sentence: read on -> rows -> put
lookups.py    what is asked beside the questions of index/sql/
engine.py     the verbs of the index over the store, in threads
messages.py   what service and process say to each other                           pure
process.py    the verbs over HTTP on a Unix socket; client.py: the service's side
"""
