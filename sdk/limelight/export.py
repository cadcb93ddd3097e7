"""From ended spans to the collector: a bounded queue, one daemon thread a process, and a bounded goodbye.

Nothing is ever sent on the caller's thread. What does not fit is dropped and counted. A forked child starts afresh: its
parent's queue is the parent's to send. A collector that is dead, slow or wrong costs the host a queue and a warning.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource

from limelight import call as calls
from limelight import semconv
from limelight.guard import LOGGER, SWALLOWED, quiet, warn_once
from limelight.metrics import Metrics, Point
from limelight.otlp import METRICS, TRACES, Answer, Item, Request, Score, requests_of

_POST_TIMEOUT_S = 10.0
_BACKOFF_FIRST_S, _BACKOFF_LAST_S = 0.5, 30.0
_PAUSE_FIRST_S, _PAUSE_LAST_S = 30.0, 600.0


class Posts(Protocol):
    """What an exporter sends through (`otlp.Sender`)."""

    def post(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """Send one uncompressed body; answers, never raises."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


_PROCESSED = {False: semconv.METRIC_LOGS_PROCESSED, True: semconv.METRIC_SPANS_PROCESSED}
_EXPORTED = {False: semconv.METRIC_LOGS_EXPORTED, True: semconv.METRIC_SPANS_EXPORTED}


@dataclass(slots=True)
class Counts:
    """What became of the items of this process: sent, and lost by reason; `by_metric` the same by (metric, error)."""

    sent: int = 0
    lost: dict[str, int] = field(default_factory=dict[str, int])
    by_metric: dict[tuple[str, str | None], int] = field(default_factory=dict[tuple[str, "str | None"], int])

    def lose(self, reason: str, count: int, metric: str) -> None:
        """Count `count` lost items."""
        self.lost[reason] = self.lost.get(reason, 0) + count
        self.book(metric, reason, count)

    def book(self, metric: str, error: str | None, count: int) -> None:
        """Count items that passed a stage, well (None) or for the reason they were lost there."""
        if count:
            self.by_metric[metric, error] = self.by_metric.get((metric, error), 0) + count


class Exporter:
    """The queue and its worker. `flush` and `close` wait no longer than they are told."""

    def __init__(
        self,
        sender: Callable[[], Posts],
        resource: Resource,
        *,
        max_items: int = 10_000,
        max_bytes: int = 64 * 2**20,
        batch_items: int = 512,
        interval_s: float = 1.0,
        retry_s: float = 60.0,
        jitter: Callable[[], float] = random.random,
        metrics: Metrics | None = None,
        metrics_interval_s: float = 60.0,
    ) -> None:
        self._make_sender = sender
        self._resource = resource
        self._max_items, self._max_bytes, self._batch_items = max_items, max_bytes, batch_items
        self._interval_s, self._retry_s, self._jitter = interval_s, retry_s, jitter
        self._metrics, self._metrics_interval_s = metrics, metrics_interval_s
        self._reset()
        after_fork(self)

    def _reset(self) -> None:
        """A clean state: at first, and in a forked child, where locks, thread, socket and queue are the parent's."""
        self._pid = os.getpid()
        self._condition = threading.Condition()  # over an RLock: a collection during `put` may end a span
        self._queue: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._accepted = self._finished = self._flush_to = 0
        self._pause_s = self._paused_until = 0.0
        self._close_by: float | None = None
        self._thread: threading.Thread | None = None
        self._sender = self._make_sender()
        self.counts = Counts()
        self._swallowed = SWALLOWED.copy()
        self._report_wanted = self._is_unreachable = False
        self.points_rejected = 0
        self._report_at = time.monotonic() + self._metrics_interval_s
        if self._metrics is not None:
            self._metrics.wake = self.start

    def after_fork(self) -> None:
        """Drop what belongs to the parent (called in the child)."""
        closed = self._close_by
        if self._metrics is not None:
            self._metrics.after_fork()
        self._reset()
        self._close_by = closed

    @property
    def is_running(self) -> bool:
        """Whether the worker is there; asked for each span, so that a process without spans has no thread."""
        return self._thread is not None

    def start(self) -> None:
        """Start the worker, if it is not there and we are not leaving."""
        if self._pid != os.getpid():
            self.after_fork()
        with self._condition:
            if self._metrics is not None:
                self._metrics.wake = None
            if self._thread is not None or self._close_by is not None:
                return
            thread = threading.Thread(target=quiet("exporting")(self._run), name="limelight-export", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down
                LOGGER.debug("no thread can be started: what is queued now is lost")
            else:
                self._thread = thread

    def put(self, item: Item, size: int) -> None:
        """Queue one item of about `size` bytes, or drop and count it."""
        if self._pid != os.getpid():  # a server that forks without calling Python's hooks (uWSGI)
            self.after_fork()
        processed = _PROCESSED[not isinstance(item, Score)]
        with self._condition:
            if self._close_by is not None:
                self.counts.lose("closed", 1, processed)
                return
            full = len(self._queue) >= self._max_items or self._bytes + size > self._max_bytes
            if full:
                self.counts.lose("queue_full", 1, processed)
            else:
                self._queue.append((item, size))
                self._bytes += size
                self._accepted += 1
                if self._thread is None:
                    self.start()
                elif len(self._queue) == self._batch_items:
                    self._condition.notify_all()
        if full:
            warn_once("queue full", "the export queue is full; spans are dropped until the collector catches up")

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued now, and metrics; False where time ran out, an item was lost, or our key is refused."""
        with self._condition:
            target, lost = self._accepted, sum(self.counts.lost.values())
            self._flush_to = max(self._flush_to, target)
            self._report_wanted = self._thread is not None and self._metrics is not None
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._flushed(target) or self._paused(), max(0.0, timeout_s))
            return self._finished >= target and sum(self.counts.lost.values()) == lost

    def _flushed(self, target: int) -> bool:
        return self._finished >= target and not self._report_wanted

    def close(self, timeout_s: float) -> bool:
        """Take no more items, send what is queued, and stop; False where it took too long or anything was lost."""
        with self._condition:
            if self._close_by is None:
                self._close_by = time.monotonic() + timeout_s
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        return self._finished == self._accepted and not self.counts.lost

    def _paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _due(self) -> bool:
        closing = self._close_by is not None
        flushing = self._flush_to > self._finished or self._report_wanted
        return closing or flushing or len(self._queue) >= self._batch_items

    def _run(self) -> None:
        # our own requests are nobody's telemetry, and below nobody's span
        muted = otel_context.Context()
        for key in (otel_context._SUPPRESS_INSTRUMENTATION_KEY, otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY):  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
            muted = otel_context.set_value(key, True, muted)
        otel_context.attach(muted)
        while True:
            with quiet("ending abandoned streams"):
                calls.reap()
            with self._condition:
                self._condition.wait_for(self._due, self._interval_s)
                batch = self._take()
                if not batch and self._close_by is not None:
                    break
                if not batch and self._paused():
                    self._condition.wait(self._interval_s)
            with quiet("exporting"):
                self._deliver(batch)
            with self._condition:
                self._finished += len(batch)
                self._condition.notify_all()
            with quiet("reporting metrics"):
                self._report_if_due()
        with quiet("reporting metrics"):
            self._report()
        self._sender.close()

    def _take(self) -> list[Item]:
        if self._paused() and self._close_by is None:
            return []
        batch: list[Item] = []
        while self._queue and len(batch) < self._batch_items:
            item, size = self._queue.popleft()
            self._bytes -= size
            batch.append(item)
        spans = sum(not isinstance(item, Score) for item in batch)
        self.counts.book(semconv.METRIC_SPANS_PROCESSED, None, spans)
        self.counts.book(semconv.METRIC_LOGS_PROCESSED, None, len(batch) - spans)
        return batch

    def _deliver(self, batch: list[Item]) -> None:
        for request in requests_of(batch, self._resource):
            if request.body is None:
                self.counts.lose("unsendable", request.count, _EXPORTED[request.path == TRACES])
                warn_once("unsendable", "a span could not be encoded or is over 64 MiB; it is dropped")
            elif self._paused():
                self.counts.lose("unauthorised", request.count, _EXPORTED[request.path == TRACES])
            else:
                self._send(request, request.body)

    def _send(self, request: Request, body: bytes) -> None:
        started = time.monotonic()
        backoff_s = _BACKOFF_FIRST_S
        while True:
            answer = self._sender.post(request.path, body, self._patience(_POST_TIMEOUT_S))
            self._is_unreachable = answer.kind == "unreachable"
            if answer.kind not in {"retry", "unreachable"}:
                return self._settle(request, answer)
            wait_s = max(backoff_s * (0.5 + self._jitter()), answer.retry_after_s or 0.0)
            if not self._worth_waiting(answer, wait_s, started):
                return self._settle(request, answer)
            warn_once(answer.kind, "cannot reach the collector (%s); trying again in the background", answer.message)
            self._rest(wait_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_LAST_S)

    def _patience(self, most_s: float) -> float:
        """Seconds a step may take: less when we are leaving."""
        close_by = self._close_by
        return most_s if close_by is None else min(most_s, max(0.1, close_by - time.monotonic()))

    def _worth_waiting(self, answer: Answer, wait_s: float, started: float) -> bool:
        ends = time.monotonic() + wait_s
        if self._close_by is not None:  # leaving: a collector that is not there will not be there in a second either
            return answer.kind == "retry" and ends < self._close_by
        return ends - started < self._retry_s

    def _rest(self, wait_s: float) -> None:
        with self._condition:
            if self._close_by is None:
                self._condition.wait_for(lambda: self._close_by is not None, wait_s)
            else:
                self._condition.wait(self._patience(wait_s))

    def _settle(self, request: Request, answer: Answer) -> None:
        """Book one finished request: sent, rejected in part, or lost."""
        exported = _EXPORTED[request.path == TRACES]
        if answer.kind == "ok":
            self._pause_s = 0.0
            rejected = min(answer.rejected, request.count)
            self.counts.sent += request.count - rejected
            self.counts.book(exported, None, request.count - rejected)
            if rejected:
                self.counts.lose("rejected", rejected, exported)
                warn_once("rejected", "the collector rejected %d items: %s", rejected, answer.message)
            return
        self.counts.lose(answer.kind, request.count, exported)
        if answer.kind == "unauthorised":
            self._pause()
        warn_once(f"lost {answer.kind}", "%d items are lost: %s", request.count, answer.message)

    def _pause(self) -> None:
        self._pause_s = min(max(self._pause_s * 2, _PAUSE_FIRST_S), _PAUSE_LAST_S)
        self._paused_until = time.monotonic() + self._pause_s

    def _report_if_due(self) -> None:
        """Send the metrics once a minute, and once nothing is queued of what a `flush` waits for."""
        metrics = self._metrics
        if metrics is None:
            return
        metrics.add_up()
        flushing = self._report_wanted and self._finished >= self._flush_to
        if (flushing and metrics.has_news) or time.monotonic() >= self._report_at:
            self._report()
        if flushing:
            with self._condition:
                self._report_wanted = False
                self._condition.notify_all()

    def _report(self) -> None:
        """Send the metrics. Cumulative sums need no retry, and the spans tell of a collector that is not there."""
        metrics = self._metrics
        self._report_at = time.monotonic() + self._metrics_interval_s
        leaves_nobody_there = self._close_by is not None and self._is_unreachable
        if metrics is None or self._paused() or leaves_nobody_there:
            return
        from limelight.otlp_metrics import encode  # what it imports is for those who send metrics

        metrics.add_up()
        metrics.has_news = False
        points, described = [*metrics.points(), *self._points()], metrics.resource(self._resource.attributes)
        body = encode(points, described, metrics.started_ns, time.time_ns())
        answer = self._sender.post(METRICS, body, self._patience(_POST_TIMEOUT_S))
        if answer.kind == "unauthorised":
            self._pause()
            warn_once("lost unauthorised", "metrics are lost: %s", answer.message)
        elif answer.kind != "ok" or answer.rejected:
            LOGGER.debug("metrics: %s, %d points rejected: %s", answer.kind, answer.rejected, answer.message)
        self.points_rejected += answer.rejected

    def _points(self) -> Iterator[Point]:
        """Our own state, by OpenTelemetry's sdk-metrics conventions."""
        component = {semconv.COMPONENT_TYPE: "batching_span_processor", semconv.COMPONENT_NAME: "limelight"}
        yield Point(semconv.METRIC_QUEUE_SIZE, "{span}", component, len(self._queue), is_monotonic=False)
        yield Point(semconv.METRIC_QUEUE_CAPACITY, "{span}", component, self._max_items, is_monotonic=False)
        for (metric, error), count in list(self.counts.by_metric.items()):
            is_exporter = ".exporter." in metric
            kind = {semconv.COMPONENT_TYPE: "otlp_http_span_exporter"} if is_exporter else {}
            attributes = {**component, **kind, **({semconv.ERROR_TYPE: error} if error else {})}
            yield Point(metric, "{span}" if ".span." in metric else "{log_record}", attributes, count)
        for kind, count in (SWALLOWED - self._swallowed).items():
            yield Point(semconv.METRIC_INTERNAL_ERRORS, "{error}", {semconv.ERROR_TYPE: kind}, count)


class Forks(Protocol):
    """What must start afresh in a forked child."""

    def after_fork(self) -> None:
        """Called in the child."""
        ...


_forks: weakref.WeakSet[Forks] = weakref.WeakSet()


def after_fork(one: Forks) -> None:
    """Have `one.after_fork()` called in every forked child, for as long as something else holds it."""
    _forks.add(one)


def _in_child() -> None:
    with quiet("starting in a forked child"):
        calls.forget_all()
        for one in list(_forks):
            one.after_fork()
        LOGGER.debug("forked: the child has its own queue")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
