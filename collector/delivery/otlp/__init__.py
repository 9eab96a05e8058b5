"""Another backend as a target of delivery: anything that speaks OTLP over HTTP.

    window.py     one window of one lane: select -> copy -> send -> outcome
    copy.py       pure: what of a request goes to the target, and how
    selection.py  pure: the filter
    answers.py    pure: what the target's answer means, by the specification
    endpoint.py   one request to it
    opening.py    the targets of one service, from the settings

Each target is a consumer of the log with a worker of its own, which reads both signals if it is to. A window
is one request, so a request that waits never makes another one come again: what a target has taken is sent
twice only if its answer was lost, or if it refused a part of a request and went away before the rest.
"""
