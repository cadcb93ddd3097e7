"""requests (2.25+): plain calls to model APIs, and the trace headers of all model calls it sends.

Everything goes through `Session.send`; redirects come back to it inside a call under way. Responses are read through
methods of their class and of urllib3's: nothing is hung on a response, which closes its connection when dropped.
"""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Callable, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight.around import Operation, wrap
from limelight.body import Body, attend, body_of, steps
from limelight.call import Call, Recorder
from limelight.guard import quiet
from limelight.propagate import Headers, carrying, redirected
from limelight.providers import http_shapes

if TYPE_CHECKING:
    from limelight.patch import Patches

_DEFAULT_PORTS = {"http": 80, "https": 443}
_READING, _ENDING, _FAILING = quiet("reading a body"), quiet("ending a body"), quiet("recording a broken body")


def _request(args: tuple[Any, ...], kwargs: dict[str, Any], position: int) -> Any:
    return args[position] if len(args) > position else kwargs.get("request")


def _headers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Headers, str] | None:
    request = _request(args, kwargs, 1)
    if not hasattr(request, "_cookies"):  # no PreparedRequest: the headers are the user's, and it will be refused
        return None
    return request.headers, urllib.parse.urlsplit(request.url).hostname or ""


def _start(_recorder: Recorder, _session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    request = _request(args, kwargs, 0)
    if request.method != "POST":
        return None
    url = urllib.parse.urlsplit(request.url)
    port = url.port or _DEFAULT_PORTS.get(url.scheme)
    sent = http_shapes.Sent("POST", url.hostname or "", port, url.path, lambda: request.body)
    return http_shapes.start("requests", sent)


def _finish(call: Call, response: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    chunks, content_type = http_shapes.takes(
        call, response.status_code, response.reason, str(response.headers.get("content-type", ""))
    )
    content: Any = getattr(response, "_content", None)
    if type(content) is bytes:
        http_shapes.read_whole(call, chunks, content_type, content)
        return
    body = Body(call, chunks, content_type)
    if response.raw is None:
        body.end()
    else:  # which may be all that the user keeps
        attend(body, call, response.raw, response)


def _iter_content(original: Callable[..., Any]) -> Callable[..., Any]:
    """Also what `content`, `text`, `iter_lines` and iteration stand on."""

    @functools.wraps(original)
    def iter_content(*args: Any, **kwargs: Any) -> Any:
        inner = original(*args, **kwargs)
        with _READING:
            body = body_of(args[0])
            if body is not None:
                body.charset = args[0].encoding
                return steps(inner, body)
        return inner

    return iter_content


def _read(original: Callable[..., Any]) -> Callable[..., Any]:
    """urllib3's `read` and `read1`, on `response.raw`."""

    @functools.wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        body = None
        with _READING:
            body = _outermost(args)
        if body is None:
            return original(*args, **kwargs)
        try:
            data = original(*args, **kwargs)
        except BaseException as error:
            with _FAILING:
                body.fail(error)
            raise
        with _READING:
            _take(body, args[0], data)
        return data

    return read


def _take(body: Body, raw: Any, data: Any) -> None:
    if data:
        body.read(data)
    if raw.closed:  # the last byte has come
        body.end()


def _read_chunked(original: Callable[..., Any]) -> Callable[..., Any]:
    """urllib3's `read_chunked`, under `stream` and iteration of `response.raw`."""

    @functools.wraps(original)
    def read_chunked(*args: Any, **kwargs: Any) -> Any:
        inner: Generator[Any] = original(*args, **kwargs)
        with _READING:
            body = _outermost(args)
            if body is not None:
                return steps(inner, body)
        return inner

    return read_chunked


def _outermost(args: tuple[Any, ...]) -> Body | None:
    """The body of `response.raw`, unless `iter_content` reads it."""
    body = body_of(args[0])
    return None if body is None or body.is_stepping else body


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def close(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            with _ENDING:
                body = body_of(args[0])
                if body is not None:
                    body.closed()

    return close


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap `Session.send`, and what reads and closes a response."""
    from urllib3.response import HTTPResponse

    operation = Operation("requests", _start, _finish)
    patches.replace(module.Session, "send", lambda original: wrap(carrying(original, _headers, redirected), operation))
    patches.replace(module.Response, "iter_content", _iter_content)
    patches.replace(module.Response, "close", _close)
    patches.replace(HTTPResponse, "read", _read)
    patches.replace(HTTPResponse, "read1", _read)
    patches.replace(HTTPResponse, "read_chunked", _read_chunked)
    patches.replace(HTTPResponse, "close", _close)
