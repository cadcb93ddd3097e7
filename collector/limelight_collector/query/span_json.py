"""A stored span as the API shows it: design contract 'Span JSON'. Unknown is null, never 0 and never ""."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from itertools import accumulate
from typing import Any

from limelight_collector.store.columns import COLUMNS, JsonKind

_DEEPEST = 200  # levels of a stored JSON text; encoding an answer recurses
_JSON = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity are no JSON
_BRACKET = re.compile(r"[\[{\]}]")
SHOWN = [column for column in COLUMNS if column.json != "hidden"]
SELECTED = ", ".join(["project_id", *(column.name for column in SHOWN)])
"""The columns `span_object` needs."""


def time_text(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine digits: 1790000000000000001 -> 2026-09-21T14:13:20.000000001Z."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def decimal_text(value: Decimal | None) -> str | None:
    """Plain digits without trailing zeros: Decimal('0.0100') -> "0.01"."""
    if value is None:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(value: Any) -> float | None:
    """A float that JSON can carry: NaN and infinities (no data in an aggregate) are null."""
    return None if value is None or not math.isfinite(value) else float(value)


def parsed(text: str) -> Any:
    """The value of a JSON text; null where empty; a text that is no JSON, or nested absurdly deep, as itself."""
    if not text:
        return None
    if text.count("[") + text.count("{") > _DEEPEST and _depth(text) > _DEEPEST:
        return text
    try:
        return _JSON.decode(text)
    except ValueError:
        return text


def _depth(text: str) -> int:
    # Brackets inside strings count too: an overestimate, which is the safe side.
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKET.findall(text))
    return max(accumulate(steps), default=0)


def _map(values: dict[str, str]) -> dict[str, Any]:
    return {name: parsed(value) for name, value in values.items()}


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "text": lambda value: value or None,
    "hex": lambda value: value.hex() if any(value) else None,
    "time": time_text,
    "float": number,
    "decimal": decimal_text,
    "list": lambda value: list(value) or None,
    "json": parsed,
    "map": _map,
}


def as_json(kind: JsonKind, value: Any) -> Any:
    """The value of a column of that kind as JSON."""
    convert = _CONVERT.get(kind)
    return convert(value) if convert else value


_CONVERTED = [(column.name, _CONVERT.get(column.json)) for column in SHOWN]


def span_object(
    row: dict[str, Any], flags: list[dict[str, Any]] | None = None, scores: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The JSON object of one row of `SELECTED`; every key of the contract is present."""
    span: dict[str, Any] = {name: convert(row[name]) if convert else row[name] for name, convert in _CONVERTED}
    span["end_time"] = time_text(row["start_time"] + row["duration_ns"])
    span["project"] = row["project_id"]
    span["status"] = "error" if row["status"] == "error" else "ok"
    span["events"] = span["events"] or []
    span["links"] = span["links"] or []
    return span | {"flags": flags or [], "scores": scores or []}
