"""Settle: what a span is in its trace, before it is stored; and earlier spans put right when later ones say so.

The pieces of a trace arrive in different requests, in any order, minutes apart. For each trace a batch touches, the
facts known before (memory, else store) and those of the batch are decided on together (`traces.decide`). Rows of the
batch are changed in place; stored rows whose verdict changed are read, changed and stored again under a newer version.
Deciding again from the same spans gives the same verdicts, so a replay after a crash changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limelight import semconv as s
from limelight_collector import metrics
from limelight_collector.batch import Flag
from limelight_collector.content import MODEL_TYPES
from limelight_collector.enrich.flags import detect
from limelight_collector.errors import QueryLimit
from limelight_collector.identity import inherited, put, taken
from limelight_collector.log_content import Records, content_records, join, lacks_content
from limelight_collector.query.stored_spans import (
    content_logs,
    facts_of,
    projects_with_content_logs,
    rows_of,
    seen_trace_ids,
)
from limelight_collector.trace_memory import MAX_SPANS, MAX_TRACE_SPANS, Known, SeenTraces, TraceKey, TraceMemory
from limelight_collector.traces import OWN, TRITON, Verdict, decide, fact_of

if TYPE_CHECKING:
    from limelight_collector.store import Store

log = logging.getLogger("limelight.settle")

Row = dict[str, Any]
SpanKey = tuple[bytes, bytes]
"""(trace id, span id)."""
Price = Callable[[Row], None]

_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_DECIDED = MODEL_TYPES | {"engine"}
_REVISIT_AFTER_NS = 20 * 10**9
_MOST_REVISITED = 5_000


@dataclass(slots=True)
class Settled:
    """What follows from a batch: stored rows to store again, new flags, and what to remember once all is stored."""

    amended: list[Row] = field(default_factory=list[Row])
    flags: list[Flag] = field(default_factory=list[Flag])
    known: dict[TraceKey, Known] = field(default_factory=dict[TraceKey, Known])
    is_certain: bool = True


@dataclass(slots=True)
class _Project:
    """One project's share of a batch."""

    project_id: str
    price: Price
    records: Records
    """Content records of the batch."""
    traces: dict[bytes, list[Row]] = field(default_factory=lambda: defaultdict[bytes, list[Row]](list))
    changes: dict[SpanKey, Verdict | None] = field(default_factory=dict[SpanKey, "Verdict | None"])
    """Stored spans to change: their new verdict, or None where only their content is new."""
    starts: dict[SpanKey, int] = field(default_factory=dict[SpanKey, int])


class Settler:
    """The trace-level stage of one writer. `is_shared`: others write to the store too, so memory is no proof."""

    def __init__(self, store: Store, *, is_shared: bool) -> None:
        self._store = store
        self._is_shared = is_shared
        self._memory = TraceMemory(0 if is_shared else MAX_SPANS)
        self._seen: SeenTraces | None = None
        self._with_logs: set[str] = set()
        self._again: deque[tuple[int, TraceKey]] = deque()

    def settle(self, rows: list[Row], logs: list[Row], price_of: Callable[[str], Price]) -> Settled:
        """Decide on every trace in `rows` and `logs`; `price_of` gives a project's pricing.

        `Unavailable` where the store is.
        """
        logs_of: dict[str, list[Row]] = defaultdict(list)
        for row in logs:
            logs_of[row["project_id"]].append(row)
        projects = {
            project_id: _Project(project_id, price_of(project_id), content_records(own))
            for project_id, own in logs_of.items()
        }
        sampled = 0
        for row in rows:
            project_id = row["project_id"]
            sampled += s.LIMELIGHT_SAMPLE_RATE in row["attributes"]
            project = projects.get(project_id)
            if project is None:
                project = projects[project_id] = _Project(project_id, price_of(project_id), {})
            project.traces[row["trace_id"]].append(row)
        metrics.SAMPLED_SPANS.inc(sampled)
        return self._settle(projects.values())

    def _settle(self, projects: Iterable[_Project]) -> Settled:
        found = Settled()
        for project in projects:
            for trace_id, _ in project.records:
                project.traces.setdefault(trace_id, [])
            known = self._recall(project)
            for trace_id, rows in project.traces.items():
                self._decide(project, trace_id, rows, known.setdefault(trace_id, Known()))
            records = self._content(project)
            _note_records(project, known)
            for rows in project.traces.values():
                for row in rows:
                    own = records.get((row["trace_id"], row["span_id"]))
                    if own and lacks_content(row):
                        join(row, own)
                        found.flags += detect(row)
            self._amend(project, records, found)
            found.known |= {(project.project_id, trace_id): trace for trace_id, trace in known.items()}
        return found

    def undecided(self, rows: Iterable[Row]) -> Settled:
        """What follows from a batch that could not be decided on: its traces are read from the store the next time."""
        known = {(row["project_id"], row["trace_id"]): Known() for row in rows}
        metrics.UNSETTLED_TRACES.inc(len(known))
        return Settled(known=known, is_certain=False)

    def stored(self, settled: Settled, now_ns: int) -> None:
        """Remember what was decided: all of it is stored."""
        if not settled.is_certain:
            self.failed(settled)
            return
        for key, known in settled.known.items():
            if self._is_shared:
                self._again.append((now_ns + _REVISIT_AFTER_NS, key))
            else:
                self._memory.keep(key, known)
                self._seen_traces().add(key[1])

    def revisit(self, now_ns: int, price_of: Callable[[str], Price]) -> Settled:
        """Decide again on traces stored a while ago, where another writer may have stored a piece at the same time."""
        due: list[TraceKey] = []
        while self._again and self._again[0][0] <= now_ns and len(due) < _MOST_REVISITED:
            due.append(self._again.popleft()[1])
        projects: dict[str, _Project] = {}
        for project_id, trace_id in due:
            if project_id not in projects:
                projects[project_id] = _Project(project_id, price_of(project_id), {})
            projects[project_id].traces[trace_id] = []
        return self._settle(projects.values())

    def forget(self, project_id: str) -> None:
        """Forget what is known of a project's traces, because some of it was deleted: the store is asked next time."""
        self._memory.forget_project(project_id)

    def failed(self, settled: Settled) -> None:
        """Part of it may be stored and part not: the store is asked about these traces the next time."""
        self._memory.forget(settled.known)
        for _, trace_id in settled.known:
            self._seen_traces().add(trace_id)

    # -- what was known ------------------------------------------------------------------------------------------------
    def _recall(self, project: _Project) -> dict[bytes, Known]:
        """What is known of the project's traces from before; a copy, since this batch may fail."""
        found: dict[bytes, Known] = {}
        asked: list[bytes] = []
        seen = self._seen_traces()
        for trace_id in project.traces:
            known = None if self._is_shared else self._memory.get((project.project_id, trace_id))
            if known is not None:
                found[trace_id] = Known(dict(known.facts), dict(known.verdicts))
            elif self._is_shared or trace_id in seen:
                asked.append(trace_id)
        for row in self._asked(project.project_id, asked, lambda: facts_of(self._store, project.project_id, asked)):
            known = found.setdefault(row["trace_id"], Known())
            known.facts[row["span_id"]] = fact_of(row)
            if row["observation_type"] in _DECIDED:
                known.verdicts[row["span_id"]] = _told(row)
        return found

    def _asked(self, project_id: str, trace_ids: Collection[Any], question: Callable[[], list[Row]]) -> list[Row]:
        """The answer to a question about traces; none, and a metric, where it is too big: ingest must go on."""
        if not trace_ids:
            return []
        try:
            return question()
        except QueryLimit as error:
            metrics.UNSETTLED_TRACES.inc(len(trace_ids))
            fields = {"project": project_id, "traces": len(trace_ids), "error": error.message}
            log.warning("earlier spans not read", extra={"fields": fields})
            return []

    def _seen_traces(self) -> SeenTraces:
        """Filled from the store at the first call: it outlives this process."""
        if self._seen is None:
            seen = SeenTraces()
            if not self._is_shared:
                for trace_id in seen_trace_ids(self._store):
                    seen.add(trace_id)
            self._with_logs = projects_with_content_logs(self._store)
            self._seen = seen
        return self._seen

    # -- decisions -----------------------------------------------------------------------------------------------------
    def _decide(self, project: _Project, trace_id: bytes, rows: list[Row], known: Known) -> None:
        """Decide on one trace: changes `rows` and `known`, notes stored spans whose verdict is another than before."""
        earlier = dict(known.verdicts)
        fresh: set[bytes] = set()
        for row in rows:
            span_id = row["span_id"]
            fresh.add(span_id)
            if len(known.facts) < MAX_TRACE_SPANS or span_id in known.facts:
                known.facts[span_id] = fact_of(row)
                if row["observation_type"] in _DECIDED:
                    known.verdicts[span_id] = _told(row)
        if len(known.verdicts) > 1 or earlier:
            verdicts = decide(known.facts)
        else:
            verdicts = _alone(known)  # one call, or none: what the span says of itself holds
            if not verdicts:
                return
        for row in rows:
            verdict = verdicts.get(row["span_id"])
            if verdict is not None and verdict != _told(row):
                _apply(row, verdict, project.price)
        for span_id, verdict in verdicts.items():
            if span_id not in fresh and earlier.get(span_id) != verdict:
                project.changes[trace_id, span_id] = verdict
                project.starts[trace_id, span_id] = known.facts[span_id].start_ns
        known.verdicts = verdicts

    def _content(self, project: _Project) -> Records:
        """Content records of the project's spans that need some: those of the batch and those stored before."""
        if project.records:
            self._with_logs.add(project.project_id)
        if not self._is_shared and project.project_id not in self._with_logs:
            return {}
        wanted = {trace_id for trace_id, rows in project.traces.items() if any(map(lacks_content, rows))}
        wanted |= {trace_id for trace_id, _ in project.records}
        asked = sorted(wanted)
        stored = self._asked(project.project_id, asked, lambda: content_logs(self._store, project.project_id, asked))
        found = content_records(stored)
        for key, records in project.records.items():
            found[key] = found.get(key, {}) | records
        return found

    def _amend(self, project: _Project, records: Records, settled: Settled) -> None:
        """The stored rows to change, each one version newer."""
        rows = self._asked(
            project.project_id, project.changes, lambda: rows_of(self._store, project.project_id, project.starts)
        )
        for row in rows:
            key = row["trace_id"], row["span_id"]
            verdict = project.changes[key]
            own = records.get(key)
            if verdict is not None:
                _apply(row, verdict, project.price)
            if own and lacks_content(row):
                join(row, own)
                settled.flags += detect(row)
            elif verdict is None:
                continue
            row["received_ns"] += 1
            settled.amended.append(row)
            metrics.AMENDED_SPANS.inc()


def _note_records(project: _Project, known: dict[bytes, Known]) -> None:
    """Note the stored spans that the batch's records belong to."""
    for trace_id, span_id in project.records:
        fact = known[trace_id].facts.get(span_id)
        if fact is not None and all(row["span_id"] != span_id for row in project.traces[trace_id]):
            project.changes.setdefault((trace_id, span_id), None)
            project.starts[trace_id, span_id] = fact.start_ns


def _alone(known: Known) -> dict[bytes, Verdict]:
    """The verdict on the only call of a trace, where it differs from what its span says: `decide`, for most traces."""
    for span_id in known.verdicts:
        fact = known.facts[span_id]
        found = inherited(fact, (), known.facts) if fact.kind in MODEL_TYPES else ()
        if found:
            return {span_id: Verdict("own", inherited=found)}
    return {}


def _told(row: Row) -> Verdict:
    """The verdict a row stands under."""
    kind, role = row["observation_type"], row.get("usage_role") or "own"
    if kind == "engine":
        queue_s = row.get("queue_s") if row["scope_name"] == TRITON else None
        queue_ns = None if queue_s is None else round(queue_s * 1e9)
        return Verdict("engine", model=row.get("request_model") or "", queue_ns=queue_ns)
    duplicate_of = row.get("duplicate_of") or ""
    found = taken(row)
    if role == "own" and not found:
        return OWN
    return Verdict(role, bytes.fromhex(duplicate_of) if duplicate_of else b"", inherited=found)


def _apply(row: Row, verdict: Verdict, price: Price) -> None:
    """Put a row under a verdict, whichever it stood under before."""
    if verdict.role == "engine":
        row["request_model"] = verdict.model
        if verdict.queue_ns is not None:
            row["queue_s"] = verdict.queue_ns / 1e9
        return
    if row.get("usage_role") == "aggregate":
        for name in _SUMS:
            row[name] = row.pop(f"aggregate_{name}", None)
    if row.get("inherited") or verdict.inherited:
        put(row, verdict.inherited)
    if (verdict.role, verdict.duplicate_of.hex()) == (row.get("usage_role"), row.get("duplicate_of") or ""):
        return  # who it was for changes no price
    row["usage_role"] = verdict.role
    row["billable"] = verdict.role == "own"
    row["duplicate_of"] = verdict.duplicate_of.hex()
    if verdict.role == "aggregate":
        for name in _SUMS:
            row[f"aggregate_{name}"] = row.pop(name, None)
    for name in ("computed_cost_usd", "cost_usd"):
        row[name] = None
    price(row)
