"""Channels: how a notification leaves.

outcomes.py   what became of an attempt, and what an HTTP status or SMTP reply means    pure
secrets.py    addresses, keys and passwords from files and the environment
http.py       webhook, Slack and Alertmanager
smtp.py       e-mail
courier.py    carries the outbox of one channel, in order
opening.py    from the settings
"""
