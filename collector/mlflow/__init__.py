"""MLflow as a client sees it: plain HTTP, never its Python package.

client.py        connections, credentials, bounds on answers
rest.py          the REST API: every path once
headers.py       the headers that name an experiment, a run, a workspace
experiments.py   which experiments and runs there are, remembered for a while
"""
