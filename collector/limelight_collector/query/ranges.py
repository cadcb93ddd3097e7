"""Stretches of time as SQL that the primary key can use."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
"""[start, end)."""


def merged(buckets: Iterable[int], length: int) -> list[Range]:
    """Buckets of `length`, by their starts, as the fewest ranges."""
    found: list[Range] = []
    for start in sorted(set(buckets)):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], start + length)
        else:
            found.append((start, start + length))
    return found


def starts_within(ranges_ns: Iterable[Range]) -> str:
    """SQL: `start_time` lies in one of these ranges of nanoseconds since 1970."""
    return _any(
        f"(start_time >= fromUnixTimestamp64Nano({start:d}) AND start_time < fromUnixTimestamp64Nano({end:d}))"
        for start, end in ranges_ns
    )


def buckets_within(ranges_s: Iterable[Range]) -> str:
    """SQL: `bucket` lies in one of these ranges of seconds since 1970."""
    return _any(f"(bucket >= toDateTime({start:d}) AND bucket < toDateTime({end:d}))" for start, end in ranges_s)


def _any(parts: Iterable[str]) -> str:
    found = " OR ".join(parts)
    return f"({found})" if found else "0"
