"""Durations as people write them: "90s", "5m", "1h30m", "7d", or plain seconds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def parse_duration_s(value: Any) -> Any:
    """Seconds of a duration text; numbers pass through. Raises ValueError with an example for any other text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not _WHOLE.fullmatch(text):
        raise ValueError('write a duration as seconds or like "30s", "5m", "1h30m", "7d"')
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def write_duration(seconds: float) -> str:
    """The shortest form: 90 -> "1m30s", 300 -> "5m", 0.5 -> "500ms", 0 -> "0s"."""
    rest_ms = round(seconds * 1000)
    parts: list[str] = []
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest_ms = divmod(rest_ms, size_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


DurationS = Annotated[float, BeforeValidator(parse_duration_s)]
"""A pydantic field in seconds that takes duration texts too."""
