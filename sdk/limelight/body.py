"""The body of an HTTP response under observation, however the user reads it: whole, by lines, raw; now or never.

Its bytes are handed on untouched; beside that they are inflated where need be, and decoded to the JSON they carry.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from limelight import wire
from limelight.call import Call, abandon
from limelight.guard import quiet, report
from limelight.watch import Chunks, Watch

_FOLLOWING, _ENDING, _FAILING = quiet("following a body"), quiet("ending a body"), quiet("recording a broken body")


class Body:
    """One body under observation; ends its call on exhaustion, error, close or collection, whichever is first."""

    __slots__ = ("_chunks", "_decoder", "_inflater", "_watch", "charset", "is_stepping", "on_over")

    def __init__(self, call: Call, chunks: Chunks, content_type: str) -> None:
        self._decoder, self._inflater = wire.decoder(content_type), wire.Inflater()
        self._chunks = chunks
        self._watch = Watch(call, chunks)
        self.is_stepping = False
        """Whether an outer reader is at work, which tells of bytes, errors and the end: inner ones need not."""
        self.charset: str | None = None
        """What text, where the reader gives text, was decoded by; UTF-8 where unknown."""
        self.on_over: Callable[[], None] | None = None
        """Takes the observation away, once it is over."""
        call.on_stop = self._fill

    def read(self, data: bytes | str) -> None:
        """Note some bytes, or the text they were."""
        if isinstance(data, str):
            data = data.encode(self.charset or "utf-8", "replace")
        for value in self._decoder.feed(self._inflater.feed(data)):
            self._watch.chunk(value)

    def _fill(self, call: Call) -> None:
        for value in [*self._decoder.feed(self._inflater.end()), *self._decoder.end()]:
            self._chunks.add(value)
        self._chunks.fill(call)

    def end(self) -> None:
        """The body is over, or the user has closed it."""
        self._watch.end()
        self._over()

    def fail(self, error: BaseException) -> None:
        """The body broke."""
        self._watch.fail(error)
        self._over()

    def closed(self) -> None:
        """The response was closed: by the user, unless it happens inside a step, which then tells why."""
        if not self.is_stepping:
            self.end()

    def _over(self) -> None:
        then, self.on_over = self.on_over, None
        if then is not None:
            then()

    def guard_collection(self, holder: Any) -> None:
        """End the call when `holder` is collected without the body's having ended."""
        self._watch.guard_collection(holder)


def steps(inner: Iterator[Any], body: Body) -> Generator[Any]:
    """What `inner`, a generator of bytes, yields, and watched."""
    body.is_stepping = True
    try:
        for data in inner:
            body.is_stepping = False
            try:
                body.read(data)
            except Exception as error:  # not `quiet`: this runs for every piece
                report("reading a body", error)
            yield data
            body.is_stepping = True
    except GeneratorExit:
        raise
    except BaseException as error:
        with _FAILING:
            body.fail(error)
        raise
    else:
        with _ENDING:
            body.end()
    finally:
        body.is_stepping = False
        close = getattr(inner, "close", None)
        if close is not None:
            close()


async def async_steps(inner: AsyncIterator[Any], body: Body) -> AsyncGenerator[Any]:
    """The same for an asynchronous generator."""
    body.is_stepping = True
    try:
        async for data in inner:
            body.is_stepping = False
            try:
                body.read(data)
            except Exception as error:
                report("reading a body", error)
            yield data
            body.is_stepping = True
    except GeneratorExit:
        raise
    except BaseException as error:
        with _FAILING:
            body.fail(error)
        raise
    else:
        with _ENDING:
            body.end()
    finally:
        body.is_stepping = False
        close = getattr(inner, "aclose", None)
        if close is not None:
            await close()


_READERS = (("iter_bytes", steps), ("iter_raw", steps), ("aiter_bytes", async_steps), ("aiter_raw", async_steps))


def follow_body(response: Any, call: Call, chunks: Chunks, content_type: str) -> None:
    """Watch the body of an unread `httpx` response, however it is read.

    `chunks` gets each JSON value of a stream, or the one value of a plain body. A body read raw is inflated where it is
    gzip or zlib; of any other compression nothing is seen. When the body is over the response gets its methods back.
    """
    body = Body(call, chunks, content_type)
    ours: dict[str, Any] = {}
    for name, steps_of in _READERS:
        ours[name] = _reading(getattr(response, name), steps_of, body)
    ours["close"], ours["aclose"] = _closing(response.close, body), _closing_async(response.aclose, body)
    vars(response).update(ours)
    # weakly: the open call knows the body, and must not keep a response that nobody reads any more
    methods = {name: weakref.ref(method) for name, method in ours.items()}
    body.on_over = functools.partial(_give_back, weakref.ref(response), methods)
    body.guard_collection(response)


def _reading(original: Callable[..., Any], steps_of: Callable[..., Any], body: Body) -> Callable[..., Any]:
    def read(*args: Any, **kwargs: Any) -> Any:
        inner = original(*args, **kwargs)
        with _FOLLOWING:
            if not body.is_stepping:
                return steps_of(inner, body)
        return inner

    return read


def _closing(original: Callable[..., Any], body: Body) -> Callable[..., Any]:
    def close(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            with _ENDING:
                body.closed()

    return close


def _closing_async(original: Callable[..., Any], body: Body) -> Callable[..., Any]:
    async def aclose(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        finally:
            with _ENDING:
                body.closed()

    return aclose


def _give_back(response: weakref.ref[Any], ours: dict[str, weakref.ref[Any]]) -> None:
    """Take our methods from a response, except where somebody has wrapped one since."""
    own = getattr(response(), "__dict__", {})
    for name, method in ours.items():
        if name in own and own[name] is method():
            del own[name]


_bodies: dict[int, Body] = {}
"""By the id of what is read or closed; gone when the body is over or its response is collected."""


def attend(body: Body, call: Call, holder: Any, other: Any) -> None:
    """Let `body_of` find a body by the two objects it is read and closed through, for as long as it lasts.

    The call ends when `holder` is collected. For libraries whose responses must not hold themselves: they give their
    connection back as soon as nobody holds them any more.
    """
    keys = [id(holder), id(other)]
    for key in keys:
        _bodies[key] = body
    body.on_over = functools.partial(_forget, keys, body)
    weakref.finalize(holder, _lost, keys, body, call).atexit = False
    if type(other).__weakrefoffset__:
        weakref.finalize(other, _forget, keys[1:], body).atexit = False


def body_of(owner: Any) -> Body | None:
    """The body under observation that belongs to a response, or to what reads it."""
    return _bodies.get(id(owner))


def _forget(keys: list[int], body: Body) -> None:
    for key in keys:
        if _bodies.get(key) is body:
            del _bodies[key]


def _lost(keys: list[int], body: Body, call: Call) -> None:
    _forget(keys, body)
    abandon(call)
