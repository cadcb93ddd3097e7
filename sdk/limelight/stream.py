"""Streams: follow the chunks of a call while the user iterates, and end the call exactly once.

A vendor's stream object stays that object: only its inner iterator is replaced (`follow`, `follow_async`), or the byte
iterators of the HTTP response it will read (`follow_body`). Plain generators are wrapped by a generator (`relay`,
`relay_async`). Chunks are handed on untouched, except one that exists only because we asked for usage.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from limelight.body import follow_body
from limelight.call import HTTP, Call
from limelight.guard import quiet, report
from limelight.watch import Chunks, Watch, Whole, after

__all__ = ["Chunks", "Steps", "Whole", "conceal_usage", "follow", "follow_async", "follow_body", "relay", "relay_async"]


def is_usage_alone(chunk: Any) -> bool:
    """Whether a chunk has usage and no choices."""
    return not getattr(chunk, "choices", True) and getattr(chunk, "usage", None) is not None


class _Followed:
    """What both inner iterators share: the vendor's iterator, its watch, and whether a step is running."""

    def __init__(self, inner: Any, watch: Watch, hide_usage: bool) -> None:
        self._inner = inner
        self._watch = watch
        self._note = watch.chunk
        self._hide_usage = hide_usage
        self.is_stepping = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def closed(self) -> None:
        """The vendor's response was closed: by the user, unless it happens inside a step, which then tells why."""
        if not self.is_stepping:
            self._watch.end()

    def _hides(self, chunk: Any) -> bool:
        """Whether a chunk is there only because we asked for usage."""
        return is_usage_alone(chunk) and not self._watch.keeps_usage

    def _over(self, error: BaseException | None) -> None:
        if error is None:
            self._watch.end()
        else:
            self._watch.fail(error)


class Steps(_Followed):
    """Stands in for a vendor stream's inner iterator.

    Plain `try` in the steps, where `quiet` would read better: they run for every chunk.
    """

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
                self._note(chunk)
            except Exception as error:
                report("reading a chunk", error)
            if self._hide_usage:
                try:
                    if self._hides(chunk):
                        continue
                except Exception as error:
                    report("looking for the usage chunk", error)
                    if not getattr(chunk, "choices", True):
                        continue
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
                self._note(chunk)
            except Exception as error:
                report("reading a chunk", error)
            if self._hide_usage:
                try:
                    if self._hides(chunk):
                        continue
                except Exception as error:
                    report("looking for the usage chunk", error)
                    if not getattr(chunk, "choices", True):
                        continue
            return chunk


def follow(
    stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool = False, attribute: str = "_iterator"
) -> None:
    """Watch a vendor stream that iterates its `attribute`; `response` is what its `close` closes.

    `hide_usage` withholds the one chunk that is there only because we asked for usage.
    """
    watch = Watch(call, chunks)
    steps: Any = watch.steps(getattr(stream, attribute), is_usage_alone if hide_usage else None)
    watch.guard_collection(steps)
    setattr(stream, attribute, steps)
    # weakly: the response is reached from the steps, and a cycle would keep a dropped stream's connection open
    still_there = weakref.ref(steps)

    def closed() -> None:
        running = still_there()
        if running is not None and not running.gi_running:  # in a step, which then tells why it was closed
            watch.end()

    after(response, "close", closed)


def follow_async(
    stream: Any, response: Any, call: Call, chunks: Chunks, *, hide_usage: bool = False, attribute: str = "_iterator"
) -> None:
    """The same for an asynchronous stream, closed by the response's `aclose`."""
    watch = Watch(call, chunks)
    steps = AsyncSteps(getattr(stream, attribute), watch, hide_usage)
    watch.guard_collection(steps)
    setattr(stream, attribute, steps)
    closed = weakref.WeakMethod(steps.closed)

    def close_steps() -> None:
        still_there = closed()
        if still_there is not None:
            still_there()

    after(response, "aclose", close_steps)


def conceal_usage(stream: Any) -> None:
    """Withhold the usage chunk of a stream that could not be followed; stands on nothing else here."""
    inner = stream._iterator  # noqa: SLF001
    if hasattr(inner, "__anext__"):
        stream._iterator = (chunk async for chunk in inner if not is_usage_alone(chunk))  # noqa: SLF001
    else:
        stream._iterator = (chunk for chunk in inner if not is_usage_alone(chunk))  # noqa: SLF001


_ENTERING, _LEAVING = quiet("entering a stream"), quiet("leaving a stream")
_READING, _ENDING = quiet("reading a chunk"), quiet("ending a stream")


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
            if first:
                with _ENTERING:
                    call.enter(HTTP)
            try:
                chunk = next(inner)
            except StopIteration:
                break
            finally:
                if first:
                    first = False
                    with _LEAVING:
                        call.leave()
            with _READING:
                watch.chunk(chunk)
            yield chunk
    except GeneratorExit:
        with _ENDING:
            watch.end()
        raise
    except BaseException as error:
        with _ENDING:
            watch.fail(error)
        raise
    else:
        with _ENDING:
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
            if first:
                with _ENTERING:
                    call.enter(HTTP)
            try:
                chunk = await inner.__anext__()
            except StopAsyncIteration:
                break
            finally:
                if first:
                    first = False
                    with _LEAVING:
                        call.leave()
            with _READING:
                watch.chunk(chunk)
            yield chunk
    except GeneratorExit:
        with _ENDING:
            watch.end()
        raise
    except BaseException as error:
        with _ENDING:
            watch.fail(error)
        raise
    else:
        with _ENDING:
            watch.end()
    finally:
        close = getattr(inner, "aclose", None)
        if close is not None:
            await close()
