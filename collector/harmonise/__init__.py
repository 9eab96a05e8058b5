"""What MLflow needs to show a trace right, added to the copy that goes to it. Pure.

    span -> facts (collector/spans) -+-> types, models, tokens, cost, content        spans.py, content.py
                                     |
    spans of a trace, and the note --+-> name, tags, session, user, roll-ups, caps   traces.py, note.py

The journal keeps what the client sent; this runs on the way out, so a better rule can be replayed. It adds
attributes and never removes one. It takes the place of a value only where the value is provably wrong: one
that MLflow refuses, or OpenInference's copy of a run's id in the place of the session. What it did stands
on the span: `sidespan.added` names the attributes, `sidespan.replaced` holds the client's own values.

A trace may come in several requests, in any order. What later ones need to know of earlier ones stands in
a note (note.py) that the journal keeps.
"""
