"""What is known of MLflow's runs, in one answer instead of a request a metric.

models.py      the shapes that the API answers (pydantic: validated, and the source of the OpenAPI document)
histories.py   points of a metric: sums over all of them, fewer of them to draw. Pure
linked.py      the traces linked to a run, summed up. Pure
reading.py     MLflow's JSON as our shapes. Pure
source.py      asks MLflow, in parallel and within bounds
compare.py     runs side by side. Pure
answers.py     the answers, with the client's rights
logs.py        the answers of the MLflow Logs API, from the server that a request names
"""
