"""A bound on the bodies of every path that is not OTLP: frameworks read a body before they ask who sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BYTES = 2**20
"""Largest body of an API call; rules, prices and reviews are far smaller."""
READ_TIMEOUT_S = 20.0
"""Longest time a body may take."""


class SmallBodies:
    """An ASGI application around `app` whose requests have 413 or 408 raised into them where a body is over a bound."""

    def __init__(self, app: App, *, max_bytes: int = MAX_BYTES, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._timeout_s

        async def bounded() -> Message:
            nonlocal size, complete
            if complete:  # from here on it tells of the disconnect, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {self._timeout_s:g} s") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._max_bytes:
                raise HTTPException(413, f"the body is larger than {self._max_bytes} bytes")
            return message

        await self._app(scope, bounded, send)
