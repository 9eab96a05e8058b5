"""Entries and traces -> rows, the same for every engine.

columns.py      the tables' columns; rows.py: the spans of a trace -> their rows, and back    pure
form.py         what follows from the form of a trace, worked out once for all traces of it    pure
gathered.py     entries -> traces, with what is stored of them -> rows as CSV
one_trace.py    a stored trace -> its summary; documents.py: what MLflow says                 pure
crew.py         processes that make rows
"""
