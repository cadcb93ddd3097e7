"""The questions of the query bench: every API call behind a card of the dashboard, and those a script would ask.

They are asked as the dashboard asks them (`dashboard/limelight_dashboard`: client.py, sidebar.py, views/*): the same
parameters, steps and limits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bench.query_data import COMMON_WORD, RARE_WORD
from limelight_dashboard.cost_cards import MOST_SHARES
from limelight_dashboard.figures.timeseries import MOST_SERIES
from limelight_dashboard.filters import WINDOWS, Filters

CARD_MS, TRACE_MS, LATEST_MS = 150.0, 60.0, 100.0
"""Budgets of design.md §6: the p50 of a warm answer."""

OVERVIEW = "request_count,error_count,error_rate,latency_p95,ttft_p95,cost_usd,flag_rate"
SHARES = "cost_usd,request_count,unpriced_count,input_tokens,output_tokens"
COST = "request_count,cost_usd,unpriced_count,input_tokens,output_tokens,cache_read_tokens"
GROUPS = ("request_model", "user_id", "session_id")


@dataclass(frozen=True, slots=True)
class Known:
    """What questions about one project name: traces and sessions that exist in it."""

    traces: tuple[str, ...]
    sessions: tuple[str, ...]


Params = dict[str, object]


@dataclass(frozen=True, slots=True)
class Question:
    """One call. `ask` makes path and parameters from a window of the dashboard, at random where it names an id."""

    name: str
    ask: Callable[[Filters, Known, random.Random], tuple[str, Params]]
    budget_ms: float | None = CARD_MS
    windows: tuple[str, ...] = tuple(WINDOWS)
    pages: tuple[str, ...] = ()
    """The pages that ask it when they are opened."""


def window_of(length: str, end: datetime) -> Filters:
    """The dashboard's filters for one of its windows."""
    return Filters(end - WINDOWS[length], end)


def _bounds(filters: Filters) -> Params:
    return {"from": filters.start.isoformat(), "to": filters.end.isoformat()}


def _fixed(path: str, **params: object) -> Callable[[Filters, Known, random.Random], tuple[str, Params]]:
    return lambda filters, _known, _chance: (path, {**_bounds(filters), **params})


def _series(
    measures: str, *, group_by: str = "", stepped: bool = True, before: bool = False, top: int | None = None
) -> Callable[[Filters, Known, random.Random], tuple[str, Params]]:
    def ask(filters: Filters, _known: Known, _chance: random.Random) -> tuple[str, Params]:
        chosen = filters.before() if before else filters
        given: Params = {"measure": measures, "group_by": group_by, **_bounds(chosen)}
        given |= {"step": filters.step_s} if stepped else {}
        return "series", given | ({} if top is None else {"top": top})

    return ask


def _trace(_filters: Filters, known: Known, chance: random.Random) -> tuple[str, Params]:
    return f"traces/{chance.choice(known.traces)}", {}


def _session(filters: Filters, known: Known, chance: random.Random) -> tuple[str, Params]:
    return "traces", {**_bounds(filters), "filter": f'session_id = "{chance.choice(known.sessions)}"', "limit": 100}


def _status(_filters: Filters, _known: Known, _chance: random.Random) -> tuple[str, Params]:
    return "status", {}


def _alerts(_filters: Filters, _known: Known, _chance: random.Random) -> tuple[str, Params]:
    return "alerts", {}


_EVERY = ("overview", "traces", "cost", "errors", "flagged", "trace")
_ANY = ("7d",)
_ATTRIBUTE = 'attr["team"] = "b"'

QUESTIONS: tuple[Question, ...] = (
    Question("status", _status, windows=_ANY, pages=_EVERY),
    *(
        Question(f"values of {name}", _fixed(f"fields/{name}/values"), pages=_EVERY)
        for name in ("environment", "service_name", "request_model")
    ),
    Question("overview: key figures", _series(OVERVIEW, stepped=False), pages=("overview",)),
    Question("overview: before", _series(OVERVIEW, stepped=False, before=True), pages=("overview",)),
    Question("overview: over time", _series(OVERVIEW), pages=("overview",)),
    Question(
        "overview: by model",
        _series("request_count,latency_p95,cost_usd", group_by="request_model"),
        pages=("overview",),
    ),
    Question("alerts", _alerts, windows=_ANY, pages=("overview",)),
    Question("error groups", _fixed("errors"), pages=("overview", "errors")),
    Question("errors: over time", _series("request_count,error_count,error_rate"), pages=("errors",)),
    Question("flags, 50", _fixed("flags", limit=50), pages=("overview",)),
    Question("flags, 200", _fixed("flags", limit=200), pages=("flagged",)),
    Question("cost: key figures", _series(COST, stepped=False), pages=("cost",)),
    Question("cost: before", _series("cost_usd", stepped=False, before=True), pages=("cost",)),
    *(
        Question(
            f"cost: {name} over time",
            _series("cost_usd", group_by=name, top=MOST_SERIES),
            pages=("cost",) * (name == GROUPS[0]),
        )
        for name in GROUPS
    ),
    *(
        Question(
            f"cost: by {name}",
            _series(SHARES, group_by=name, stepped=False, top=MOST_SHARES),
            pages=("cost",) * (name == GROUPS[0]),
        )
        for name in GROUPS
    ),
    Question("traces, 100 dearest", _fixed("traces", order="costliest", limit=100)),
    Question("traces, 20 dearest", _fixed("traces", order="costliest", limit=20), pages=("cost",)),
    Question("traces, 100 slowest", _fixed("traces", order="slowest", limit=100)),
    Question("traces, latest 50", _fixed("traces", limit=50), LATEST_MS),
    Question("traces, latest 50 failed", _fixed("traces", limit=50, filter="status = error"), LATEST_MS),
    Question("traces, latest 50 by attribute", _fixed("traces", limit=50, filter=_ATTRIBUTE), LATEST_MS),
    Question("traces, latest 100", _fixed("traces", limit=100), pages=("traces",)),
    Question("traces, 100 flagged", _fixed("traces", limit=100, filter="flag exists")),
    Question("traces, search a common word", _fixed("traces", limit=100, q=COMMON_WORD)),
    Question("traces, search a rare word", _fixed("traces", limit=100, q=RARE_WORD), None),
    Question("traces of a session", _session),
    Question("trace by id", _trace, TRACE_MS, _ANY, pages=("trace",)),
    Question("spans, latest 50", _fixed("spans", limit=50)),
    Question("spans, q = a common word", _fixed("spans", limit=50, q=COMMON_WORD)),
    Question("spans, q = a rare word", _fixed("spans", limit=50, q=RARE_WORD), None),
)
"""In the order they are asked. No budget where all text of a window has to be read."""

DURING_INGEST = (
    "overview: over time",
    "overview: by model",
    "error groups",
    "traces, latest 50",
    "trace by id",
    "status",
)
COLD = (*DURING_INGEST, "overview: key figures", "values of request_model", "flags, 50", "spans, latest 50")


def by_name(names: tuple[str, ...]) -> list[Question]:
    """Questions by their names."""
    known: Mapping[str, Question] = {question.name: question for question in QUESTIONS}
    return [known[name] for name in names]


def end_of(end_ns: int) -> datetime:
    """The end of the dashboard's windows: `end_ns` rounded up to its grain."""
    return datetime.fromtimestamp((end_ns // 10**9 // 15 + 1) * 15, timezone.utc)


def export_window(spans: int, end: datetime, wanted: int) -> Params:
    """A window that ends a day before the data does and holds about `wanted` of the largest project's spans."""
    per_s = spans * 0.6 / (7 * 86_400)
    until = end - timedelta(days=1)
    return {"from": (until - timedelta(seconds=wanted / per_s)).isoformat(), "to": until.isoformat()}
