"""`carry`: take the current trace and the values of `limelight.context` along into another process or thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from limelight import identity
from limelight.guard import quiet

_P = ParamSpec("_P")
_T = TypeVar("_T")
_TRACE, _BAGGAGE = TraceContextTextMapPropagator(), W3CBaggagePropagator()


def carry(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`function`, to be called in another process or thread with the trace parent, session, user and tags of here.

        pool.map(limelight.carry(work), items)
        Process(target=limelight.carry(work)).start()

    Picklable where the function is. The other process has to call `limelight.init()` itself (a pool's initializer does
    well), or inherits that by a fork. Not a decorator: what is carried is what is current when `carry` is called.
    """
    with quiet("carrying a context"):
        return Carried(function)
    return function


class Carried(Generic[_P, _T]):
    """A function and the context it is called in."""

    def __init__(self, function: Callable[_P, _T]) -> None:
        self._function = function
        self._headers: dict[str, str] = {}
        _TRACE.inject(self._headers)
        _BAGGAGE.inject(self._headers)
        self._identity = identity.snapshot()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        before = otel_context.get_current()
        self._enter()
        try:
            result = self._function(*args, **kwargs)
        finally:
            _restore(before)
        if inspect.iscoroutine(result):
            awaited: Any = self._awaited(result)
            return awaited
        return result

    async def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        before = otel_context.get_current()
        self._enter()
        try:
            return await coroutine
        finally:
            _restore(before)

    def _enter(self) -> None:
        with quiet("entering a carried context"):
            there = _BAGGAGE.extract(self._headers, _TRACE.extract(self._headers, otel_context.Context()))
            otel_context.attach(identity.restored(self._identity, there))


def _restore(before: otel_context.Context) -> None:
    with quiet("leaving a carried context"):
        otel_context.attach(before)
