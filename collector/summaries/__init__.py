"""What happened in a trace: the read side.

source.py   journal + MLflow -> the spans of one trace, merged by span id
tree.py     spans -> a tree that is always a tree                        pure
trace.py    tree -> TraceSummary: the counting rules                     pure
models.py   the answer's shape                                           pure
api.py      GET /-/traces/{trace_id}
render.py   the answer on a terminal
"""
