"""OTLP over gRPC: the trace, log and metric services on grpcio's threads, with the decisions of the HTTP receiver.

The handlers are declared stream-unary, which is the same on the wire: so the key is checked before a message is taken.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
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
from limelight_collector.request_ids import HEADER, REQUEST_ID, is_well_formed, new_request_id
from limelight_collector.shape import check_protobuf

if TYPE_CHECKING:
    from limelight_collector.services import Services

log = logging.getLogger("limelight.receive")

ANSWER_TIMEOUT_S = 5.0
"""Longest wait for the spool."""
READ_TIMEOUT_S = 20.0
"""Longest time a client may take to send its message: it holds a thread meanwhile."""
LARGE_BYTES = 2**20
"""Size from which requests are decoded one at a time, so that small ones never wait for them."""

_SERVICES: dict[str, Signal] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}


def serve_grpc(
    services: Services, host: str, port: int, *, threads: int = 16, new_id: Callable[[], str] = new_request_id
) -> grpc.Server:
    """A started server on `host:port` (`server.stop(grace_s)` ends it); `StartupRefused` where the port is taken.

    `new_id` makes the id of a request that brings none.
    """
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
    receiver = _Receiver(services, threads, new_id)
    for name, signal in _SERVICES.items():
        handler = grpc.stream_unary_rpc_method_handler(receiver.export(signal))
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


class _Receiver:
    """The handlers, with what they share: the byte budget, the lane of large requests, the watch over slow clients."""

    def __init__(self, services: Services, threads: int, new_id: Callable[[], str]) -> None:
        self._services = services
        self._new_id = new_id
        self._budget = ByteBudget(services.settings.inflight_max_bytes)
        self._large = threading.Lock()
        self._large_waiting = threading.BoundedSemaphore(max(1, threads // 4))  # the other threads stay for small ones
        self._slow = SlowCalls()

    def export(self, signal: Signal) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        """The handler of one signal's Export."""

        def export(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            given = [value for key, value in context.invocation_metadata() or () if key == HEADER]
            taken = given[0] if len(given) == 1 and isinstance(given[0], str) and is_well_formed(given[0]) else ""
            token = REQUEST_ID.set(taken or self._new_id())
            try:
                return handled(messages, context)
            finally:
                REQUEST_ID.reset(token)  # the thread serves others afterwards

        def handled(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            context.set_trailing_metadata(((HEADER, REQUEST_ID.get()),))
            try:
                response = self._ingest(signal, messages, context)
            except Exception as error:
                if not context.is_active():  # the client left: grpcio's iterator says so with an exception of its own
                    metrics.RECEIVER_REQUESTS.labels("grpc", signal, "disconnected").inc()
                    raise
                _abort(context, signal, error)
            metrics.RECEIVER_REQUESTS.labels("grpc", signal, "ok").inc()
            return response

        return export

    def _ingest(self, signal: Signal, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        principal = self._services.authenticate(metadata.get("authorization"))
        principal.require("ingest")
        with self._slow.watched(context):
            payload = next(messages, None)
        if payload is None:
            raise Rejected("bad_request", "the call carries no message")
        with Lease(self._budget, self._services.settings.body_max_bytes) as lease:
            lease.grow(len(payload))
            with self._lane(len(payload)):
                check_protobuf(payload, signal)
                found = accept(self._services, principal, signal, payload, "protobuf")
        if found.durable is not None:
            try:
                found.durable.result(timeout=ANSWER_TIMEOUT_S)
            except (FutureTimeout, Unavailable) as error:
                metrics.RECEIVER_REFUSED[signal].labels("grpc").inc(found.spans)
                if isinstance(error, Unavailable):
                    raise
                raise _too_busy() from None
        metrics.RECEIVER_ACCEPTED[signal].labels("grpc").inc(found.spans)
        metrics.RECEIVER_REJECTED[signal].labels("grpc").inc(found.rejected)
        return answers.accepted(signal, found.rejected, found.message).SerializeToString()

    @contextlib.contextmanager
    def _lane(self, size: int) -> Generator[None]:
        """Leave to decode `size` bytes; `Unavailable` where too many large requests are waiting for theirs."""
        if size <= LARGE_BYTES:
            yield
            return
        if not self._large_waiting.acquire(blocking=False):
            raise _too_busy()
        try:
            if not self._large.acquire(timeout=ANSWER_TIMEOUT_S):
                raise _too_busy()
            try:
                yield
            finally:
                self._large.release()
        finally:
            self._large_waiting.release()


class SlowCalls:
    """Cancels calls whose message does not arrive in time. One thread, woken once a second while calls are watched."""

    def __init__(self, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._deadlines: dict[grpc.ServicerContext, float] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="otlp-grpc-slow", daemon=True).start()

    @contextlib.contextmanager
    def watched(self, context: grpc.ServicerContext) -> Generator[None]:
        """Within it, `context` is cancelled once the timeout has passed."""
        with self._changed:
            self._deadlines[context] = time.monotonic() + self._timeout_s
            if len(self._deadlines) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._deadlines.pop(context, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._deadlines))
                now = time.monotonic()
                late = [context for context, deadline in self._deadlines.items() if deadline <= now]
                for context in late:
                    del self._deadlines[context]
            for context in late:
                context.cancel()
            time.sleep(min(1.0, self._timeout_s))


def _too_busy() -> Unavailable:
    return Unavailable("the collector is too busy to answer in time")


def _abort(context: grpc.ServicerContext, signal: Signal, error: Exception) -> NoReturn:
    """End the call with the code of `error` and a google.rpc.Status in the trailer grpc clients look for."""
    outcome = answers.outcome(error)
    if outcome == "failed":
        metrics.RECEIVER_FAILED_SPANS.labels("grpc").inc()
        log.error("request failed", exc_info=error)
    metrics.RECEIVER_REQUESTS.labels("grpc", signal, outcome).inc()
    status = answers.rpc_status(error)
    context.set_trailing_metadata(((HEADER, REQUEST_ID.get()), ("grpc-status-details-bin", status.SerializeToString())))
    context.abort(answers.grpc_code(error), status.message)
    raise AssertionError("abort raises")  # for the type checker
