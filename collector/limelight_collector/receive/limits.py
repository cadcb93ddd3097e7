"""What a request may cost: a budget of bytes in flight, shared by all requests, and one request's part of it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from limelight_collector import metrics
from limelight_collector.errors import Unavailable

if TYPE_CHECKING:
    from typing_extensions import Self


class ByteBudget:
    """Request bytes, compressed and inflated, that may be held at one time by all requests together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def reserve(self, size: int) -> None:
        """Take `size` bytes or raise `Unavailable`."""
        with self._lock:
            if self.used + size > self.limit:
                metrics.MEMORY_REFUSED.inc()
                raise Unavailable("too many requests are being decoded at once", retry_after_s=1)
            self.used += size

    def require(self, size: int) -> None:
        """Raise `Unavailable` where `size` bytes cannot be had now; takes nothing."""
        self.reserve(size)
        self.release(size)

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        with self._lock:
            self.used -= size


class Lease:
    """One request's share of a `ByteBudget`; leaving the `with` block gives all of it back."""

    def __init__(self, budget: ByteBudget, max_bytes: int) -> None:
        self._budget = budget
        self.max_bytes = max_bytes
        self.held = 0

    def grow(self, size: int) -> None:
        """Hold `size` more bytes or raise `Unavailable`."""
        self._budget.reserve(size)
        self.held += size

    def shrink(self, held: int) -> None:
        """Give back all but `held` bytes."""
        self._budget.release(self.held - held)
        self.held = held

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        held, self.held = self.held, 0
        self._budget.release(held)

    def __enter__(self) -> Self:
        """The lease itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close."""
        self.close()
