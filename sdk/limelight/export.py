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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from limelight import call as calls
from limelight import identity, semconv
from limelight.guard import LOGGER, quiet, warn_once
from limelight.otlp import Answer, Item, Request, Score, requests_of

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


@dataclass(slots=True)
class Counts:
    """What became of the items of this process: sent, and lost by reason."""

    sent: int = 0
    lost: dict[str, int] = field(default_factory=dict[str, int])

    def lose(self, reason: str, count: int) -> None:
        """Count `count` lost items."""
        self.lost[reason] = self.lost.get(reason, 0) + count


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
    ) -> None:
        self._make_sender = sender
        self._resource = resource
        self._max_items, self._max_bytes, self._batch_items = max_items, max_bytes, batch_items
        self._interval_s, self._retry_s, self._jitter = interval_s, retry_s, jitter
        self._reset()
        _exporters.add(self)

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

    def after_fork(self) -> None:
        """Drop what belongs to the parent (called in the child)."""
        closed = self._close_by
        self._reset()
        self._close_by = closed

    def start(self) -> None:
        """Start the worker now; otherwise the first item does."""
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limelight-export", daemon=True)
                self._thread.start()

    def put(self, item: Item, size: int) -> None:
        """Queue one item of about `size` bytes, or drop and count it."""
        if self._pid != os.getpid():  # a server that forks without calling Python's hooks (uWSGI)
            self.after_fork()
        with self._condition:
            if self._close_by is not None:
                self.counts.lose("closed", 1)
                return
            full = len(self._queue) >= self._max_items or self._bytes + size > self._max_bytes
            if full:
                self.counts.lose("queue_full", 1)
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
        """Send what is queued now; False where time ran out, anything was lost, or the collector refuses our key."""
        with self._condition:
            target, lost = self._accepted, sum(self.counts.lost.values())
            self._flush_to = max(self._flush_to, target)
            self._condition.notify_all()
            done = self._condition.wait_for(lambda: self._finished >= target or self._paused(), max(0.0, timeout_s))
            return done and self._finished >= target and sum(self.counts.lost.values()) == lost

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
        return closing or self._flush_to > self._finished or len(self._queue) >= self._batch_items

    def _run(self) -> None:
        # our own requests are nobody's telemetry
        muted = otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        muted = otel_context.set_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, muted)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        otel_context.attach(muted)
        while True:
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
        self._sender.close()

    def _take(self) -> list[Item]:
        if self._paused() and self._close_by is None:
            return []
        batch: list[Item] = []
        while self._queue and len(batch) < self._batch_items:
            item, size = self._queue.popleft()
            self._bytes -= size
            batch.append(item)
        return batch

    def _deliver(self, batch: list[Item]) -> None:
        for request in requests_of(batch, self._resource):
            if request.body is None:
                self.counts.lose("unsendable", request.count)
                warn_once("unsendable", "a span could not be encoded or is over 64 MiB; it is dropped")
            elif self._paused():
                self.counts.lose("unauthorised", request.count)
            else:
                self._send(request, request.body)

    def _send(self, request: Request, body: bytes) -> None:
        started = time.monotonic()
        backoff_s = _BACKOFF_FIRST_S
        while True:
            answer = self._sender.post(request.path, body, self._patience(_POST_TIMEOUT_S))
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
        if answer.kind == "ok":
            self._pause_s = 0.0
            rejected = min(answer.rejected, request.count)
            self.counts.sent += request.count - rejected
            if rejected:
                self.counts.lose("rejected", rejected)
                warn_once("rejected", "the collector rejected %d items: %s", rejected, answer.message)
            return
        self.counts.lose(answer.kind, request.count)
        if answer.kind == "unauthorised":
            self._pause_s = min(max(self._pause_s * 2, _PAUSE_FIRST_S), _PAUSE_LAST_S)
            self._paused_until = time.monotonic() + self._pause_s
        warn_once(f"lost {answer.kind}", "%d items are lost: %s", request.count, answer.message)


class Processor(SpanProcessor):
    """Gives every span of its provider the current context's attributes and queues it when it ends."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Set session, user, tags and the like; model calls also get the conversation id."""
        del parent_context
        with quiet("setting context attributes"):
            attributes = identity.attributes()
            if attributes:
                session = attributes.get(semconv.SESSION_ID)
                if session is not None and semconv.OPERATION_NAME in (span.attributes or {}):
                    attributes[semconv.CONVERSATION_ID] = session
                span.set_attributes(attributes)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span."""
        with quiet("queueing a span"):
            if span.context is not None and span.context.trace_flags.sampled:
                self._exporter.put(span, _size(span))

    def shutdown(self) -> None:
        """Nothing: the exporter is closed by the instance that made it, within its own time limit."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.flush(timeout_millis / 1000)


def _size(span: ReadableSpan) -> int:
    """About how many bytes a span holds: its strings and a flat fee for the rest."""
    size = 500
    for value in _read(span).values():
        size += len(value) + 50 if isinstance(value, str) else 60
    return size + 5_000 * len(span.events)


def _read(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes, copied at once: read one by one, each takes a lock."""
    attributes: Any = span.attributes or {}
    return attributes.copy() if hasattr(attributes, "copy") else dict(attributes)


def score_size(score: Score) -> int:
    """About how many bytes a score holds."""
    return 500 + len(score.explanation or "")


_exporters: weakref.WeakSet[Exporter] = weakref.WeakSet()


def _in_child() -> None:
    with quiet("starting in a forked child"):
        calls.forget_all()
        for exporter in list(_exporters):
            exporter.after_fork()
        LOGGER.debug("forked: the child has its own queue")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
