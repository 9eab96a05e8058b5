"""Questions to the index: parameters in, SQL out, answers in one shape. All but `answers.py` is pure.

filters.py    which traces, spans or sessions are meant
stats.py      metric x breakdown x time bucket
tables.py     rows of traces, with sort and pages
sessions.py   conversations
overview.py   what the page shows first: several of these together
answers.py    runs them: JSON, CSV, Parquet
"""
