"""What MLflow itself says of traces, held so that MLflow's own questions can be answered fast.

    proxy -> Answering.answer -> question.py, search.py (strict reading) -> coverage -> store (SQL)
        traces/metrics: the rows as MLflow's JSON
        traces/search:  the ids of the page, for which alone MLflow is asked
        anything else:  MLflow is asked, and the reason is counted

question.py    a body of traces/metrics as a value, or the reason why it isn't read
filters.py     its filters
search.py      a question to traces/search as a value, in both of its forms
conditions.py  its filter
rows.py        MLflow's JSON of traces -> rows with MLflow's own columns
sources.py     where traces are read: MLflow's database (database.py), or its API (reading.py)
watched.py     MLflow's database: whether anything was committed (proof.py: by whom)
sql.py         a question as SQL, with MLflow's meaning (search_sql.py: a search)
answer.py      rows of the result -> MLflow's JSON (search_answer.py: MLflow's page, checked)
span_types.py  whether types of spans, as the API tells them, are those that MLflow counts by
writes.py      which traces were written since they were read
copies.py      the copy of each experiment: filled, kept up to date, counted (copy.py: the state of one)
answering.py   all of it for the proxy

The rows are in DuckDB, in the process of the index (collector/index/duckdb/mirror.py).

Nothing here is computed from what clients sent: the rows come from MLflow alone, so that prices, names, types
and rounding are MLflow's. What its API doesn't tell with certainty is marked, and questions that need it are
passed on. A copy lives as long as the process, because nobody sees what is written to MLflow
while it is down.
"""
