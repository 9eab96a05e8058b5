"""What happened in a trace: the read side.

indexed.py  the index, if it is sure to have all of it
source.py   journal + MLflow -> the spans of one trace, merged by span id
tree.py     spans -> a tree that is always a tree                        pure
totals.py   tree -> the trace as a whole: the counting rules             pure
paths.py    tree -> what its end was waiting for                         pure
trace.py    tree -> TraceSummary                                         pure
models.py   the answer's shape                                           pure
api.py      GET /-/traces/{trace_id}
index_api.py  GET /-/traces, /-/traces/stats, /-/sessions, …: passed on to the index, with the client's rights
render.py   the answer on a terminal
"""
