"""Measures of model calls: what each is over raw spans, what a rollup keeps for it, and what it is over rollups.

Counts, tokens and money come out the same both ways. Percentiles over raw spans are exact up to 8192 values a group (a
sample beyond) and interpolated. Rollups keep every value in 8 significant bits, so that a percentile of theirs is the
value at that rank, at most 0.8 % too low, whichever buckets it is merged from.
"""

from __future__ import annotations

from dataclasses import dataclass

from limelight_collector.query.window import BOUND

REQUESTS = (
    "observation_type IN ('llm', 'embedding', 'rerank') AND usage_role NOT IN ('aggregate', 'duplicate', 'engine')"
)
"""Which spans are requests: model calls that are counted themselves."""

DIMENSIONS = ("service_name", "environment", "observation_type", "provider", "request_model", "response_model")
"""The columns that rollups keep apart, in the order of their key."""
SLICES: dict[str, tuple[str, ...]] = {
    "all": (),
    "environments": ("environment",),
    "services": ("service_name", "environment"),
    "models": ("observation_type", "provider", "request_model", "response_model"),
}
"""Hours are kept again with these dimensions alone (`rollup_1h_slim`), from the fewest: fewer sketches to merge."""
ROLLED_FIELDS = frozenset({*DIMENSIONS, "model"})
"""Fields of the filter language whose SQL holds over a rollup, too."""

_LEVELS = "(0.5, 0.95, 0.99)"
_FLAGGED = f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM flags WHERE {BOUND})"
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
COUNTED = {
    "request_count": "count()",
    "error_count": "countIf(status = 'error')",
    "unpriced_count": "countIf(cost_state = 'unpriced')",
    "flag_count": f"countIf({_FLAGGED})",
    **{name: f"sum({name})" for name in _TOKENS},
    "cost_usd": "sum(cost_usd)",
}
"""Sums: column of a rollup -> its SQL over raw spans."""
_SKETCHED = {"latency": "duration_ns / 1e9", "ttft": "ttft_s", "tpot": "tpot_s"}

PARTS: dict[str, str] = {
    **COUNTED,
    "latency": f"quantilesBFloat16State{_LEVELS}({_SKETCHED['latency']})",
    **{
        name: f"quantilesBFloat16StateIf{_LEVELS}(assumeNotNull({_SKETCHED[name]}), isNotNull({_SKETCHED[name]}))"
        for name in ("ttft", "tpot")
    },
}
"""Column of a rollup -> its SQL over raw spans."""
MERGED: dict[str, str] = {
    **{name: f"sum({name})" for name in COUNTED},
    **{name: f"quantilesBFloat16MergeState{_LEVELS}({name})" for name in _SKETCHED},
}
"""Column of a rollup -> its SQL over several rows of rollups."""
NOTHING: dict[str, str] = {
    **{name: "NULL" if name in {*_TOKENS, "cost_usd"} else "0" for name in COUNTED},
    **dict.fromkeys(_SKETCHED, f"quantilesBFloat16StateIf{_LEVELS}(toFloat64(0), 0)"),
}
"""Column of a rollup -> its value for a group that is gone."""


@dataclass(frozen=True, slots=True)
class Measure:
    """`raw`: SQL over raw spans. `merged`: SQL over rows of the parts it `needs`."""

    raw: str
    needs: tuple[str, ...]
    merged: str
    is_count: bool = False


def _sum(name: str) -> Measure:
    return Measure(COUNTED[name], (name,), f"sum({name})", is_count=True)


def _percentile(name: str, percent: int) -> Measure:
    position = (50, 95, 99).index(percent) + 1
    merged = f"quantilesBFloat16Merge{_LEVELS}({name})[{position:d}]"
    return Measure(f"quantile(0.{percent:d})({_SKETCHED[name]})", (name,), merged)


def _rate(name: str) -> Measure:
    return Measure(f"{COUNTED[name]} / count()", (name, "request_count"), f"sum({name}) / sum(request_count)")


MEASURES: dict[str, Measure] = {
    **{name: _sum(name) for name in COUNTED if name != "cost_usd"},
    "error_rate": _rate("error_count"),
    "flag_rate": _rate("flag_count"),
    "cost_usd": Measure("toFloat64(sum(cost_usd))", ("cost_usd",), "toFloat64(sum(cost_usd))"),
    **{f"{name}_p{percent:d}": _percentile(name, percent) for name in _SKETCHED for percent in (50, 95, 99)},
}
"""Measure -> SQL: counts, tokens, USD, ratios 0 to 1, seconds."""
