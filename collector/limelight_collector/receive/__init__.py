"""Receivers: OTLP over HTTP and gRPC, their limits and their answers."""
