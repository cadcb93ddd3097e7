"""Streams: follow the chunks of a call while the user iterates, and end the call exactly once.

A vendor's stream object stays that object: only its inner iterator is replaced (`follow`, `follow_async`). Plain
generators are wrapped by a generator (`relay`, `relay_async`). The chunks themselves are handed on untouched, except
one that exists only because we asked for usage.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Protocol

from limelight.call import Call, abandon
from limelight.guard import quiet, report


class Chunks(Protocol):
    """What a provider knows of a stream's chunks."""

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries content (text, reasoning, a tool call)."""
        ...

    def fill(self, call: Call) -> None:
        """Write what the chunks said to the call."""
        ...


class Watch:
    """One stream under observation; ends its call on exhaustion, error, close or collection, whichever is first."""

    __slots__ = ("_call", "_chunks", "_started")

    def __init__(self, call: Call, chunks: Chunks) -> None:
        self._call = call
        self._chunks = chunks
        self._started = False
        call.on_stop = chunks.fill

    def chunk(self, chunk: Any) -> None:
        """Note one chunk."""
        call = self._call
        call.touch()
        if self._chunks.add(chunk) and not self._started:
            self._started = True
            call.first_chunk()

    def end(self) -> None:
        """The stream is over, or the user closed it."""
        self._call.stop()

    def fail(self, error: BaseException) -> None:
        """The stream broke."""
        self._call.fail(error)

    def guard_collection(self, holder: Any) -> None:
        """End the call when `holder` is collected without having ended."""
        weakref.finalize(holder, abandon, self._call).atexit = False


class _Followed:
    """What both inner iterators share: the vendor's iterator, its watch, and whether a step is running."""

    def __init__(self, inner: Any, watch: Watch | None, hide_usage: bool) -> None:
        self._inner = inner
        self._watch = watch
        self._hide_usage = hide_usage
        self._stepping = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def closed(self) -> None:
        """The vendor's response was closed: by the user, unless it happens inside a step, which then tells why."""
        if self._watch is not None and not self._stepping:
            self._watch.end()

    def _hides(self, chunk: Any) -> bool:
        """Watch a chunk; whether it is there only because we asked for usage: it has usage and no choices.

        Plain `try` where `quiet` would read better: this runs for every chunk.
        """
        try:
            if self._watch is not None:
                self._watch.chunk(chunk)
        except Exception as error:
            report("reading a chunk", error)
        try:
            return self._hide_usage and not chunk.choices and chunk.usage is not None
        except Exception as error:
            report("looking for the usage chunk", error)
        return False

    def _over(self, error: BaseException | None) -> None:
        with quiet("ending a stream"):
            if self._watch is not None:
                if error is None:
                    self._watch.end()
                else:
                    self._watch.fail(error)


class Steps(_Followed):
    """Stands in for a vendor stream's inner iterator."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            self._stepping = True
            try:
                chunk = next(self._inner)
            except StopIteration:
                self._over(None)
                raise
            except BaseException as error:
                self._over(error)
                raise
            finally:
                self._stepping = False
            if not self._hides(chunk):
                return chunk


class AsyncSteps(_Followed):
    """The same for asynchronous streams."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            self._stepping = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                self._over(None)
                raise
            except BaseException as error:
                self._over(error)
                raise
            finally:
                self._stepping = False
            if not self._hides(chunk):
                return chunk


def follow(stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool) -> None:
    """Watch a vendor stream that iterates its `_iterator`; `response` is what its `close` closes.

    `hide_usage` withholds the one chunk that is there only because we asked for usage.
    """
    watch = Watch(call, chunks)
    steps = Steps(stream._iterator, watch, hide_usage)  # noqa: SLF001  the one place a vendor's stream lets us stand beside it
    watch.guard_collection(steps)
    stream._iterator = steps  # noqa: SLF001
    _after(response, "close", steps.closed)


def follow_async(stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool) -> None:
    """The same for an asynchronous stream, closed by the response's `aclose`."""
    watch = Watch(call, chunks)
    steps = AsyncSteps(stream._iterator, watch, hide_usage)  # noqa: SLF001
    watch.guard_collection(steps)
    stream._iterator = steps  # noqa: SLF001
    _after_async(response, "aclose", steps.closed)


def conceal_usage(stream: Any) -> None:
    """Withhold the usage chunk of a stream that could not be followed."""
    inner = stream._iterator  # noqa: SLF001
    steps = AsyncSteps if hasattr(inner, "__anext__") else Steps
    stream._iterator = steps(inner, None, True)  # noqa: SLF001


def _after(owner: Any, name: str, then: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def closing() -> Any:
        try:
            return original()
        finally:
            with quiet("closing a stream"):
                then()

    setattr(owner, name, closing)


def _after_async(owner: Any, name: str, then: Callable[[], None]) -> None:
    original = getattr(owner, name)

    async def closing() -> Any:
        try:
            return await original()
        finally:
            with quiet("closing a stream"):
                then()

    setattr(owner, name, closing)


def relay(inner: Generator[Any, Any, Any], call: Call, chunks: Chunks) -> Generator[Any, Any, Any]:
    """A generator that yields what `inner` yields and watches it."""
    watch = Watch(call, chunks)
    outer = _relay(inner, watch)
    watch.guard_collection(outer)
    return outer


def _relay(inner: Generator[Any, Any, Any], watch: Watch) -> Generator[Any, Any, Any]:
    try:
        for chunk in inner:
            with quiet("reading a chunk"):
                watch.chunk(chunk)
            yield chunk
    except GeneratorExit:
        with quiet("ending a stream"):
            watch.end()
        raise
    except BaseException as error:
        with quiet("ending a stream"):
            watch.fail(error)
        raise
    else:
        with quiet("ending a stream"):
            watch.end()
    finally:
        inner.close()


def relay_async(inner: AsyncGenerator[Any, Any], call: Call, chunks: Chunks) -> AsyncGenerator[Any, Any]:
    """The same for an asynchronous generator."""
    watch = Watch(call, chunks)
    outer = _relay_async(inner, watch)
    watch.guard_collection(outer)
    return outer


async def _relay_async(inner: AsyncGenerator[Any, Any], watch: Watch) -> AsyncGenerator[Any, Any]:
    try:
        async for chunk in inner:
            with quiet("reading a chunk"):
                watch.chunk(chunk)
            yield chunk
    except GeneratorExit:
        with quiet("ending a stream"):
            watch.end()
        raise
    except BaseException as error:
        with quiet("ending a stream"):
            watch.fail(error)
        raise
    else:
        with quiet("ending a stream"):
            watch.end()
    finally:
        await inner.aclose()
