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

from limelight import call as calls
from limelight.call import Recorder
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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, one connection or the lifespan."""
        app: Any = self.app
        with quiet("starting a server span"):
            app = self._current()
        await app(scope, receive, send)

    def _current(self) -> Any:
        recorder = calls.active("fastapi")
        if recorder is None:
            return self.app
        if recorder is not self._recorder:  # the first request, or a new `init`
            self._observed, self._recorder = _observed(self.app, recorder), recorder
        return self._observed


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
        official = importlib.import_module("opentelemetry.instrumentation.fastapi")
    except ImportError:
        return None
    return getattr(official, "_get_default_span_details", None)


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
    """`__call__`, for applications that were serving before we came."""

    @functools.wraps(original)
    async def __call__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        with quiet("taking up an application"):
            stack = self.middleware_stack
            if stack is not None and not isinstance(stack, Served):
                self.middleware_stack = _taken(self, stack)
        await original(self, *args, **kwargs)

    return __call__


def _give_back() -> None:
    for app in list(_serving):
        with quiet("giving an application back"):
            if isinstance(app.middleware_stack, Served):
                app.middleware_stack = app.middleware_stack.app
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
        patches.on_undo(_give_back)
    else:
        patches.replace(module.FastAPI, "build_middleware_stack", _wrap_build)
