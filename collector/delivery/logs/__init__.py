"""Log records as a target of delivery: what they say about traces goes to MLflow, the rest is dropped.

    sorting.py      pure: records -> judgements, content of spans, the rest
    lookup.py       what MLflow has: traces with their assessments, by trace, response or session
    assessments.py  pure: a judgement as MLflow's assessment, and the key that finds it again
    join.py         pure: content of log records onto the spans that MLflow has
    window.py       one window of one lane, from its records to what became of each

MLflow has no key that would make a second assessment of the same judgement harmless, so each carries one in
its metadata (`sidespan.key`), and whoever writes looks first. One window at a time works on a trace.

A record whose trace isn't in MLflow yet goes to the lane of those that wait (`Route.lane_of`), in the
transaction that moves the cursor, and comes again from there until `delivery.log_wait_seconds` are over.
"""
