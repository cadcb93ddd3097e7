"""httpx (0.23+) and its fork httpx2: plain calls to model APIs, and the trace headers of all model calls they send.

Everything goes through the clients' `send`: module functions, `request`, `stream`, and other libraries' clients.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight.around import Operation, wrap
from limelight.call import Call, Recorder
from limelight.propagate import Headers, carrying, redirected
from limelight.providers import http_shapes
from limelight.stream import follow_body

if TYPE_CHECKING:
    from limelight.patch import Patches

_DEFAULT_PORTS = {"http": 80, "https": 443}


def _request(args: tuple[Any, ...], kwargs: dict[str, Any], position: int) -> Any:
    return args[position] if len(args) > position else kwargs.get("request")


def _headers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Headers, str]:
    request = _request(args, kwargs, 1)
    return request.headers, str(request.url.host)


def _start(_recorder: Recorder, _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    request = _request(args, kwargs, 0)
    url = request.url
    if request.method != "POST":
        return None
    port = url.port or _DEFAULT_PORTS.get(url.scheme)
    sent = http_shapes.Sent("POST", str(url.host), port, str(url.path), functools.partial(_body, request))
    return http_shapes.start("httpx", sent)


def _body(request: Any) -> Any:
    """The bytes of a request that are at hand; a generator, a file or a form is the library's to read."""
    return getattr(request, "_content", None)


def _finish(call: Call, response: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    chunks, content_type = http_shapes.takes(
        call, response.status_code, response.reason_phrase, str(response.headers.get("content-type", ""))
    )
    content: Any = getattr(response, "_content", None)
    if type(content) is bytes:
        http_shapes.read_whole(call, chunks, content_type, content)
    elif response.is_closed:
        call.stop()
    else:
        follow_body(response, call, chunks, content_type)


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap `send` of both clients."""
    operation = Operation("httpx", _start, _finish)
    for client in (module.Client, module.AsyncClient):
        patches.replace(client, "send", lambda original: wrap(carrying(original, _headers, redirected), operation))
