"""What model calls add up to: the conventions' four client histograms, for every call, sampled or not.

A call leaves one small tuple (0.8 µs, no lock); the export worker adds the tuples up and sends the sums, cumulative
since the process started, every minute and at `flush`. Why not the OpenTelemetry SDK's instruments: docs/adr/0004.
Names, units and boundaries: OpenTelemetry GenAI conventions, November 2026.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from limelight import semconv
from limelight.guard import quiet

SECONDS = tuple(0.01 * 2**power for power in range(14))
"""Bucket boundaries of durations: 0.01 to 81.92 s."""
TOKENS = tuple(4.0**power for power in range(14))
"""Bucket boundaries of token counts: 1 to 67,108,864."""
MAX_SERIES = 1000
"""Most sets of attributes kept; the calls of further ones are added to one series marked `otel.metric.overflow`."""
_MAX_FRESH = 10_000

_KEYS = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.ERROR_TYPE,
)
_OVERFLOW: tuple[Any, ...] = ()
_INPUT, _OUTPUT = {semconv.TOKEN_TYPE: "input"}, {semconv.TOKEN_TYPE: "output"}
# metric, unit, boundaries, attributes beside the series' own: in the order of `Metrics.record`'s values
_HISTOGRAMS: tuple[tuple[str, str, tuple[float, ...], dict[str, str]], ...] = (
    (semconv.METRIC_OPERATION_DURATION, "s", SECONDS, {}),
    (semconv.METRIC_TOKEN_USAGE, "{token}", TOKENS, _INPUT),
    (semconv.METRIC_TOKEN_USAGE, "{token}", TOKENS, _OUTPUT),
    (semconv.METRIC_TIME_TO_FIRST_CHUNK, "s", SECONDS, {}),
    (semconv.METRIC_TIME_PER_OUTPUT_CHUNK, "s", SECONDS, {}),
)


@dataclass(frozen=True, slots=True)
class Point:
    """A line of a metric: its attributes and a sum (`value`), or a histogram (`counts` by bucket, `total` of all)."""

    metric: str
    unit: str
    attributes: Mapping[str, Any]
    value: int = 0
    is_monotonic: bool = True
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    total: float = 0.0


class Histogram:
    """Counts by bucket, as the conventions have them: a value on a boundary belongs below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all_ns(self, values_ns: Collection[int]) -> None:
        """Count many values of seconds, given in nanoseconds."""
        bounds_ns = [bound * 1e9 for bound in self.bounds]
        for value_ns in values_ns:
            self.counts[bisect_left(bounds_ns, value_ns)] += 1
        self.total += sum(values_ns) / 1e9


class Metrics:
    """The sums of one process. `record` may be called on any thread at any time, also inside a collection."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self.wake: Callable[[], None] | None = None
        """Called with the next record, which a worker must be there for."""
        self.after_fork()

    def after_fork(self) -> None:
        """Start from nothing, as a process of its own."""
        self.started_ns = self._wall_ns()
        self.has_news = False
        """Whether anything was added up since the last report."""
        self._instance_id = str(uuid.uuid4())
        self._fresh: deque[tuple[Any, ...]] = deque()
        self._series: dict[tuple[Any, ...], list[Histogram]] = {}
        self._adding = threading.Lock()

    def record(
        self,
        request: Mapping[str, Any],
        response: Mapping[str, Any],
        duration_s: float,
        gaps_ns: Collection[int] | None = None,
    ) -> None:
        """Note one ended model call: attributes it started with, those it ended with, and times between its chunks."""
        asked, said = request.get, response.get
        key = (
            asked(semconv.OPERATION_NAME),
            said(semconv.PROVIDER_NAME) or asked(semconv.PROVIDER_NAME),
            asked(semconv.REQUEST_MODEL),
            said(semconv.RESPONSE_MODEL),
            said(semconv.SERVER_ADDRESS) or asked(semconv.SERVER_ADDRESS),
            said(semconv.SERVER_PORT) or asked(semconv.SERVER_PORT),
            said(semconv.ERROR_TYPE),
        )
        first = said(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        tokens = said(semconv.USAGE_INPUT_TOKENS), said(semconv.USAGE_OUTPUT_TOKENS)
        self._fresh.append((key, (duration_s, *tokens, first), gaps_ns))
        if self.wake is not None:
            self.wake()
        if len(self._fresh) > _MAX_FRESH:  # the worker is held up by a slow collector
            self.add_up()

    def add_up(self) -> None:
        """Move what was noted into the sums; does nothing where another thread is at it."""
        # never waited for: a signal handler may end a call while this thread is in here
        if self._adding.acquire(blocking=False):
            try:
                while self._fresh:
                    with quiet("adding up metrics"):
                        self._add(*self._fresh.popleft())
                        self.has_news = True
            finally:
                self._adding.release()

    def _add(self, key: tuple[Any, ...], values: tuple[float | None, ...], gaps_ns: Collection[int] | None) -> None:
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                key = _OVERFLOW
            series = self._series.setdefault(key, [Histogram(bounds) for _, _, bounds, _ in _HISTOGRAMS])
        for histogram, value in zip(series, values, strict=False):
            if value is not None:
                histogram.add(value)
        if gaps_ns:
            series[-1].add_all_ns(gaps_ns)

    def resource(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The resource's attributes and what tells this process from its parent and siblings: sums have one writer."""
        return {semconv.SERVICE_INSTANCE_ID: self._instance_id, **attributes, semconv.PROCESS_PID: os.getpid()}

    def points(self) -> Iterator[Point]:
        """The sums so far; used by the worker, after `add_up`."""
        for key, series in list(self._series.items()):
            own = {name: value for name, value in zip(_KEYS, key, strict=False) if value is not None}
            if key is _OVERFLOW:
                own = {semconv.METRIC_OVERFLOW: True}
            for histogram, (metric, unit, bounds, extra) in zip(series, _HISTOGRAMS, strict=True):
                counts = tuple(histogram.counts)
                if any(counts):
                    yield Point(metric, unit, {**own, **extra}, bounds=bounds, counts=counts, total=histogram.total)
