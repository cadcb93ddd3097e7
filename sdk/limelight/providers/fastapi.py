"""FastAPI and Starlette: a server span for each request, the root that model calls in handlers hang below.

The span is made by the middleware of `opentelemetry-instrumentation-fastapi`, with our tracer. It stands around an
application's own stack from the moment that stack is built; a stack that was built before us is taken up at its next
request. Who instruments an application by OpenTelemetry's own means keeps that, and ours stays away.
"""

from __future__ import annotations

import functools
import importlib
import os
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from limelight import call as calls
from limelight.call import Recorder, record_error
from limelight.guard import quiet
from limelight.patch import Declined

if TYPE_CHECKING:
    from limelight.patch import Patches

HEALTH = r"/healthz?/?$,/readyz?/?$,/livez?/?$,/ping/?$,/metrics/?$"
"""Addresses without a span, where `OTEL_PYTHON_FASTAPI_EXCLUDED_URLS` says nothing else: regular expressions."""
_MISSING = "server spans need opentelemetry-instrumentation-fastapi: pip install 'limelight[fastapi]'"


class Served:
    """Stands where an application's middleware stack stood: server spans while the SDK runs, else straight through."""

    def __init__(self, app: Any) -> None:
        self.app = app
        """The application's own stack."""
        self._recorder: Recorder | None = None
        self._observed: Any = None
        self._raising: Any = None
        if type(app).__name__ == "ServerErrorMiddleware":
            app.app = self._raising = _Raising(app.app)

    def give_back(self) -> Any:
        """The application's own stack, as it was."""
        if self._raising is not None and self.app.app is self._raising:
            self.app.app = self._raising.app
        return self.app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, one connection or the lifespan."""
        app: Any = self.app
        with quiet("starting a server span"):
            app = self._current(scope)
        await app(scope, receive, send)

    def _current(self, scope: Any) -> Any:
        recorder = calls.active("fastapi")
        if recorder is None or scope.get(_SERVED):  # an application mounted in another, whose span there is
            return self.app
        scope[_SERVED] = True
        if recorder is not self._recorder:  # the first request, or a new `init`
            self._observed, self._recorder = _observed(self.app, recorder), recorder
        return self._observed


_SERVED = "limelight.served"


class _Raising:
    """Stands inside what turns an exception into an answer 500: by the time that is sent, the span is over."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request; its exception passes."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            with quiet("recording a failure"):
                recorder, span = calls.active("fastapi"), trace.get_current_span()
                if recorder is not None and span.is_recording():
                    span.set_attributes(record_error(span, recorder, error))
            raise


def _observed(app: Any, recorder: Recorder) -> Any:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.metrics import NoOpMeter
    from opentelemetry.util.http import parse_excluded_urls

    excluded = os.environ.get("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS") or os.environ.get("OTEL_PYTHON_EXCLUDED_URLS")
    return OpenTelemetryMiddleware(
        app,
        excluded_urls=parse_excluded_urls(HEALTH if excluded is None else excluded),
        default_span_details=_details(),
        tracer=recorder.tracer,
        meter=NoOpMeter("limelight"),
        exclude_spans=["receive", "send"],
    )


def _details() -> Any:
    """What names a span by its route; None, for the address, where only Starlette is installed."""
    try:
        official: Any = importlib.import_module("opentelemetry.instrumentation.fastapi")
    except ImportError:
        return None
    by_route = getattr(official, "_get_default_span_details", None)
    if by_route is None:
        return None

    def details(scope: Any) -> tuple[str, dict[str, str]]:
        with quiet("naming a request"):  # it stands in the way of the request
            return by_route(scope)
        return str(scope.get("method", "HTTP")), {}

    return details


_serving: weakref.WeakSet[Any] = weakref.WeakSet()
"""Applications whose stack is ours."""


def _taken(app: Any, stack: Any) -> Any:
    """The stack with ours around it, unless it is there, or OpenTelemetry's own instrumentation is."""
    if isinstance(stack, Served) or getattr(app, "_is_instrumented_by_opentelemetry", False):
        return stack
    _serving.add(app)
    return Served(stack)


def _wrap_build(original: Any) -> Any:
    @functools.wraps(original)
    def build_middleware_stack(self: Any) -> Any:
        stack = original(self)
        with quiet("taking up an application"):
            return _taken(self, stack)
        return stack

    return build_middleware_stack


def _wrap_call(original: Any) -> Any:
    """`__call__`, for applications that were serving before we came.

    A coroutine function that takes just what the original takes: by both, uvicorn tells an application from others.
    """

    @functools.wraps(original)
    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: N807
        with quiet("taking up an application"):
            stack = self.middleware_stack
            if stack is not None and not isinstance(stack, Served):
                self.middleware_stack = _taken(self, stack)
        await original(self, scope, receive, send)

    return __call__


def _give_back() -> None:
    for app in list(_serving):
        with quiet("giving an application back"):
            if isinstance(app.middleware_stack, Served):
                app.middleware_stack = app.middleware_stack.give_back()
    _serving.clear()


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap what builds an application's stack, and the call of an application."""
    try:
        importlib.import_module("opentelemetry.instrumentation.asgi")
    except ImportError as missing:
        raise Declined(_MISSING) from missing
    if module.__name__ == "starlette.applications":
        patches.replace(module.Starlette, "build_middleware_stack", _wrap_build)
        patches.replace(module.Starlette, "__call__", _wrap_call)
        patches.on_undo(lambda: _give_back())  # noqa: PLW0108  looked up when it is time
    else:
        patches.replace(module.FastAPI, "build_middleware_stack", _wrap_build)
