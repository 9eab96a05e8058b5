"""OTLP over gRPC: the same requests as over HTTP, through the same path (collector/receivers/reception.py).

handler.py   a call: metadata and message in, within bounds; the answer or the failure out
health.py    grpc.health.v1, for probes and load balancers
server.py    grpc.aio within bounds, its port, its end
opening.py   whether there is one at all: the settings, and whether grpcio is installed

Only handler.py, health.py and server.py import grpcio, which is an extra.
Source: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc.
"""
