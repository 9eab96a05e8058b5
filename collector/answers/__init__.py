"""Questions and answers, without HTTP: the API and the page ask here, and whatever else hands answers out.

What a client may see is an argument (rights.py). An answer is a value, or JSON that the index has encoded.
Nothing here knows a request or a status; errors say what the caller can do (errors.py).

opening.py         all of the answers of one service, from its parts
traces.py          one trace: index, else journal and MLflow, else what the index has
  indexed.py         one trace in the index, if the index is sure to have all of it
  trace_source.py    one trace in journal and MLflow, merged by span id
  content.py         what its spans were given and returned                        pure
  explain.py         where a trace's facts come from, and what is done to it       pure
many_traces.py     rows, statistics, comparisons, errors, facets, sessions: asked of the index
index_upkeep.py    what the index holds; backfill, verify, rebuild
runs/              runs of MLflow; the MLflow Logs API's answers
alerting.py        alerts, as collector/alerts/ answers them
dead_letters.py    what MLflow refused; delivery again
health.py          the state of each part of the service
exposition.py      metrics for Prometheus
"""
