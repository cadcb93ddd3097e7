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

MAX_SEARCH_CHARS = 1000
"""The longest text that the API looks for."""
_SEARCH_KEYS = {"name": "name contains", "session": "session_id =", "user": "user_id ="}
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


@dataclass(frozen=True, slots=True)
class Search:
    """What a search box asks for: a clause of the filter language, or text the API looks for (`q`); "" is neither."""

    clause: str = ""
    text: str = ""


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


def search(typed: str) -> Search:
    """What a search box asks for: a trace id of 32 digits, `name=…`, `session=…`, `user=…`, `key=…` (any other key is
    an attribute), or text of prompts and answers."""
    wanted = typed.strip()
    if re.fullmatch(r"[0-9a-fA-F]{32}", wanted):
        return Search(clause=equals("trace_id", wanted.lower()))
    key_value = re.fullmatch(r"([A-Za-z_][\w.\-]*)=(.+)", wanted)
    if not key_value:
        return Search(text=wanted)
    key, value = key_value[1], quote(key_value[2].strip())
    return Search(clause=f"{_SEARCH_KEYS[key]} {value}" if key in _SEARCH_KEYS else f"attr[{quote(key)}] = {value}")


def describe(filters: Filters) -> Mapping[str, str]:
    """The filters in force by name, for file names and for messages about an empty answer."""
    chosen = {"environment": filters.environment, "service": filters.service, "model": filters.model}
    return {name: value for name, value in chosen.items() if value}
