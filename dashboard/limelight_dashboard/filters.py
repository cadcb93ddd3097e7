"""What the reader is looking at: a time window and four filters, and how they become the API's filter language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

WINDOWS: dict[str, timedelta] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
DEFAULT_WINDOW = "1h"
REFRESH_GRAIN_S = 15
"""Now is rounded down to this, so that two reruns ask the same question and the cache can answer the second."""

_STEPS_S = (15, 60, 300, 900, 3600, 6 * 3600, 86_400)
_MOST_BUCKETS = 170


@dataclass(frozen=True, slots=True)
class Filters:
    """A window [start, end) in UTC and the chosen environment, service and model; "" means all of them."""

    start: datetime
    end: datetime
    environment: str = ""
    service: str = ""
    model: str = ""

    @property
    def step_s(self) -> int:
        """Bucket width of a time series in seconds: the finest that keeps the window under 170 buckets."""
        length = (self.end - self.start).total_seconds()
        return next((step for step in _STEPS_S if length / step <= _MOST_BUCKETS), _STEPS_S[-1])

    def before(self) -> Filters:
        """The window of equal length that ends where this one starts: what deltas compare with."""
        return replace(self, start=self.start - (self.end - self.start), end=self.start)

    def expression(self, *more: str) -> str:
        """The filter expression of these filters and `more` clauses; "" lets everything through."""
        clauses = [
            equals(name, value)
            for name, value in (
                ("environment", self.environment),
                ("service_name", self.service),
                ("request_model", self.model),
            )
            if value
        ]
        clauses += [f"({clause})" if " or " in clause else clause for clause in more if clause]
        return " and ".join(clauses)


def last(window: timedelta, now: datetime) -> tuple[datetime, datetime]:
    """The window that ends now, `now` rounded up to the refresh grain."""
    grain = REFRESH_GRAIN_S
    end = datetime.fromtimestamp((int(now.timestamp()) // grain + 1) * grain, timezone.utc)
    return end - window, end


def quote(text: str) -> str:
    r"""A string literal of the filter language: `"` and `\` escaped, control characters as \uXXXX."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def equals(name: str, value: str) -> str:
    """The clause `name = "value"`."""
    return f"{name} = {quote(value)}"


def search_clause(text: str) -> str:
    """The clause of a search box: a 32-digit id, `key=value` (an attribute), or a word found in name, ids or text."""
    wanted = text.strip()
    if not wanted:
        return ""
    if re.fullmatch(r"[0-9a-fA-F]{32}", wanted):
        return equals("trace_id", wanted.lower())
    key_value = re.fullmatch(r"([A-Za-z_][\w.\-]*)=(.+)", wanted)
    if key_value:
        return f"attr[{quote(key_value[1])}] = {quote(key_value[2].strip())}"
    word = quote(wanted)
    contains = " or ".join(f"{name} contains {word}" for name in ("name", "input_text", "output_text"))
    return f"{contains} or session_id = {word} or user_id = {word}"


def describe(filters: Filters) -> Mapping[str, str]:
    """The filters in force by name, for file names and for messages about an empty answer."""
    chosen = {"environment": filters.environment, "service": filters.service, "model": filters.model}
    return {name: value for name, value in chosen.items() if value}
