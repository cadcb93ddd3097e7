"""Histograms as counts in intervals, and quantiles of them. Pure.

Intervals of different histograms may overlap: explicit bounds of two clients, or explicit and exponential ones. Within
an interval values are taken to be spread evenly, so what all of them say together is a piecewise linear distribution.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping

Interval = tuple[float, float, int]
"""(low, high, count) with low <= high, both finite, and a count above 0."""

_LARGEST_EXPONENT = math.log2(sys.float_info.max)
_ROUNDING = 1e-12


def explicit(bounds: list[float], counts: Iterable[int]) -> list[Interval]:
    """The intervals of explicit bounds; those without an end are taken to be at (or from 0 to) the bound they have."""
    finite = [bound for bound in bounds if math.isfinite(bound)] or [0.0]
    lowest, highest = min(0.0, finite[0]), finite[-1]
    highs = [*(min(max(bound, lowest), highest) for bound in bounds), highest]
    lows = [lowest, *highs[:-1]]
    return [piece for piece in zip(lows, highs, counts, strict=True) if piece[2] > 0]


def exponential(
    scale: int, zero_count: int, positive: Mapping[int, int], negative: Mapping[int, int]
) -> list[Interval]:
    """The intervals of an exponential histogram: counts by bucket index, of positive and of negative values."""
    pieces: list[Interval] = [(0.0, 0.0, zero_count)]
    pieces += [(_bound(scale, index), _bound(scale, index + 1), count) for index, count in positive.items()]
    pieces += [(-_bound(scale, index + 1), -_bound(scale, index), count) for index, count in negative.items()]
    return [piece for piece in pieces if piece[2] > 0]


def _bound(scale: int, index: int) -> float:
    """Lower bound of bucket `index`: 2 ** (index / 2 ** scale); the largest float where it is beyond that."""
    exponent = math.ldexp(index, -scale)
    return 2.0**exponent if exponent < _LARGEST_EXPONENT else sys.float_info.max


def quantile(intervals: list[Interval], share: float) -> float | None:
    """The value that `share` (0 to 1) of all counts do not exceed; None without counts.

    A sweep over the edges: between two of them the count rises evenly, at an interval without width it jumps.
    """
    if not intervals:
        return None
    target = share * sum(count for _, _, count in intervals) * (1 - _ROUNDING)
    slopes: dict[float, float] = defaultdict(float)
    opened: dict[float, int] = defaultdict(int)
    jumps: dict[float, int] = defaultdict(int)
    for low, high, count in intervals:
        width = high - low
        if width > 0 and math.isfinite(width):
            slopes[low] += count / width
            slopes[high] -= count / width
            opened[low] += 1
            opened[high] -= 1
        else:
            jumps[high] += count
    edges = sorted({*slopes, *jumps})
    below = slope = 0.0
    is_open = 0
    for previous, edge in zip([edges[0], *edges], edges, strict=False):
        rise = slope * (edge - previous)
        if rise > 0 and below + rise >= target:
            return min(edge, previous + max(0.0, target - below) / slope)
        below += rise + jumps[edge]
        if jumps[edge] and below >= target:
            return edge
        is_open += opened[edge]
        slope = slope + slopes[edge] if is_open else 0.0  # without the rounding errors of what has closed
    return edges[-1]
