"""From the journal to MLflow: read -> send -> commit | park | wait.

    worker.py    which lane is next, how long a lane waits
    settle.py    one request until it is delivered, refused or deferred; isolates a poison span
    group.py     pure: entries -> requests       bisect.py   pure: halves of a request
    backoff.py   pure: how long to wait          opening.py  the target of one service, from the settings
    mlflow/      MLflow as the target: a window from its lane to MLflow's answer

A window ends in exactly one of two ways that move the cursor: everything of it was taken by MLflow, or
what MLflow refused for good is written to the dead letters in the same transaction. In every other case,
cancellation and bugs included, the cursor stays and the window comes again.
"""
