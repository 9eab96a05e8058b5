"""MLflow as the target of delivery.

window.py      one window of one lane: resolve -> claim -> group -> forward -> send -> outcome
claims.py      whose the trace ids are           turns.py      one owner at a time for a trace id
forward.py     pure: the copy that is sent       file_tags.py  pure: attributes that would move files
send.py        one request, and reading back what was stored
answers.py     pure: what MLflow's answer means  owners.py     which traces MLflow has elsewhere
"""
