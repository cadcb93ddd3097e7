"""`observe` and `span`: the user's own functions and blocks as spans, by kind.

A function runs outside every guard. A generator's span is current only while its body runs, never while it is
suspended, so that nothing leaks into the code that consumes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, TypeVar, overload

from opentelemetry import context as otel_context
from opentelemetry.trace import format_span_id, format_trace_id

from limelight import call as calls
from limelight import semconv
from limelight.call import Call
from limelight.content import field
from limelight.guard import quiet

_F = TypeVar("_F", bound=Callable[..., Any])

_OPERATIONS: dict[str, tuple[str, str | None]] = {
    "tool": ("execute_tool", semconv.TOOL_NAME),
    "retriever": ("retrieval", None),
    "agent": ("invoke_agent", semconv.AGENT_NAME),
    "workflow": ("invoke_workflow", semconv.WORKFLOW_NAME),
}
"""Kind -> the semconv operation it is and the attribute that holds its name; other kinds become `limelight.kind`."""


def _start(name: str, kind: str | None) -> Call | None:
    recorder = calls.installed()
    if recorder is None:
        return None
    operation, name_attribute = _OPERATIONS.get(kind or "", (None, None))
    attributes: dict[str, Any] = {semconv.OPERATION_NAME: operation}
    if operation is None:
        attributes[semconv.LIMELIGHT_KIND] = None if kind == "span" else kind
    if name_attribute is not None:
        attributes[name_attribute] = name
    return Call.start(recorder, f"{operation} {name}" if operation else name, attributes)


def _set_input(call: Call, kind: str | None, value: Any) -> None:
    if kind == "tool":
        call.set_value(semconv.TOOL_CALL_ARGUMENTS, value)
    elif kind == "retriever" and (query := _query(value)) is not None:
        call.set_value(semconv.RETRIEVAL_QUERY_TEXT, query)
    else:
        call.set_value(semconv.LIMELIGHT_INPUT, value)


def _set_output(call: Call, kind: str | None, value: Any) -> None:
    if kind == "tool":
        call.set_value(semconv.TOOL_CALL_RESULT, value)
    elif kind == "retriever" and (documents := _documents(value)) is not None:
        call.set_value(semconv.RETRIEVAL_DOCUMENTS, documents, as_json=True)
    else:
        call.set_value(semconv.LIMELIGHT_OUTPUT, value)


def _query(value: Any) -> str | None:
    """The query of a retriever: the text itself, its `query` argument, or its only text argument."""
    if isinstance(value, str):
        return value
    named = field(value, "query")
    texts = [item for item in value.values() if isinstance(item, str)] if isinstance(value, dict) else []
    return named if isinstance(named, str) else texts[0] if len(texts) == 1 else None


def _documents(value: Any) -> list[Any] | None:
    """A list of documents, texts becoming `{"content": text}`; None where the value is no such list."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, (dict, str)) for item in value):
        return None
    return [{"content": item} if isinstance(item, str) else item for item in value]


class span:  # noqa: N801  `with limelight.span(...)` reads as the block it opens
    """`with limelight.span(name, kind="retriever") as s:` one block as a span; an exception fails it, and passes."""

    def __init__(self, name: str, kind: str | None = None) -> None:
        self._name = name
        self._kind = kind
        self._call: Call | None = None

    def __enter__(self) -> span:  # noqa: PYI034  typing.Self is 3.11
        with quiet("entering a span"):
            self._call = _start(self._name, self._kind)
            if self._call is not None:
                self._call.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with quiet("ending a span"):
            if self._call is not None:
                self._call.leave()
                if error is None or isinstance(error, GeneratorExit):
                    self._call.stop()
                else:
                    self._call.fail(error)

    def set(self, *, input: Any = None, output: Any = None, **attributes: Any) -> span:  # noqa: A002  the public words
        """Record input, output (captured as content) and plain attributes; `a_b` stays `a_b`, use `**{"a.b": 1}`."""
        with quiet("setting span values"):
            if self._call is not None:
                if input is not None:
                    _set_input(self._call, self._kind, input)
                if output is not None:
                    _set_output(self._call, self._kind, output)
                for name, value in attributes.items():
                    self._call.set(name, value)
        return self

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty where the SDK is off."""
        return "" if self._call is None else format_trace_id(self._call.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits; empty where the SDK is off."""
        return "" if self._call is None else format_span_id(self._call.span.get_span_context().span_id)


class _Observed:
    """One decorated function: its name, kind and what of it is captured."""

    def __init__(self, function: Callable[..., Any], name: str | None, kind: str | None, capture: bool) -> None:
        self.function = function
        self.name = name or function.__name__
        self.kind = kind
        self.capture = capture
        try:
            self.signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self.signature = None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        call = _start(self.name, self.kind)
        with quiet("reading arguments"):
            if call is not None and self.capture and call.records_content:
                _set_input(call, self.kind, self._arguments(args, kwargs))
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
                _set_output(call, self.kind, result)
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


def observe_function(
    function: Callable[..., Any], kind: str | None, name: str | None, capture: bool
) -> Callable[..., Any]:
    """The observing wrapper of one function, of the same sort as the function itself."""
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
        texts = all(isinstance(item, str) for item in self._items)
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
