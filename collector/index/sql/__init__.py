"""Questions as SQL. Pure.

dialect.py     what engines say differently
columns.py     where the values that questions name stand in the tables
where.py       conditions, with their values beside them
selection.py   which rows are meant
stats.py       metric x breakdown x time bucket
tables.py      rows of traces, sessions and errors

The tables are `traces`, `spans` and `experiments` (index/duckdb/columns.py). What is not in the dialect is
standard SQL.
"""
