"""HTTP connections that cost little however slow, silent or talkative the client is.

uvicorn closes idle connections and bounds nothing else: neither the time nor the size of a request's head, nor the time
a client may take to read its answer, nor how many connections are open. This is its protocol class with those bounds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger("limelight.receive")

MAX_CONNECTIONS = 1000
"""Open connections; one more is answered with 503 and closed."""
HEAD_TIMEOUT_S = 20.0
"""Longest time for a request's head, from the connection or from the first byte after an answer."""
HEAD_MAX_BYTES = 64 * 1024
"""Largest head: request line and headers."""
IDLE_TIMEOUT_S = 65
"""Longest silence between two requests; longer than the pause between two exports of any common SDK."""
WRITE_TIMEOUT_S = 30.0
"""Longest time a client may leave an answer unread that does not fit the socket's buffers."""
_FRAMING = 8
"""Bytes on the wire for each byte of a body in the worst honest case: chunks of one byte."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection, closed where the client is over one of the bounds above."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_head = True
        self._answering = False
        self._wire_bytes = 0
        self._body_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            log.warning("too many connections", extra={"fields": {"open": len(self.connections)}})
            self._refuse(503, 14, "too many connections are open; try again", b"retry-after: 1\r\n")
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._cancel(self._head_timer)
        self._cancel(self._write_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, if it is no more than it may be."""
        if self.transport.is_closing():  # what was refused may go on talking until it notices
            return
        self._wire_bytes += len(data)
        if self._head_timer is None and not self._answering:
            self._watch_head()
        super().data_received(data)
        if self.transport.is_closing():
            return
        allowed = HEAD_MAX_BYTES + len(data) + _FRAMING * self._body_bytes
        if self._wire_bytes > (HEAD_MAX_BYTES if self._in_head else allowed):
            self._refuse(431, 3, f"a request's head may have {HEAD_MAX_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request starts."""
        self._in_head = True
        self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._in_head = False
        self._answering = True
        self._wire_bytes = 0
        self._cancel(self._head_timer)
        self._head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is complete; what follows is the next one's head."""
        self._in_head = True
        self._wire_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; if its body is still coming, that may not take for ever."""
        self._answering = bool(self.pipeline)
        super().on_response_complete()
        if not self.transport.is_closing() and not self._in_head:
            self._watch_head()

    def pause_writing(self) -> None:
        """The client does not read; give it a while."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._cancel(self._write_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in OTLP's form of an error."""
        self._refuse(400, 3, msg)

    def _watch_head(self) -> None:
        self._cancel(self._head_timer)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse(self, status: int, code: int, message: str, headers: bytes = b"") -> None:
        body = json.dumps({"code": code, "message": message}).encode()
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n".encode()
        self.transport.write(head + headers + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _cancel(self, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
