"""Questions to the index as data: parameters in, checked queries out. Pure, and without a word of SQL.

asked.py       the parameters of a request, read one by one
filters.py     which traces or spans are meant
stats.py       metric x breakdown x time bucket
tables.py      rows of traces, sessions and errors, with sort and pages
overview.py    what the page shows first, and comparisons: several of these together
models.py      the shapes of the answers
"""
