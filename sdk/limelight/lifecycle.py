"""How a process ends: at exit, as a child of `multiprocessing` (which skips exit handlers), or on SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from limelight.guard import quiet, warn_once

_promised: weakref.WeakSet[Any] = weakref.WeakSet()


def at_exit(goodbye: Callable[[], object], owner: Any) -> None:
    """Call `goodbye` when this process ends in order, or a child that `multiprocessing` makes of it does."""
    atexit.register(goodbye)
    from multiprocessing import process, util

    def promise(_: Any) -> None:
        # 0 or more: before children are waited for; only the process that registers it runs it
        util.Finalize(None, goodbye, exitpriority=100)

    if process.parent_process() is not None:
        promise(owner)
    if owner not in _promised:  # a child forgets what was registered before, also while its main module was imported
        _promised.add(owner)
        util.register_after_fork(owner, promise)


def chain_sigterm(flush: Callable[[], object], goodbye: Callable[[], object]) -> bool:
    """Flush before SIGTERM takes its course: the handler there was, or, after `goodbye`, the end of the process.

    False where that cannot be: not in the main thread, or the signal is ignored or handled outside of Python.
    """
    previous: Any = signal.getsignal(signal.SIGTERM)
    if isinstance(previous, _OnSigterm):
        return True
    if previous is None or previous is signal.SIG_IGN:
        return False
    try:
        signal.signal(signal.SIGTERM, _OnSigterm(previous, flush, goodbye))
    except ValueError:
        warn_once("sigterm", "on_sigterm() works in the main thread alone: SIGTERM is left as it was")
        return False
    return True


class _OnSigterm:
    """A handler that ends as the one before it would have."""

    def __init__(self, previous: Any, flush: Callable[[], object], goodbye: Callable[[], object]) -> None:
        self._previous = previous
        self._flush = flush
        self._goodbye = goodbye

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if callable(self._previous):
            with quiet("flushing on SIGTERM"):
                self._flush()
            return self._previous(number, frame)
        with quiet("leaving on SIGTERM"):
            self._goodbye()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return None
