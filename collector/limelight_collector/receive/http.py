"""OTLP over HTTP: `/v1/traces`, `/v1/logs`, `/v1/metrics` (also below Langfuse's prefix) are answered here, every other
path by the wrapped application.

The order is the defence: path, method, key, media type, declared length, byte budget; only then is the body read, then
inflated under a cap and decoded in threads of its own. Large requests share one thread, so that small ones never wait
for them. Nothing redirects: exporters count a 302 as delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limelight_collector import metrics
from limelight_collector.decode import Encoding, Signal
from limelight_collector.errors import Rejected, Unavailable
from limelight_collector.pipeline import Accepted, accept
from limelight_collector.receive import answers
from limelight_collector.receive.answers import JSON, PROTOBUF, Answer
from limelight_collector.receive.inflate import ENCODINGS, inflate, too_large
from limelight_collector.receive.limits import ByteBudget, Lease
from limelight_collector.shape import check_protobuf

if TYPE_CHECKING:
    from limelight_collector.auth import Principal
    from limelight_collector.services import Services

log = logging.getLogger("limelight.receive")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READ_TIMEOUT_S = 10.0
"""Time a client has for its body before `MIN_RATE_BYTES_S` applies."""
MIN_RATE_BYTES_S = 128 * 1024
"""Slowest average rate at which a body may arrive after that."""
READ_MAX_S = 60.0
"""Longest time a body may take at any rate."""
LARGE_BYTES = 2**20
"""Inflated size from which a request is decoded in the lane of large ones."""
ANSWER_TIMEOUT_S = 5.0
"""Longest time from the whole body to an answer; stock exporters give up at 10 s and send again."""

_LANGFUSE = "/api/public/otel"
"""Where Langfuse's SDK puts its OTLP paths: it needs another host and key, and nothing else."""
_SIGNALS: dict[str, Signal] = {
    f"{root}/v1/{signal}": signal for root in ("", _LANGFUSE) for signal in ("traces", "logs", "metrics")
}
_ENCODINGS: dict[str, Encoding] = {PROTOBUF: "protobuf", JSON: "json"}


class _Disconnected(Exception):
    """The client went away before its body was complete: there is nobody to answer."""


@dataclass(slots=True)
class _Request:
    signal: Signal
    media_type: str
    encoding: str
    principal: Principal


class OtlpApp:
    """An ASGI application around `app`; one per process, because it owns the decoding threads and the byte budget."""

    def __init__(
        self,
        app: App,
        services: Services,
        *,
        threads: int = 2,
        read_timeout_s: float = READ_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._services = services
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="otlp-decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="otlp-large")
        self._read_timeout_s = read_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self.budget = ByteBudget(services.settings.inflight_max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http" or not scope["path"].startswith(("/v1/", f"{_LANGFUSE}/")):
            await self._app(scope, receive, send)
            return
        media_type = _media_type(scope)
        signal = _SIGNALS.get(scope["path"])
        outcome = "ok"
        try:
            answer = await self._ingest(scope, receive, signal, media_type)
        except _Disconnected:
            metrics.RECEIVER_REQUESTS.labels("http", signal or "none", "disconnected").inc()
            return
        except Exception as error:
            outcome = answers.outcome(error)
            if outcome == "failed":
                metrics.RECEIVER_FAILED_SPANS.labels("http").inc()
                log.exception("request failed")
            answer = answers.http_error(error, media_type)
        metrics.RECEIVER_REQUESTS.labels("http", signal or "none", outcome).inc()
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _ingest(self, scope: Scope, receive: Receive, signal: Signal | None, media_type: str) -> Answer:
        if signal is None:
            raise Rejected("not_found", "OTLP is taken at /v1/traces, /v1/logs and /v1/metrics")
        request = await self._admit(scope, signal, media_type)
        lease = Lease(self.budget, self._services.settings.body_max_bytes)
        try:
            body = await self._read(receive, lease)
        except BaseException:
            lease.close()
            raise
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._answer_timeout_s
        # The thread closes the lease: it may still hold the bytes after this coroutine gave up waiting.
        found: Future[Any] | Accepted = self._submit(request, body, lease, large=len(body) > LARGE_BYTES)
        while isinstance(found, Future):
            found = await self._within(asyncio.wrap_future(found), deadline)
        if found.durable is not None:
            try:
                await self._within(asyncio.wrap_future(found.durable), deadline)
            except Unavailable:
                metrics.RECEIVER_REFUSED[signal].labels("http").inc(found.spans)
                raise
        metrics.RECEIVER_ACCEPTED[signal].labels("http").inc(found.spans)
        metrics.RECEIVER_REJECTED[signal].labels("http").inc(found.rejected)
        return answers.http_accepted(signal, found.rejected, found.message, media_type)

    async def _admit(self, scope: Scope, signal: Signal, media_type: str) -> _Request:
        """Every decision that needs only the head of the request."""
        if scope["method"] != "POST":
            raise Rejected("method", f"{scope['path']} takes POST")
        loop = asyncio.get_running_loop()
        authorization = _header(scope, b"authorization")
        asked = asyncio.wrap_future(self._pool.submit(copy_context().run, self._services.authenticate, authorization))
        principal: Principal = await self._within(asked, loop.time() + self._answer_timeout_s)
        principal.require("ingest")
        if media_type not in _ENCODINGS:
            raise Rejected("media_type", f"Content-Type must be {PROTOBUF} or {JSON}")
        encoding = (_header(scope, b"content-encoding") or "identity").strip().lower()
        if encoding != "identity" and encoding not in ENCODINGS:
            raise Rejected("media_type", f"Content-Encoding must be one of identity, {', '.join(sorted(ENCODINGS))}")
        declared = _header(scope, b"content-length") or ""
        length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0
        if length > self._services.settings.body_max_bytes:
            raise too_large(self._services.settings.body_max_bytes)
        self.budget.require(length)
        return _Request(signal, media_type, encoding, principal)

    async def _read(self, receive: Receive, lease: Lease) -> bytes:
        """The body as sent; room for it is taken as it comes, so that a slow client holds no more than it has sent."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        chunks: list[bytes] = []
        try:
            while True:
                patience_s = min(self._read_timeout_s + lease.held / MIN_RATE_BYTES_S, READ_MAX_S)
                async with asyncio.timeout_at(started + patience_s):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                chunk = message.get("body", b"")
                if lease.held + len(chunk) > lease.max_bytes:
                    raise too_large(lease.max_bytes)
                lease.grow(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
        except TimeoutError:
            raise Unavailable("the body arrives too slowly") from None

    def _submit(self, request: _Request, body: bytes, lease: Lease, *, large: bool) -> Future[Any]:
        lane = self._large if large else self._pool
        return lane.submit(copy_context().run, self._decode, request, body, lease, None if large else LARGE_BYTES)

    def _decode(self, request: _Request, body: bytes, lease: Lease, cap: int | None) -> Accepted | Future[Any]:
        """Inflate, validate and queue; what is larger than `cap` inside goes to the other lane: its future."""
        received = lease.held
        try:
            payload = body if request.encoding == "identity" else inflate(body, request.encoding, lease, cap)
            if payload is None:
                lease.shrink(received)
                return self._submit(request, body, lease, large=True)
            encoding = _ENCODINGS[request.media_type]
            if encoding == "protobuf":
                check_protobuf(payload, request.signal)
            gzipped = body if request.encoding == "gzip" else None
            found = accept(self._services, request.principal, request.signal, payload, encoding, gzipped)
        except BaseException:
            lease.close()
            raise
        lease.close()
        return found

    async def _within(self, work: asyncio.Future[Any], deadline: float) -> Any:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(work)  # an abandoned request may still become durable: its retry is known
        except TimeoutError:
            work.add_done_callback(_forget)
            raise Unavailable("the collector is too busy to answer in time") from None


def _forget(work: asyncio.Future[Any]) -> None:
    """Take the result of work nobody waits for, so that asyncio does not report it as lost."""
    if not work.cancelled():
        work.exception()


def _header(scope: Scope, name: bytes) -> str | None:
    """The header's value; several of one name are one list (RFC 9110), which no header here may be."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values) if values else None


def _media_type(scope: Scope) -> str:
    return (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
