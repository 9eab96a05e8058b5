"""From the journal to MLflow: read -> send -> commit | park | wait.

    worker.py    which lane is next, how long a lane waits; the sentence of a window
    window.py    one window of one lane: resolve -> claim -> group -> send -> outcome
    claims.py    whose the trace ids are         turns.py    one owner at a time for a trace id
    settle.py    one request until it is delivered, refused or deferred; isolates a poison span
    group.py     pure: entries -> requests       bisect.py   pure: halves of a request
    answers.py   pure: what MLflow's answer means backoff.py  pure: how long to wait

A window ends in exactly one of two ways that move the cursor: everything of it was taken by MLflow, or
what MLflow refused for good is written to the dead letters in the same transaction. In every other case,
cancellation and bugs included, the cursor stays and the window comes again.
"""
