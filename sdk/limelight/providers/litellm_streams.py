"""LiteLLM's streams: watched in their own steps, so that a stream stays the object it is and what it calls is silent.

Which stream belongs to which call is kept beside it, in a weak table: nothing of the user's object is changed.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

from limelight import semconv
from limelight.call import HTTP, Call
from limelight.guard import quiet
from limelight.providers import litellm_answers as answers
from limelight.providers.openai_streams import ChatChunks, ResponseEvents
from limelight.values import field, items, word
from limelight.watch import Chunks, Watch

if TYPE_CHECKING:
    from limelight.patch import Patches

MUTES = HTTP | {"litellm", "openai", "anthropic", "google_genai", "mistralai", "cohere", "ollama", "vllm"}
"""Everything that LiteLLM may call; itself too, since its functions call each other."""
STREAMS = {
    "litellm.litellm_core_utils.streaming_handler": ("CustomStreamWrapper",),
    "litellm.utils": ("TextCompletionStreamWrapper",),
    "litellm.responses.streaming_iterator": (
        "ResponsesAPIStreamingIterator",
        "SyncResponsesAPIStreamingIterator",
        "MockResponsesAPIStreamingIterator",
        "CachedResponsesAPIStreamingIterator",
    ),
    "litellm.responses.litellm_completion_transformation.streaming_iterator": ("LiteLLMCompletionStreamingIterator",),
}
"""Module -> the classes of the streams it has."""


class _Watched:
    """One stream under observation, with the call that is current and the libraries that are silent in its steps."""

    def __init__(self, call: Call, chunks: Any) -> None:
        self._call = call
        self._chunks = chunks
        self._watch = Watch(call, chunks)
        self.is_stepping = False

    def guard_collection(self, stream: Any) -> None:
        self._watch.guard_collection(stream)

    def enter(self) -> None:
        self.is_stepping = True
        self._call.enter(MUTES)

    def leave(self) -> None:
        self.is_stepping = False
        self._call.leave()

    def chunk(self, chunk: Any) -> None:
        self._watch.chunk(chunk)

    def exhausted(self, stream: Any) -> None:
        """The stream is over: only now is what it counted complete."""
        with quiet("reading a stream's usage"):
            self._chunks.settle(stream)
        self._watch.end()

    def fail(self, error: BaseException) -> None:
        self._watch.fail(error)

    def end(self) -> None:
        self._watch.end()


_watched: weakref.WeakKeyDictionary[Any, _Watched] = weakref.WeakKeyDictionary()
_observed: weakref.WeakSet[type] = weakref.WeakSet()
"""The classes whose steps are wrapped."""


def watch(stream: Any, call: Call, chunks: Chunks) -> None:
    """Watch a stream whose class's steps are observed; another one ends its call now."""
    if not any(kind in _observed for kind in type(stream).__mro__):
        call.stop()
        return
    watched = _Watched(call, chunks)
    watched.guard_collection(stream)
    _watched[stream] = watched


def observe_steps(patches: Patches, kind: type) -> None:
    """Wrap the steps and the closing of one class of streams, for those of its objects that are watched."""
    if "__next__" in vars(kind):
        patches.replace(kind, "__next__", _sync_step)
    if "__anext__" in vars(kind):
        patches.replace(kind, "__anext__", _async_step)
    if "aclose" in vars(kind):
        patches.replace(kind, "aclose", _closing)
    _observed.add(kind)
    patches.on_undo(lambda: _observed.discard(kind))


_FINDING, _ENTERING, _LEAVING = quiet("finding a stream's call"), quiet("entering a stream"), quiet("leaving a stream")
_READING, _ENDING = quiet("reading a chunk"), quiet("ending a stream")


def _of(stream: Any) -> _Watched | None:
    """A stream's watch; None also inside one of its steps, where one step may stand on another."""
    watched = _watched.get(stream)
    return None if watched is None or watched.is_stepping else watched


def _sync_step(original: Any) -> Any:
    @functools.wraps(original)
    def step(stream: Any) -> Any:
        watched = None
        with _FINDING:
            watched = _of(stream)
        if watched is None:
            return original(stream)
        with _ENTERING:
            watched.enter()
        try:
            chunk = original(stream)
        except StopIteration:
            with _ENDING:
                watched.exhausted(stream)
            raise
        except BaseException as error:
            with _ENDING:
                watched.fail(error)
            raise
        finally:
            with _LEAVING:
                watched.leave()
        with _READING:
            watched.chunk(chunk)
        return chunk

    return step


def _async_step(original: Any) -> Any:
    @functools.wraps(original)
    async def step(stream: Any) -> Any:
        watched = None
        with _FINDING:
            watched = _of(stream)
        if watched is None:
            return await original(stream)
        with _ENTERING:
            watched.enter()
        try:
            chunk = await original(stream)
        except StopAsyncIteration:
            with _ENDING:
                watched.exhausted(stream)
            raise
        except BaseException as error:
            with _ENDING:
                watched.fail(error)
            raise
        finally:
            with _LEAVING:
                watched.leave()
        with _READING:
            watched.chunk(chunk)
        return chunk

    return step


def _closing(original: Any) -> Any:
    @functools.wraps(original)
    async def aclose(stream: Any) -> Any:
        try:
            return await original(stream)
        finally:
            with quiet("closing a stream"):
                watched = _of(stream)
                if watched is not None:
                    watched.end()

    return aclose


class TextStream(ChatChunks):
    """Chunks of a streamed completion or text completion. Their own usage may be LiteLLM's count: it is not read."""

    def __init__(self, keep_content: bool, provider: Any) -> None:
        super().__init__(keep_content)
        self._provider = provider
        self._answered: str | None = None
        self._cost: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries text, reasoning or a piece of a tool call."""
        self._answered = word(field(answers.hidden(chunk), "provider_response_model")) or self._answered
        self._cost = field(field(chunk, "usage"), "cost") or self._cost
        return self._add(answers.plain(chunk, ("choices",), None))

    def settle(self, stream: Any) -> None:
        """Take the usage from the chunks the stream keeps: there it is only where the provider sent it."""
        if answers.is_cached(stream):
            return
        kept = getattr(stream, "chunks", None)
        inner = getattr(getattr(stream, "completion_stream", None), "chunks", None)
        self._usage = answers.last_usage(items(kept) or items(inner), self._provider)
        ended = field(getattr(stream, "_last_returned_hidden_params", None), "usage")
        self._cost = field(ended, "cost") or self._cost if self._usage is not None else None

    def fill(self, call: Call) -> None:
        """Write what has arrived; of a stream that did not end, usage stays unknown."""
        super().fill(call)
        call.set(semconv.RESPONSE_MODEL, self._answered)
        if self._usage is not None:
            answers.read_cost(call, self._cost)


class ResponseStream(ResponseEvents):
    """Events of a streamed response; the last one carries the whole."""

    def __init__(self, keep_content: bool, provider: Any) -> None:
        super().__init__(keep_content)
        self._provider = provider

    def settle(self, stream: Any) -> None:
        """Nothing more is known at the end."""

    def fill(self, call: Call) -> None:
        """Write the whole response, or what has arrived of it."""
        if self._whole is None:
            super().fill(call)
        else:
            answers.read_response(call, self._whole)
