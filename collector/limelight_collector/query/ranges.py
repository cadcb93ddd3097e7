"""Stretches of time as SQL that the primary key can use."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

Range = tuple[int, int]
"""[start, end)."""
MOST_RANGES = 64
"""Ranges that one statement names."""


def merged(buckets: Iterable[int], length: int) -> list[Range]:
    """Buckets of `length`, by their starts, as the fewest ranges."""
    found: list[Range] = []
    for start in sorted(set(buckets)):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], start + length)
        else:
            found.append((start, start + length))
    return found


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same stretches in order, as the fewest ranges."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def covering(ranges: Iterable[Range], most: int = MOST_RANGES) -> list[Range]:
    """At most `most` ranges that hold all of these, leaving out the widest gaps between them."""
    whole = joined(ranges)
    if not whole:
        return []
    gaps = [(after[0] - before[1], before[1], after[0]) for before, after in pairwise(whole)]
    kept = sorted((end, start) for _, end, start in sorted(gaps, reverse=True)[: most - 1])
    edges = [whole[0][0], *(edge for gap in kept for edge in gap), whole[-1][1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def starts_within(ranges_ns: Iterable[Range]) -> str:
    """SQL: `start_time` lies in one of these ranges of nanoseconds since 1970."""
    return _any(
        f"(start_time >= fromUnixTimestamp64Nano({start:d}) AND start_time < fromUnixTimestamp64Nano({end:d}))"
        for start, end in ranges_ns
    )


def starts_at(starts_ns: Iterable[int]) -> str:
    """SQL: `start_time` lies in a few ranges that hold these moments."""
    return starts_within(covering((start, start + 1) for start in starts_ns))


def buckets_within(ranges_s: Iterable[Range]) -> str:
    """SQL: `bucket` lies in one of these ranges of seconds since 1970."""
    return _any(f"(bucket >= toDateTime({start:d}) AND bucket < toDateTime({end:d}))" for start, end in ranges_s)


def _any(parts: Iterable[str]) -> str:
    found = " OR ".join(parts)
    return f"({found})" if found else "0"
