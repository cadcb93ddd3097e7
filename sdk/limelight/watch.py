"""Watch: one stream of chunks under observation, whatever hands them on (`stream`, `body`)."""

from __future__ import annotations

import inspect
import weakref
from array import array
from collections.abc import Callable, Generator, Iterator
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


class Watch:
    """One stream under observation; ends its call on exhaustion, error, close or collection, whichever is first."""

    __slots__ = ("_add", "_call", "_chunks", "_clock_ns", "_started")

    def __init__(self, call: Call, chunks: Chunks) -> None:
        self._call = call
        self._chunks = chunks
        self._started = False
        self._clock_ns, self._add = call.clock_ns, chunks.add  # looked up once: `chunk` runs for every chunk
        call.on_stop = chunks.fill

    def chunk(self, chunk: Any) -> None:
        """Note one chunk."""
        call, now_ns = self._call, self._clock_ns()
        if call.gaps_ns is not None:
            call.gaps_ns.append(now_ns - call.last_ns)
        call.last_ns = now_ns  # `touch`, without a call
        if self._add(chunk) and not self._started:
            self._started = True
            call.first_chunk()

    def steps(self, inner: Iterator[Any], hidden: Callable[[Any], bool] | None) -> Generator[Any, None, None]:
        """A stand-in for `inner`, an iterator of which nothing but iteration is asked; `hidden` chunks are withheld.

        One function with `chunk` written out: a step takes half the time of one in a class, and runs for every chunk.
        """
        call, clock_ns, add, started = self._call, self._clock_ns, self._add, False
        gaps_ns: array[int] | None = None
        try:
            for chunk in inner:
                carries = False
                try:
                    now_ns = clock_ns()
                    if gaps_ns is not None:
                        gaps_ns.append(now_ns - call.last_ns)
                    call.last_ns = now_ns
                    carries = add(chunk)
                    if carries and not started:
                        started = True
                        call.first_chunk()
                        gaps_ns = call.gaps_ns
                except Exception as error:
                    report("reading a chunk", error)
                if hidden is not None and not carries:
                    try:
                        if hidden(chunk) and not self.keeps_usage:
                            continue
                    except Exception as error:
                        report("looking for the usage chunk", error)
                        if not getattr(chunk, "choices", True):
                            continue
                yield chunk
        except GeneratorExit:  # closed or collected: the response's `close`, or the guard on collection, knows which
            raise
        except BaseException as error:
            with _ENDING:
                self.fail(error)
            raise
        with _ENDING:
            self.end()

    @property
    def keeps_usage(self) -> bool:
        """Whether the server sends the usage chunk to everyone, asked or not: then it is not ours to hide."""
        return getattr(self._chunks, "keeps_usage", False)

    def end(self) -> None:
        """The stream is over, or the user closed it."""
        self._call.stop()

    def fail(self, error: BaseException) -> None:
        """The stream broke."""
        self._call.fail(error)

    def guard_collection(self, holder: Any) -> None:
        """End the call when `holder` is collected without having ended."""
        weakref.finalize(holder, abandon, self._call).atexit = False


def after(owner: Any, name: str, then: Callable[[], None]) -> None:
    """Run `then` after the next call of `owner.name`, a method, synchronous or not; nothing where it has none.

    With that call the owner gets its method back: as long as it holds ours, which holds it, only the garbage collector
    can free it.
    """
    original = getattr(owner, name, None)
    if original is None:
        return
    before = vars(owner).get(name)

    def give_back() -> None:
        if getattr(vars(owner).get(name), "__wrapped__", None) is not original:  # somebody has wrapped ours since
            return
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    def closing(*args: Any, **kwargs: Any) -> Any:
        with _CLOSING:
            give_back()
        try:
            return original(*args, **kwargs)
        finally:
            with _CLOSING:
                then()

    async def closing_async(*args: Any, **kwargs: Any) -> Any:
        with _CLOSING:
            give_back()
        try:
            return await original(*args, **kwargs)
        finally:
            with _CLOSING:
                then()

    ours: Any = closing_async if inspect.iscoroutinefunction(original) else closing
    ours.__wrapped__ = original
    setattr(owner, name, ours)


_CLOSING, _ENDING = quiet("closing a stream"), quiet("ending a stream")
