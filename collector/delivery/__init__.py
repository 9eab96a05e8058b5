"""From the journal to MLflow and to other backends: read -> send -> commit | park | wait.

    worker.py    which lane is next, how long a lane waits
    settle.py    one request until it is delivered, refused or deferred; isolates a poison span
    group.py     pure: entries -> requests       bisect.py   pure: halves of a request
    backoff.py   pure: how long to wait          verdicts.py pure: what an answer says, whatever the target
    opening.py   MLflow's workers of one service, from the settings
    mlflow/      MLflow as the target: a window from its lane to MLflow's answer
    logs/        MLflow as the target of log records
    otlp/        another backend as the target, over OTLP/HTTP

A window ends in exactly one of two ways that move the cursor: everything of it was taken by the target, or
what the target refused for good is written to the dead letters in the same transaction. In every other case,
cancellation and bugs included, the cursor stays and the window comes again.
"""
