"""Alerts: metrics of the index over a window, and notifications when they cross a threshold.

    settings -> question -> answers/ -> measurement -> verdict -> state, event -> outbox -> channel

Each step of an alert is: ask for its window, judge each group, and write the new states and the
notifications in one transaction. So an event is written once, whatever
ends the process; on the wire it is sent at least once, under an id that stays the same.

definition.py    what an alert asks, checked by the same code as the API's parameters     pure
questions.py     which windows are due, and which questions answer them                   pure
measurements.py  from an answer to values, and from a value to a verdict                  pure
states.py        (state, verdict, time) -> (state, event)                                 pure
watch.py         one alert's groups, a window further                                     pure
notices.py       what is told of an event                                                 pure
links.py         addresses on the page                                                    pure
forms.py         the bytes for each kind of channel, and their signature                  pure
replay.py        what would have fired
store.py         states, outbox and dead letters in SQLite
evaluator.py     evaluates, as long as the service runs
channels/        sends what the outbox holds
alerting.py      all of it, as the API and the service know it
opening.py       from the settings
"""
