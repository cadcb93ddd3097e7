"""What a request may cost: a budget of bytes in flight, and inflating that stops at a cap."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from isal import isal_zlib
from isal.igzip_lib import IsalError

from limelight_collector import metrics
from limelight_collector.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from typing_extensions import Self

_STEP = 256 * 1024
"""Output bytes of one inflate step: how far a bomb may run ahead of the budget."""


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


def too_large(limit: int) -> Rejected:
    """The error of a body over `limit` bytes."""
    return Rejected("too_large", f"the request is larger than {limit} bytes; send smaller batches")


def inflate(body: bytes, lease: Lease) -> bytes:
    """The bytes inside a gzip body of one or more members.

    `Rejected`: too_large once the output passes the lease's `max_bytes`, bad_request where it is damaged or cut short.
    `Unavailable`: over the budget. Output grows in small steps, so a bomb costs its cap and not its size.
    """
    chunks: list[bytes] = []
    size = 0
    rest = body
    while rest:
        member = isal_zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                chunk: bytes = member.decompress(rest, _STEP)
            except IsalError:  # pyright: ignore[reportGeneralTypeIssues] - its stub hides the base class
                raise Rejected("bad_request", "the gzip body is damaged") from None
            rest = member.unconsumed_tail
            if not chunk and not rest and not member.eof:
                raise Rejected("bad_request", "the gzip body ends before its end marker")
            size += len(chunk)
            if size > lease.max_bytes:
                raise too_large(lease.max_bytes)
            lease.grow(len(chunk))
            chunks.append(chunk)
        rest = member.unused_data
    return b"".join(chunks)
