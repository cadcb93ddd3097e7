"""What the libraries of one generator (Stainless: OpenAI's, Anthropic's) have in common: clients, arguments, answers.

An answer is the library's own object, a stream, or a raw response, which is read already or will be by the user.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from limelight import wire
from limelight.call import Call
from limelight.providers.hosts import Server
from limelight.stream import Chunks, Whole, follow, follow_async, follow_body

_NOT_GIVEN = frozenset({"NotGiven", "Omit"})
_EVENTS = "text/event-stream"


def given(value: Any) -> Any:
    """The value, or None for the library's "not given" marks."""
    return None if type(value).__name__ in _NOT_GIVEN else value


def address(client: Any) -> tuple[str, int]:
    """(host, port) of a client, or of a plain address."""
    if isinstance(client, Server):
        return client.host, 443 if client.port is None else client.port
    url = client.base_url
    port = url.port
    if port is None:
        port = 80 if url.scheme == "http" else 443
    return str(url.host), port


def is_a(client: Any, *names: str) -> bool:
    """Whether a client's class or a base of it has one of the names."""
    return _is_a(type(client), names)


@functools.lru_cache(maxsize=256)
def _is_a(kind: type, names: tuple[str, ...]) -> bool:
    return any(base.__name__ in names for base in kind.__mro__)


def finish(
    call: Call,
    result: Any,
    read: Callable[[Call, Any], None],
    chunks: Callable[[bool], Chunks] | None = None,
    *,
    hide_usage: bool = False,
    by_body: bool = False,
) -> None:
    """Read a result and end the call, or follow what the user is going to read.

    `read` writes a whole answer (object or parsed JSON), `chunks(keep_content)` takes a stream's. `by_body` follows a
    stream by its response's body, for a library that may drop the stream object and read the body by another.
    """
    kind = result.__class__  # not type(): another vendor's proxy around a stream is the stream
    response = getattr(result, "__dict__", {}).get("response" if by_body else "http_response")
    if response is not None and not response.is_closed:
        content_type = str(response.headers.get("content-type", ""))
        takes = Whole(read)
        if chunks is not None and content_type.startswith(_EVENTS):
            takes = chunks(call.records_content)
        follow_body(response, call, takes, content_type)
    elif chunks is not None and hasattr(kind, "__stream__"):
        attend = follow_async if hasattr(kind, "__anext__") else follow
        attend(result, result.response, call, chunks(call.records_content), hide_usage=hide_usage)
    else:
        read(call, result if response is None else wire.parse(response.content))
        call.stop()
