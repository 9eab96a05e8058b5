"""What a span says, whichever convention it speaks: attributes in, canonical facts out. Pure.

conventions.py   the table: each fact and the attributes that it is read from, best first
facts.py         one OTLP span -> SpanFacts
"""
