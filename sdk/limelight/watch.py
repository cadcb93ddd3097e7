"""Watch: one stream of chunks under observation, whatever hands them on (`stream`, `body`)."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from limelight.call import Call, abandon
from limelight.guard import quiet


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

    __slots__ = ("_add", "_call", "_chunks", "_started", "_touch")

    def __init__(self, call: Call, chunks: Chunks) -> None:
        self._call = call
        self._chunks = chunks
        self._started = False
        self._touch, self._add = call.touch, chunks.add  # looked up once: `chunk` runs for every chunk
        call.on_stop = chunks.fill

    def chunk(self, chunk: Any) -> None:
        """Note one chunk."""
        self._touch()
        if self._add(chunk) and not self._started:
            self._started = True
            self._call.first_chunk()

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
