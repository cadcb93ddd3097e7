"""Threads of the standard library: they start with the OpenTelemetry context, ours in it, of who started them.

Only that one context variable is carried, not the program's own. `threading.Thread` and everything derived from it gets
it for its whole life, a pool's thread for each piece of work. Both are patched where the standard library itself calls
in, outside of the frames that a traceback shows. A thread of its own gets the ids of the current span, not the span: it
may live long, and must not keep a prompt alive.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from limelight import call as calls
from limelight.guard import quiet

if TYPE_CHECKING:
    from limelight.patch import Patches

_SLOT = "_limelight_context"


def _wrap_start(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def start(self: Any) -> None:
        with quiet("carrying a context to a thread"):
            if calls.installed() is not None and not _is_of_a_pool(self):
                _give(self)
        try:
            original(self)
        except BaseException:
            vars(self).pop(_SLOT, None)
            raise

    return start


def _is_of_a_pool(thread: Any) -> bool:
    """Whether it is a pool's thread: its work brings contexts of its own."""
    pools = sys.modules.get("concurrent.futures.thread")
    return pools is not None and getattr(thread, "_target", None) is getattr(pools, "_worker", pools)


def _give(thread: Any) -> None:
    context = otel_context.get_current()
    span = trace.get_current_span(context)
    if span.is_recording():
        context = trace.set_span_in_context(NonRecordingSpan(span.get_span_context()), context)
    if context:
        vars(thread)[_SLOT] = context


def _wrap_bootstrap(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def bootstrap(self: Any) -> None:
        with quiet("entering a thread"):
            if _SLOT in vars(self):
                otel_context.attach(vars(self).pop(_SLOT))
        original(self)

    return bootstrap


def _wrap_work(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  it stands for one
        original(self, *args, **kwargs)
        with quiet("carrying a context to a pool"):
            if calls.installed() is not None:
                vars(self)[_SLOT] = otel_context.get_current()

    return __init__


def _wrap_run(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def run(self: Any, *args: Any) -> None:
        before: otel_context.Context | None = None
        with quiet("entering a pool's work"):
            if _SLOT in vars(self):
                before = otel_context.get_current()
                otel_context.attach(vars(self).pop(_SLOT))
        try:
            original(self, *args)
        finally:
            with quiet("leaving a pool's work"):
                if before is not None:
                    otel_context.attach(before)

    return run


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap the start of threads, or the work of pools."""
    if module.__name__ == "threading":
        if hasattr(module.Thread, "_bootstrap_inner"):  # else a context given would never be taken
            patches.replace(module.Thread, "start", _wrap_start)
            patches.replace(module.Thread, "_bootstrap_inner", _wrap_bootstrap)
        return
    work = getattr(module, "_WorkItem", None)
    if work is not None:
        patches.replace(work, "__init__", _wrap_work)
        patches.replace(work, "run", _wrap_run)
