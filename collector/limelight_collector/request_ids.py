"""Request ids: what ties an answer to the log lines written while it was made.

A client's own `x-request-id` is taken where it is well-formed, so that one id goes through a whole system; else one is
made. It is in the answer's header, in every log line and in the body of an error.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

HEADER = "x-request-id"
"""The header in HTTP and the metadata key in gRPC."""
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request at hand; "" outside of one."""
_WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def new_request_id() -> str:
    """32 random hex digits."""
    return uuid.uuid4().hex


def is_well_formed(given: str | None) -> bool:
    """Whether a client's id may go into logs and headers: 1 to 128 of letters, digits and `. _ : -`."""
    return given is not None and _WELL_FORMED.fullmatch(given) is not None


class RequestIds:
    """An ASGI application around `app` that gives each HTTP request its id; `new_id` makes one."""

    def __init__(
        self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]], *, new_id: Callable[[], str] = new_request_id
    ) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == HEADER.encode()]
        request_id = given[0] if len(given) == 1 and is_well_formed(given[0]) else self._new_id()
        token = REQUEST_ID.set(request_id)

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER.encode(), request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            REQUEST_ID.reset(token)
