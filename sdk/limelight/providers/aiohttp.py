"""aiohttp's client (3.8+): plain calls to model APIs, and the trace headers of all model calls it sends.

Everything goes through `ClientSession._request`. A response is read through its `content`, of whose methods all end in
one; nothing is hung on a response, which releases its connection when dropped.
"""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight.around import Operation, wrap
from limelight.body import Body, attend, body_of
from limelight.call import Call, Recorder
from limelight.guard import quiet
from limelight.propagate import Headers, carrying
from limelight.providers import http_shapes
from limelight.values import field, is_a, word

if TYPE_CHECKING:
    from limelight.patch import Patches

_DEFAULT_PORTS = {"http": 80, "https": 443}
_READING, _ENDING, _FAILING = quiet("reading a body"), quiet("ending a body"), quiet("recording a broken body")


def _headers(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> tuple[Headers, str]:
    """Of a `ClientRequest`, which the session makes for each attempt."""
    request = args[0]
    return request.headers, str(request.url.host or "")


def _start(_recorder: Recorder, session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    method = args[0] if args else kwargs.get("method")
    url = args[1] if len(args) > 1 else kwargs.get("str_or_url")
    if (word(method) or "").upper() != "POST":
        return None
    if type(url).__module__.partition(".")[0] != "yarl" and type(url) is not str:
        return None
    base = getattr(session, "_base_url", None)
    try:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(str(base or ""), str(url)))
        port = parts.port
    except ValueError:  # it is no address, as the library is about to find out
        return None
    port = port or _DEFAULT_PORTS.get(parts.scheme)
    sent = http_shapes.Sent("POST", parts.hostname or "", port, parts.path, functools.partial(_body, kwargs))
    return http_shapes.start("aiohttp", sent)


def _body(kwargs: dict[str, Any]) -> Any:
    """What is to be sent, where it is at hand; a generator, a file or a form is the library's to read."""
    value = kwargs.get("json")
    data = kwargs.get("data") if value is None else value
    return data if is_a(data, (bytes, bytearray, str, dict)) else field(data, "_value")


def _finish(call: Call, response: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    chunks, content_type = http_shapes.takes(
        call, response.status, response.reason, str(response.headers.get("Content-Type", ""))
    )
    content = response.content
    attend(Body(call, chunks, content_type), call, response, content)
    _end_at_eof(content)


def _end_at_eof(content: Any) -> None:
    body = body_of(content)
    if body is not None and content.at_eof():
        body.end()


def _piece(original: Callable[..., Any]) -> Callable[..., Any]:
    """`StreamReader._read_nowait_chunk`, under everything that reads."""

    @functools.wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        with _READING:
            body = body_of(args[0])
            if body is not None:
                body.read(data)
                _end_at_eof(args[0])
        return data

    return read


def _eof(original: Callable[..., Any]) -> Callable[..., Any]:
    """`StreamReader.feed_eof`: the body is over if all of it has been read."""

    @functools.wraps(original)
    def feed_eof(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        with _ENDING:
            _end_at_eof(args[0])
        return result

    return feed_eof


def _broken(original: Callable[..., Any]) -> Callable[..., Any]:
    """`StreamReader.set_exception`: the connection broke, and whoever reads will be told so."""

    @functools.wraps(original)
    def set_exception(*args: Any, **kwargs: Any) -> Any:
        with _FAILING:
            body = body_of(args[0])
            if body is not None:
                body.fail(args[1])
        return original(*args, **kwargs)

    return set_exception


def _wait(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`StreamReader._wait`, in which a reader is cancelled or runs out of time."""

    async def waiting(body: Body, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            with _FAILING:
                body.fail(error)
            raise

    @functools.wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        body = None
        with _READING:
            body = body_of(args[0])
        return original(*args, **kwargs) if body is None else waiting(body, args, kwargs)

    return wait


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    """`ClientResponse.close` and `release`, which tell the reader of an error: the end is noted before."""

    @functools.wraps(original)
    def close(*args: Any, **kwargs: Any) -> Any:
        with _ENDING:
            body = body_of(args[0])
            if body is not None:
                body.end()
        return original(*args, **kwargs)

    return close


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap the session's one request method, and what sends, reads and closes."""
    patches.replace(
        module.ClientSession, "_request", lambda original: wrap(original, Operation("aiohttp", _start, _finish))
    )
    patches.replace(module.ClientRequest, "send", lambda original: carrying(original, _headers))
    for name, make in (
        ("_read_nowait_chunk", _piece),
        ("feed_eof", _eof),
        ("set_exception", _broken),
        ("_wait", _wait),
    ):
        patches.replace(module.StreamReader, name, make)
    for name in ("close", "release"):
        patches.replace(module.ClientResponse, name, _close)
