"""Streams: follow the chunks of a call while the user iterates, and end the call exactly once.

A vendor's stream object stays that object: only its inner iterator is replaced (`follow`, `follow_async`), or the byte
iterators of the HTTP response it will read (`follow_body`). Plain generators are wrapped by a generator (`relay`,
`relay_async`). Chunks are handed on untouched, except one that exists only because we asked for usage.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Protocol

from limelight import wire
from limelight.call import HTTP, Call, abandon
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
        self.is_stepping = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def closed(self) -> None:
        """The vendor's response was closed: by the user, unless it happens inside a step, which then tells why."""
        if self._watch is not None and not self.is_stepping:
            self._watch.end()

    def _hides(self, chunk: Any) -> bool:
        """Watch a chunk; whether it is there only because we asked for usage: it has usage and no choices.

        Plain `try`, here and in the steps, where `quiet` would read better: this runs for every chunk.
        """
        try:
            if self._watch is not None:
                self._watch.chunk(chunk)
        except Exception as error:
            report("reading a chunk", error)
        return self._hide_usage and not chunk.choices and chunk.usage is not None

    def _over(self, error: BaseException | None) -> None:
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
            self.is_stepping = True
            try:
                chunk = next(self._inner)
            except StopIteration:
                with quiet("ending a stream"):
                    self._over(None)
                raise
            except BaseException as error:
                with quiet("ending a stream"):
                    self._over(error)
                raise
            finally:
                self.is_stepping = False
            try:
                if self._hides(chunk):
                    continue
            except Exception as error:
                report("looking for the usage chunk", error)
            return chunk


class AsyncSteps(_Followed):
    """The same for asynchronous streams."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            self.is_stepping = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                with quiet("ending a stream"):
                    self._over(None)
                raise
            except BaseException as error:
                with quiet("ending a stream"):
                    self._over(error)
                raise
            finally:
                self.is_stepping = False
            try:
                if self._hides(chunk):
                    continue
            except Exception as error:
                report("looking for the usage chunk", error)
            return chunk


def follow(
    stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool = False, attribute: str = "_iterator"
) -> None:
    """Watch a vendor stream that iterates its `attribute`; `response` is what its `close` closes.

    `hide_usage` withholds the one chunk that is there only because we asked for usage.
    """
    _follow(Steps, "close", stream, response, Watch(call, chunks), hide_usage, attribute)


def follow_async(
    stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool = False, attribute: str = "_iterator"
) -> None:
    """The same for an asynchronous stream, closed by the response's `aclose`."""
    _follow(AsyncSteps, "aclose", stream, response, Watch(call, chunks), hide_usage, attribute)


def _follow(
    steps_of: type[_Followed], close: str, stream: Any, response: Any, watch: Watch, hide_usage: bool, attribute: str
) -> None:
    steps = steps_of(getattr(stream, attribute), watch, hide_usage)
    watch.guard_collection(steps)
    setattr(stream, attribute, steps)
    after(response, close, steps.closed)


def conceal_usage(stream: Any) -> None:
    """Withhold the usage chunk of a stream that could not be followed."""
    inner = stream._iterator  # noqa: SLF001
    steps = AsyncSteps if hasattr(inner, "__anext__") else Steps
    stream._iterator = steps(inner, None, True)  # noqa: SLF001


def follow_body(response: Any, call: Call, chunks: Chunks, content_type: str) -> None:
    """Watch the body of an unread `httpx` response, however it is read: whole, by lines, as events.

    `chunks` gets each JSON event of a stream, or the one JSON value of a plain body. What is read raw, still
    compressed, is not seen; the call then ends when the response is closed.
    """
    watch = Watch(call, Decoded(chunks, content_type))
    steps: list[_Followed] = []

    def close() -> None:
        if not any(step.is_stepping for step in steps):
            watch.end()

    for name, steps_of in (("iter_bytes", Steps), ("aiter_bytes", AsyncSteps)):
        original = getattr(response, name)

        def watched(*args: Any, _original: Any = original, _steps_of: Any = steps_of, **kwargs: Any) -> Any:
            body = _original(*args, **kwargs)
            with quiet("following a body"):
                step = _steps_of(body, watch, False)
                steps.append(step)
                return step
            return body

        setattr(response, name, watched)
    watch.guard_collection(response)
    after(response, "close", close)
    after(response, "aclose", close)


class Decoded:
    """Chunks of bytes, as `Chunks` of the JSON values they carry."""

    def __init__(self, chunks: Chunks, content_type: str) -> None:
        self._chunks = chunks
        self._decoder = wire.decoder(content_type)

    def add(self, chunk: Any) -> bool:
        """Take some bytes; True where a value they complete carries content."""
        carries = [self._chunks.add(value) for value in self._decoder.feed(chunk)]
        return any(carries)

    def fill(self, call: Call) -> None:
        """Take what is left undecoded, then write."""
        for value in self._decoder.end():
            self._chunks.add(value)
        self._chunks.fill(call)


class Whole:
    """`Chunks` of an answer that is no stream: the last value is the answer, `read(call, answer)` writes it."""

    def __init__(self, read: Callable[[Call, Any], None]) -> None:
        self._read = read
        self._answer: Any = None

    def add(self, chunk: Any) -> bool:
        """Take the answer; it is no first chunk."""
        self._answer = chunk
        return False

    def fill(self, call: Call) -> None:
        """Write the answer, if it came."""
        if self._answer is not None:
            self._read(call, self._answer)


def after(owner: Any, name: str, then: Callable[[], None]) -> None:
    """Run `then` after each call of `owner.name`, a method, synchronous or not; nothing where it has none."""
    original = getattr(owner, name, None)
    if original is None:
        return

    def closing(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            with quiet("closing a stream"):
                then()

    async def closing_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        finally:
            with quiet("closing a stream"):
                then()

    setattr(owner, name, closing_async if inspect.iscoroutinefunction(original) else closing)


def relay(inner: Iterator[Any], call: Call, chunks: Chunks) -> Generator[Any, Any, Any]:
    """A generator that yields what `inner` yields and watches it.

    The call is current during the first step, where a lazy `inner` sends its request.
    """
    watch = Watch(call, chunks)
    outer = _relay(inner, watch, call)
    watch.guard_collection(outer)
    return outer


def _relay(inner: Iterator[Any], watch: Watch, call: Call) -> Generator[Any, Any, Any]:
    first = True
    try:
        while True:
            with quiet("entering a stream"):
                if first:
                    call.enter(HTTP)
            try:
                chunk = next(inner)
            except StopIteration:
                break
            finally:
                with quiet("leaving a stream"):
                    if first:
                        call.leave()
                first = False
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
        close = getattr(inner, "close", None)
        if close is not None:
            close()


def relay_async(inner: AsyncIterator[Any], call: Call, chunks: Chunks) -> AsyncGenerator[Any, Any]:
    """The same for an asynchronous generator."""
    watch = Watch(call, chunks)
    outer = _relay_async(inner, watch, call)
    watch.guard_collection(outer)
    return outer


async def _relay_async(inner: AsyncIterator[Any], watch: Watch, call: Call) -> AsyncGenerator[Any, Any]:
    first = True
    try:
        while True:
            with quiet("entering a stream"):
                if first:
                    call.enter(HTTP)
            try:
                chunk = await inner.__anext__()
            except StopAsyncIteration:
                break
            finally:
                with quiet("leaving a stream"):
                    if first:
                        call.leave()
                first = False
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
        close = getattr(inner, "aclose", None)
        if close is not None:
            await close()
