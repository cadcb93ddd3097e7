"""OTLP over gRPC: the trace, log and metric services on grpcio's threads, with the decisions of the HTTP receiver.

The handlers are declared stream-unary, which is the same on the wire: so the key is checked before a message is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, NoReturn

import grpc

from limelight_collector import metrics
from limelight_collector.decode import Signal
from limelight_collector.errors import Rejected, StartupRefused, Unavailable
from limelight_collector.pipeline import accept
from limelight_collector.receive import answers
from limelight_collector.receive.limits import ByteBudget, Lease

if TYPE_CHECKING:
    from limelight_collector.services import Services

log = logging.getLogger("limelight.receive")

ANSWER_TIMEOUT_S = 5.0
"""Longest wait for the spool."""

_SERVICES: dict[str, Signal] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}


def serve_grpc(services: Services, host: str, port: int, *, threads: int = 4) -> grpc.Server:
    """A started server on `host:port` (`server.stop(grace_s)` ends it); `StartupRefused` where the port is taken."""
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="otlp-grpc"),
        options=[
            ("grpc.max_receive_message_length", services.settings.body_max_bytes),
            ("grpc.max_concurrent_streams", 100),
            ("grpc.so_reuseport", 0),  # a second collector on the port must fail and not share it
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.max_connection_age_ms", 3_600_000),
            ("grpc.max_connection_age_grace_ms", 30_000),
        ],
    )
    budget = ByteBudget(services.settings.inflight_max_bytes)
    for name, signal in _SERVICES.items():
        handler = grpc.stream_unary_rpc_method_handler(_export(services, signal, budget))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise StartupRefused(f"cannot listen on {address} (address in use?); pass another --grpc-port")
    server.start()
    return server


def _export(
    services: Services, signal: Signal, budget: ByteBudget
) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    def export(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            response = _ingest(services, signal, budget, messages, context)
        except Exception as error:
            if not context.is_active():  # the client left: grpcio's iterator says so with an exception of its own
                metrics.RECEIVER_REQUESTS.labels("grpc", signal, "disconnected").inc()
                raise
            _abort(context, signal, error)
        metrics.RECEIVER_REQUESTS.labels("grpc", signal, "ok").inc()
        return response

    return export


def _ingest(
    services: Services, signal: Signal, budget: ByteBudget, messages: Iterator[bytes], context: grpc.ServicerContext
) -> bytes:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    principal = services.authenticate(metadata.get("authorization"))
    principal.require("ingest")
    payload = next(messages, None)
    if payload is None:
        raise Rejected("bad_request", "the call carries no message")
    with Lease(budget, services.settings.body_max_bytes) as lease:
        lease.grow(len(payload))
        found = accept(services, principal, signal, payload, "protobuf")
    if found.durable is not None:
        try:
            found.durable.result(timeout=ANSWER_TIMEOUT_S)
        except (FutureTimeout, Unavailable) as error:
            metrics.RECEIVER_REFUSED_SPANS.labels("grpc").inc(found.spans)
            if isinstance(error, Unavailable):
                raise
            raise Unavailable("the collector is too busy to answer in time") from None
    metrics.RECEIVER_ACCEPTED_SPANS.labels("grpc").inc(found.spans)
    metrics.RECEIVER_REJECTED_SPANS.labels("grpc").inc(found.rejected)
    return answers.accepted(signal, found.rejected, found.message).SerializeToString()


def _abort(context: grpc.ServicerContext, signal: Signal, error: Exception) -> NoReturn:
    """End the call with the code of `error` and a google.rpc.Status in the trailer grpc clients look for."""
    outcome = answers.outcome(error)
    if outcome == "failed":
        metrics.RECEIVER_FAILED_SPANS.labels("grpc").inc()
        log.error("request failed", exc_info=error)
    metrics.RECEIVER_REQUESTS.labels("grpc", signal, outcome).inc()
    status = answers.rpc_status(error)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(answers.grpc_code(error), status.message)
    raise AssertionError("abort raises")  # for the type checker
