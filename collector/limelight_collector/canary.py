"""Canary: the collector asks itself, as a client would, whether a span it takes can be read.

Now and then one span goes in over OTLP/HTTP and is looked for through the query API, in a project of its own that no
other key reaches. What it measures is what users see: the delay from sending to reading, and whether it works at all.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from limelight_collector import metrics

log = logging.getLogger("limelight.canary")

PROJECT = "limelight-canary"
"""The project of its spans: a project id that keys can be made for, and that nobody needs."""
FIRST_AFTER_S = 10.0
"""Pause before the first round."""
PATIENCE_S = 30.0
"""Longest wait for the span to be readable."""
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Finding:
    """The last round: `state` is off, waiting, ok or failed; the seconds from sending to reading; when it ended."""

    state: str
    delay_s: float | None = None
    time_ns: int | None = None


class Canary:
    """The canary's thread. `url` is the collector's own address, `key` opens `PROJECT`, `now_ns` is the wall clock."""

    def __init__(self, url: str, key: str, interval_s: float, now_ns: Callable[[], int]) -> None:
        self.last = Finding("waiting")
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False
        )
        self._interval_s = interval_s
        self._now_ns = now_ns
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it, in the middle of a round if need be."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(15)
        self._client.close()

    def probe(self) -> Finding:
        """One round: send a span, read it back."""
        trace_id = secrets.token_hex(16)
        started = time.monotonic()
        problem = self._send(trace_id)
        while not problem and not self._is_readable(trace_id):
            if time.monotonic() - started > PATIENCE_S:
                problem = f"the span was not readable within {PATIENCE_S:g} s"
            elif self._stopping.wait(_POLL_S):
                return self.last
        delay_s = time.monotonic() - started
        metrics.CANARY_PROBES.labels("failed" if problem else "ok").inc()
        if problem:
            log.error("the canary failed", extra={"fields": {"problem": problem, "trace_id": trace_id}})
            self.last = Finding("failed", None, self._now_ns())
        else:
            metrics.CANARY_DELAY_SECONDS.observe(delay_s)
            self.last = Finding("ok", delay_s, self._now_ns())
        return self.last

    def _run(self) -> None:
        pause_s = min(FIRST_AFTER_S, self._interval_s)
        while not self._stopping.wait(pause_s):
            self.probe()
            pause_s = self._interval_s

    def _send(self, trace_id: str) -> str:
        """What is wrong with sending, or nothing."""
        now = self._now_ns()
        span = {"traceId": trace_id, "spanId": trace_id[:16], "name": "canary", "kind": 1}
        span |= {"startTimeUnixNano": str(now), "endTimeUnixNano": str(now)}
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
        try:
            answer = self._client.post("/v1/traces", content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            return f"sending: {type(error).__name__}"
        return "" if (answer.status_code, answer.text) == (200, "{}") else f"sending: status {answer.status_code}"

    def _is_readable(self, trace_id: str) -> bool:
        try:
            return self._client.get(f"/api/v1/traces/{trace_id}").status_code == 200
        except httpx.HTTPError:
            return False
