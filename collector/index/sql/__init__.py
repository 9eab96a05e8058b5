"""Questions as SQL. Pure.

dialect.py     what engines say differently
columns.py     where the values that questions name stand in the tables
where.py       conditions, with their values beside them
selection.py   which rows are meant
stats.py       metric x breakdown x time bucket
tables.py      rows of traces, sessions and errors
answers.py     asked of an engine's tables: documents and files (not pure: it waits for the engine)

The tables are `traces`, `spans` and `experiments` (index/rows/columns.py). What is not in the dialect is
standard SQL.
"""
