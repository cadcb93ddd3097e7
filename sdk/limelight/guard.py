"""Keep our own faults out of the host program: `quiet` swallows and reports them, `warn_once` speaks once a kind.

What `quiet` swallows is counted in `SWALLOWED`; our own test run fails a test that swallowed anything.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

LOGGER = logging.getLogger("limelight")
SWALLOWED: Counter[str] = Counter()
"""How many internal errors were swallowed, by kind, since the process started."""

_warned: set[str] = set()
_P = ParamSpec("_P")
_T = TypeVar("_T")


class quiet:  # noqa: N801  a context manager and decorator reads as a verb, like contextlib.suppress
    """`with quiet(kind):` or `@quiet(kind)`: an `Exception` inside is logged and swallowed; a decorated function then
    returns None. Cancellation, exit and keyboard interrupts pass.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        with contextlib.suppress(Exception):  # nothing is left to report it to
            report(self._kind, error)
        return True

    def __call__(self, function: Callable[_P, _T]) -> Callable[_P, _T | None]:
        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
            with self:
                return function(*args, **kwargs)
            return None

        return guarded


def report(kind: str, error: Exception) -> None:
    """Count a swallowed error and log the 1st, 10th, 100th … of a kind: a hot path must not fill the host's log."""
    SWALLOWED[kind] += 1
    count = SWALLOWED[kind]
    if str(count).strip("0") == "1":
        LOGGER.warning("internal error while %s (%d so far); your program is not affected", kind, count, exc_info=error)


def warn_once(kind: str, message: str, *values: object) -> None:
    """Log one warning for each `kind` in a process; later ones go to DEBUG."""
    level = logging.DEBUG if kind in _warned else logging.WARNING
    _warned.add(kind)
    LOGGER.log(level, message, *values)


def forget_warnings() -> None:
    """Let every kind of warning be given again (a new `init`, a test)."""
    _warned.clear()
