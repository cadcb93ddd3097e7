"""Trace memory: what is known of recent traces, so that the store is asked only about those that came before.

Three layers: the facts of the latest traces; which traces were ever seen (a Bloom filter: a false yes costs one query,
a no is certain within its span); and the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from limelight_collector.traces import Fact, Verdict

TraceKey = tuple[str, bytes]
"""(project id, trace id)."""

MAX_SPANS = 150_000
"""Spans whose facts are remembered: about 60 MB."""
MAX_TRACE_SPANS = 10_000
"""Spans of one trace that take part in its decisions; a trace that goes on for ever is no request."""


@dataclass(slots=True)
class Known:
    """Facts and standing verdicts of one trace; `start_ns` finds a span's row again."""

    facts: dict[bytes, Fact] = field(default_factory=dict[bytes, Fact])
    verdicts: dict[bytes, Verdict] = field(default_factory=dict[bytes, Verdict])


class TraceMemory:
    """The latest traces, least recently touched forgotten first."""

    def __init__(self, max_spans: int = MAX_SPANS) -> None:
        self._max_spans = max_spans
        self._spans = 0
        self._traces: OrderedDict[TraceKey, Known] = OrderedDict()

    def get(self, key: TraceKey) -> Known | None:
        """What is remembered of a trace."""
        return self._traces.get(key)

    def keep(self, key: TraceKey, known: Known) -> None:
        """Remember a trace as it now is."""
        before = self._traces.pop(key, None)
        self._spans += len(known.facts) - (len(before.facts) if before else 0)
        self._traces[key] = known
        while self._spans > self._max_spans and self._traces:
            _, forgotten = self._traces.popitem(last=False)
            self._spans -= len(forgotten.facts)

    def forget(self, keys: Iterable[TraceKey]) -> None:
        """Drop traces whose rows may differ from what is remembered: the store is asked the next time."""
        for key in keys:
            before = self._traces.pop(key, None)
            if before is not None:
                self._spans -= len(before.facts)

    def forget_project(self, project_id: str) -> None:
        """Drop every trace of a project."""
        self.forget([key for key in self._traces if key[0] == project_id])


_BITS = 2**25
_HASHES = 3
_GENERATION = 3_000_000


class SeenTraces:
    """Whether a trace was seen among the last 3 to 6 million: two Bloom filters, the older one replaced when full.

    4 MiB each, 3 hashes taken from the id itself, which is random: about 1 in 80 unseen traces is taken for a seen one.
    """

    def __init__(self) -> None:
        self._new = bytearray(_BITS // 8)
        self._old = bytearray(_BITS // 8)
        self._count = 0

    def add(self, trace_id: bytes) -> None:
        """Remember a trace."""
        if self._count >= _GENERATION:
            self._old, self._new, self._count = self._new, bytearray(_BITS // 8), 0
        self._count += 1
        bits = self._new
        for bit in _positions(trace_id):
            bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, trace_id: bytes) -> bool:
        """Whether the trace may have been seen."""
        places = _positions(trace_id)
        return any(all(bits[bit >> 3] >> (bit & 7) & 1 for bit in places) for bits in (self._new, self._old))


def _positions(trace_id: bytes) -> tuple[int, int, int]:
    number = int.from_bytes(trace_id, "big")
    mask = _BITS - 1
    return number & mask, (number >> 40) & mask, (number >> 80) & mask
