"""The one place that stands around a user's call: ours runs beside it, inside the guard, and cannot change it.

The original runs outside every guard with the user's own arguments, and its own result or exception is what the user
gets. The two documented exceptions: keyword arguments `amend`ed to ask for usage on streams, and generator streams.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from limelight import call as calls
from limelight.call import HTTP, Call, Recorder
from limelight.guard import quiet
from limelight.stream import conceal_usage

Amend = Callable[[Recorder, Any, dict[str, Any]], "dict[str, Any] | None"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What a provider knows of one method of its library."""

    library: str
    """The provider's name: an outer library of ours may mute it."""
    start: Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Call | None]
    """(recorder, self, args, kwargs as the user gave them) -> the started call; None: not worth a span."""
    finish: Callable[[Call, Any, dict[str, Any], bool], Any]
    """(call, result, kwargs, whether we asked for usage): read the result and end the call, or follow its stream.
    A generator that must replace the result is returned; None leaves the result as it is."""
    amend: Amend | None = None
    """Keyword arguments to send instead, or None."""
    mutes: frozenset[str] = HTTP
    """Libraries below this one, whose calls are this one's own business; this one itself is always muted, for a wrapper
    of ours may have been left below another vendor's."""
    is_method: bool = True
    """Whether the first argument is the owner; a function of a module has none."""


def _recorder(operation: Operation) -> Recorder | None:
    return calls.active(operation.library)


def _begin(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    recorder = calls.active(operation.library)
    if recorder is None:
        return None
    owner, rest = (args[0], args[1:]) if operation.is_method else (None, args)
    return calls.begin(operation.start, recorder, owner, rest, kwargs)


def _amended(
    operation: Operation, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    if operation.amend is None:
        return None
    return operation.amend(recorder, args[0] if operation.is_method else None, kwargs)


def _finish(operation: Operation, call: Call, result: Any, kwargs: dict[str, Any], asked: bool) -> Any:
    """What replaces the result, or None; a fault in the reading still ends the call."""
    with _ANSWERING:
        return operation.finish(call, result, kwargs, asked)
    call.stop()
    if asked:
        conceal_usage(result)
    return None


# Every step of ours stands in a guard of its own, so that a fault anywhere below costs a span and nothing else.
_READING, _ASKING, _ENTERING = quiet("reading a request"), quiet("asking for usage"), quiet("entering a call")
_FAILING, _LEAVING, _FINISHING = quiet("recording a failure"), quiet("leaving a call"), quiet("finishing a call")
_HIDING, _ANSWERING = quiet("hiding the usage chunk"), quiet("reading a response")


def wrap(original: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """`original` with its calls observed: a method or function, synchronous or returning an awaitable."""
    if _is_async(original):
        return _wrap_async(original, operation)
    mutes = operation.mutes | {operation.library}

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        call = sent = replacement = None
        with _READING:
            call = _begin(operation, args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        with _ASKING:
            sent = _amended(operation, call.recorder, args, kwargs)
        with _ENTERING:
            call.enter(mutes)
        try:
            result = original(*args, **(kwargs if sent is None else sent))
        except BaseException as error:
            with _FAILING:
                call.fail(error)
            raise
        finally:
            with _LEAVING:
                call.leave()
        finished = False
        with _FINISHING:
            replacement = _finish(operation, call, result, kwargs, sent is not None)
            finished = True
        if sent is not None and not finished:
            with _HIDING:
                conceal_usage(result)
        return result if replacement is None else replacement

    return observed


def _wrap_async(original: Callable[..., Awaitable[Any]], operation: Operation) -> Callable[..., Any]:
    mutes = operation.mutes | {operation.library}

    async def awaited(awaitable: Awaitable[Any], args: tuple[Any, ...], kwargs: dict[str, Any], asked: bool) -> Any:
        call = replacement = None
        finished = False
        with _READING:
            call = _begin(operation, args, kwargs)
        if call is not None:
            with _ENTERING:
                call.enter(mutes)
        try:
            result = await awaitable
        except BaseException as error:
            with _FAILING:
                if call is not None:
                    call.fail(error)
            raise
        finally:
            with _LEAVING:
                if call is not None:
                    call.leave()
        with _FINISHING:
            if call is not None:
                replacement = _finish(operation, call, result, kwargs, asked)
                finished = True
        if asked and not finished:
            with _HIDING:
                conceal_usage(result)
        return result if replacement is None else replacement

    @functools.wraps(original)
    def started(*args: Any, **kwargs: Any) -> Any:
        """Arguments are checked at the call, as the original does; the rest happens when it is awaited."""
        recorder = sent = None
        with _READING:
            recorder = _recorder(operation)
        if recorder is None:
            return original(*args, **kwargs)
        with _ASKING:
            sent = _amended(operation, recorder, args, kwargs)
        awaitable = original(*args, **(kwargs if sent is None else sent))
        return awaited(awaitable, args, kwargs, sent is not None)

    @functools.wraps(original)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await started(*args, **kwargs)

    return coroutine if inspect.iscoroutinefunction(original) else started


def _is_async(function: Callable[..., Any]) -> bool:
    """Coroutine functions, and plain functions decorated over one (`openai`'s argument check)."""
    return inspect.iscoroutinefunction(inspect.unwrap(function))
