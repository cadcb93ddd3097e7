"""OTLP over HTTP: `/v1/traces`, `/v1/logs`, `/v1/metrics` answered here, every other path by the wrapped application.

The order is the defence: path, method, key, media type, declared length, byte budget; only then is the body read, then
inflated under a cap and decoded in threads of its own. Nothing redirects: exporters count a 302 as delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limelight_collector import metrics
from limelight_collector.decode import Encoding, Signal
from limelight_collector.errors import Rejected, Unavailable
from limelight_collector.pipeline import Accepted, accept
from limelight_collector.receive import answers
from limelight_collector.receive.answers import JSON, PROTOBUF, Answer
from limelight_collector.receive.limits import ByteBudget, Lease, inflate, too_large

if TYPE_CHECKING:
    from limelight_collector.auth import Principal
    from limelight_collector.services import Services

log = logging.getLogger("limelight.receive")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READ_TIMEOUT_S = 30.0
"""Longest time a client may take to send its body."""
ANSWER_TIMEOUT_S = 5.0
"""Longest time from the whole body to an answer; stock exporters give up at 10 s and send again."""

_SIGNALS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_ENCODINGS: dict[str, Encoding] = {PROTOBUF: "protobuf", JSON: "json"}


class _Disconnected(Exception):
    """The client went away before its body was complete: there is nobody to answer."""


@dataclass(slots=True)
class _Request:
    signal: Signal
    media_type: str
    gzipped: bool
    principal: Principal
    length: int


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
        self._read_timeout_s = read_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self.budget = ByteBudget(services.settings.inflight_max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
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
            body = await self._read(receive, request, lease)
        except BaseException:
            lease.close()
            raise
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._answer_timeout_s
        # The thread closes the lease: it may still hold the bytes after this coroutine gave up waiting.
        work = asyncio.wrap_future(self._pool.submit(self._decode, request, body, lease))
        found = await self._within(work, deadline)
        if found.durable is not None:
            try:
                await self._within(asyncio.wrap_future(found.durable), deadline)
            except Unavailable:
                metrics.RECEIVER_REFUSED_SPANS.labels("http").inc(found.spans)
                raise
        metrics.RECEIVER_ACCEPTED_SPANS.labels("http").inc(found.spans)
        metrics.RECEIVER_REJECTED_SPANS.labels("http").inc(found.rejected)
        return answers.http_accepted(signal, found.rejected, found.message, media_type)

    async def _admit(self, scope: Scope, signal: Signal, media_type: str) -> _Request:
        """Every decision that needs only the head of the request."""
        if scope["method"] != "POST":
            raise Rejected("method", f"{scope['path']} takes POST")
        loop = asyncio.get_running_loop()
        authorization = _header(scope, b"authorization")
        asked = asyncio.wrap_future(self._pool.submit(self._services.authenticate, authorization))
        principal: Principal = await self._within(asked, loop.time() + self._answer_timeout_s)
        principal.require("ingest")
        if media_type not in _ENCODINGS:
            raise Rejected("media_type", f"Content-Type must be {PROTOBUF} or {JSON}")
        encoding = (_header(scope, b"content-encoding") or "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise Rejected("media_type", "Content-Encoding must be gzip or identity")
        declared = _header(scope, b"content-length") or ""
        length = int(declared) if declared.isascii() and declared.isdigit() else 0
        if length > self._services.settings.body_max_bytes:
            raise too_large(self._services.settings.body_max_bytes)
        return _Request(signal, media_type, encoding == "gzip", principal, length)

    async def _read(self, receive: Receive, request: _Request, lease: Lease) -> bytes:
        """The body as sent; its declared length is reserved first, what exceeds it as it comes."""
        lease.grow(request.length)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._read_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Disconnected
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > lease.max_bytes:
                        raise too_large(lease.max_bytes)
                    if size > lease.held:
                        lease.grow(size - lease.held)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise Unavailable(f"the body did not arrive within {self._read_timeout_s:g} s") from None

    def _decode(self, request: _Request, body: bytes, lease: Lease) -> Accepted:
        with lease:
            payload = inflate(body, lease) if request.gzipped else body
            return accept(self._services, request.principal, request.signal, payload, _ENCODINGS[request.media_type])

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
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _media_type(scope: Scope) -> str:
    return (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
