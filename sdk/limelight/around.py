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
    """Libraries below this one, whose calls are this one's own business."""
    is_method: bool = True
    """Whether the first argument is the owner; a function of a module has none."""


def _on(operation: Operation) -> bool:
    with quiet("asking whether the SDK runs"):
        return calls.active(operation.library) is not None
    return False


def _begin(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    with quiet("reading a request"):
        recorder = calls.active(operation.library)
        if recorder is not None:
            owner, rest = (args[0], args[1:]) if operation.is_method else (None, args)
            return operation.start(recorder, owner, rest, kwargs)
    return None


def _amended(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    if operation.amend is not None:
        with quiet("asking for usage"):
            recorder = calls.active(operation.library)
            if recorder is not None:
                return operation.amend(recorder, args[0] if operation.is_method else None, kwargs)
    return None


def _finish(operation: Operation, call: Call, result: Any, kwargs: dict[str, Any], asked: bool) -> Any:
    """What replaces the result, or None; a fault here still ends the call."""
    with quiet("reading a response"):
        return operation.finish(call, result, kwargs, asked)
    with quiet("ending a call"):
        call.stop()
    _conceal(result, asked)
    return None


def _conceal(result: Any, asked: bool) -> None:
    if asked:
        with quiet("hiding the usage chunk"):
            conceal_usage(result)


def wrap(original: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """`original` with its calls observed: a method or function, synchronous or returning an awaitable."""
    if _is_async(original):
        return _wrap_async(original, operation)

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        call = _begin(operation, args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        amended = _amended(operation, args, kwargs)
        with quiet("entering a call"):
            call.enter(operation.mutes)
        try:
            result = original(*args, **(kwargs if amended is None else amended))
        except BaseException as error:
            with quiet("recording a failure"):
                call.fail(error)
            raise
        finally:
            with quiet("leaving a call"):
                call.leave()
        replacement = _finish(operation, call, result, kwargs, amended is not None)
        return result if replacement is None else replacement

    return observed


def _wrap_async(original: Callable[..., Awaitable[Any]], operation: Operation) -> Callable[..., Any]:
    @functools.wraps(original)
    def started(*args: Any, **kwargs: Any) -> Any:
        """Arguments are checked at the call, as the original does; the rest happens when it is awaited."""
        if not _on(operation):
            return original(*args, **kwargs)
        amended = _amended(operation, args, kwargs)
        awaitable = original(*args, **(kwargs if amended is None else amended))
        return _awaited(awaitable, operation, args, kwargs, amended is not None)

    @functools.wraps(original)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await started(*args, **kwargs)

    return coroutine if inspect.iscoroutinefunction(original) else started


async def _awaited(
    awaitable: Awaitable[Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], asked: bool
) -> Any:
    call = _begin(operation, args, kwargs)
    if call is None:
        result = await awaitable
        _conceal(result, asked)
        return result
    with quiet("entering a call"):
        call.enter(operation.mutes)
    try:
        result = await awaitable
    except BaseException as error:
        with quiet("recording a failure"):
            call.fail(error)
        raise
    finally:
        with quiet("leaving a call"):
            call.leave()
    replacement = _finish(operation, call, result, kwargs, asked)
    return result if replacement is None else replacement


def _is_async(function: Callable[..., Any]) -> bool:
    """Coroutine functions, and plain functions decorated over one (`openai`'s argument check)."""
    return inspect.iscoroutinefunction(inspect.unwrap(function))
