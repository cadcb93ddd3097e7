"""`observe`: the user's own functions as spans, each of the same sort as the function itself.

A function runs outside every guard. A generator's span is current only while its body runs, never while it is
suspended, so that nothing leaks into the code that consumes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, overload

from opentelemetry import context as otel_context

from limelight.call import Call
from limelight.guard import quiet
from limelight.spans import set_input, set_output, start

_F = TypeVar("_F", bound=Callable[..., Any])


class _Observed:
    """One decorated function: its name, kind and what of it is captured."""

    def __init__(self, function: Callable[..., Any], name: str | None, kind: str | None, capture: bool) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)  # a partial has none
        self.kind = kind
        self.capture = capture
        try:
            self.signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self.signature = None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        call = start(self.name, self.kind)
        with quiet("reading arguments"):
            if call is not None and self.capture and call.records_content:
                set_input(call, self.kind, self._arguments(args, kwargs))
        return call

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.signature is None:
            return {"args": args, **kwargs}
        try:
            bound = dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError:  # the call itself is about to fail on this
            return {"args": args, **kwargs}
        return {name: value for name, value in bound.items() if name not in {"self", "cls"}}

    def end(self, call: Call, result: Any) -> None:
        with quiet("recording a result"):
            if self.capture and call.records_content:
                set_output(call, self.kind, result)
        call.stop()


# Every step of ours stands in a guard of its own, so that a fault anywhere below costs a span and nothing else.
_STARTING, _ENTERING, _LEAVING = quiet("starting a span"), quiet("entering a span"), quiet("leaving a span")
_ENDING, _FAILING, _KEEPING = quiet("ending a span"), quiet("recording a failure"), quiet("keeping an item")


@overload
def observe(function: _F, /) -> _F: ...
@overload
def observe(*, kind: str | None = None, name: str | None = None, capture: bool = True) -> Callable[[_F], _F]: ...
def observe(
    function: Callable[..., Any] | None = None,
    /,
    *,
    kind: str | None = None,
    name: str | None = None,
    capture: bool = True,
) -> Any:
    """Decorate a function, coroutine function, generator or asynchronous generator: each call becomes a span.

    `kind` is tool, retriever, agent, workflow, chain, guardrail, evaluator or any word; `capture=False` keeps arguments
    and result out of the span.
    """
    if function is None:
        return lambda decorated: observe_function(decorated, kind, name, capture)
    return observe_function(function, kind, name, capture)


def observe_function(function: Any, kind: str | None, name: str | None, capture: bool) -> Any:
    """The observing wrapper of one function, of the same sort as the function itself."""
    if isinstance(function, (classmethod, staticmethod)):  # decorated below: it stays what it is
        return type(function)(observe_function(function.__func__, kind, name, capture))
    observed = _Observed(function, name, kind, capture)
    if inspect.isasyncgenfunction(function):
        return _observe_async_generator(observed)
    if inspect.isgeneratorfunction(function):
        return _observe_generator(observed)
    if inspect.iscoroutinefunction(function):
        return _observe_coroutine(observed)
    return _observe_plain(observed)


def _observe_plain(observed: _Observed) -> Callable[..., Any]:
    function = observed.function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = None
        with _STARTING:
            call = observed.begin(args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        with _ENTERING:
            call.enter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            with _FAILING:
                call.fail(error)
            raise
        finally:
            with _LEAVING:
                call.leave()
        with _ENDING:
            observed.end(call, result)
        return result

    return wrapper


def _observe_coroutine(observed: _Observed) -> Callable[..., Any]:
    function = observed.function

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = None
        with _STARTING:
            call = observed.begin(args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        with _ENTERING:
            call.enter()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            with _FAILING:
                call.fail(error)
            raise
        finally:
            with _LEAVING:
                call.leave()
        with _ENDING:
            observed.end(call, result)
        return result

    return wrapper


class _Steps:
    """Makes a generator's span current for each of its steps, remembering what the body itself made current."""

    def __init__(self, observed: _Observed, call: Call) -> None:
        self._observed = observed
        self._call = call
        self._items: list[Any] = []
        self._inside: otel_context.Context | None = None
        self._outside: otel_context.Context | None = None

    def enter(self) -> None:
        """The body runs from here."""
        self._outside = otel_context.get_current()
        if self._inside is not None:
            otel_context.attach(self._inside)
        else:
            self._call.enter()

    def leave(self) -> None:
        """The body is suspended or over."""
        self._inside = otel_context.get_current()
        if self._outside is not None:
            otel_context.attach(self._outside)

    def keep(self, item: Any) -> None:
        """Remember a yielded item for the span's output, up to a bound."""
        if self._observed.capture and len(self._items) < _MAX_ITEMS:
            self._items.append(item)

    def finish(self) -> None:
        """End the span with what was yielded: texts are joined."""
        texts = all(type(item) is str for item in self._items)
        self._observed.end(self._call, "".join(self._items) if texts else self._items)

    def fail(self, error: BaseException) -> None:
        """End the span with the error of its body."""
        self._call.fail(error)


_MAX_ITEMS = 10_000


def _steps(observed: _Observed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Steps | None:
    call = observed.begin(args, kwargs)
    return None if call is None else _Steps(observed, call)


def _observe_generator(observed: _Observed) -> Callable[..., Any]:
    def step(steps: _Steps, resume: Callable[[], Any]) -> Any:
        with _ENTERING:
            steps.enter()
        try:
            return resume()
        finally:
            with _LEAVING:
                steps.leave()

    @functools.wraps(observed.function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = observed.function(*args, **kwargs)
        steps = None
        with _STARTING:
            steps = _steps(observed, args, kwargs)
        if steps is None:
            return (yield from inner)
        resume: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                item = step(steps, resume)
            except StopIteration as stop:
                with _ENDING:
                    steps.finish()
                return stop.value
            except BaseException as error:
                with _FAILING:
                    steps.fail(error)
                raise
            with _KEEPING:
                steps.keep(item)
            try:
                resume = functools.partial(inner.send, (yield item))
            except GeneratorExit:
                step(steps, inner.close)
                with _ENDING:
                    steps.finish()
                raise
            except BaseException as thrown:
                resume = functools.partial(inner.throw, thrown)

    return wrapper


def _observe_async_generator(observed: _Observed) -> Callable[..., Any]:  # noqa: C901  one guard a step
    async def step(steps: _Steps | None, resume: Callable[[], Any]) -> Any:
        with _ENTERING:
            if steps is not None:
                steps.enter()
        try:
            return await resume()
        finally:
            with _LEAVING:
                if steps is not None:
                    steps.leave()

    @functools.wraps(observed.function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = observed.function(*args, **kwargs)
        steps = None
        with _STARTING:
            steps = _steps(observed, args, kwargs)
        resume: Callable[[], Any] = inner.__anext__
        while True:
            try:
                item = await step(steps, resume)
            except StopAsyncIteration:
                with _ENDING:
                    if steps is not None:
                        steps.finish()
                return
            except BaseException as error:
                with _FAILING:
                    if steps is not None:
                        steps.fail(error)
                raise
            with _KEEPING:
                if steps is not None:
                    steps.keep(item)
            try:
                resume = functools.partial(inner.asend, (yield item))
            except GeneratorExit:
                await step(steps, inner.aclose)
                with _ENDING:
                    if steps is not None:
                        steps.finish()
                raise
            except BaseException as thrown:
                resume = functools.partial(inner.athrow, thrown)

    return wrapper
