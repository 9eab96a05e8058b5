"""What the tests stand on: real servers on free ports, builders of OTLP payloads."""
