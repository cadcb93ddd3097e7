"""Settle: what a span is in its trace, before it is stored; and earlier spans put right when later ones say so.

The pieces of a trace arrive in different requests, in any order, minutes apart. For each trace a batch touches, the
facts known before (memory, else store) and those of the batch are decided on together (`traces.decide`). Rows of the
batch are changed in place; stored rows whose verdict changed are read, changed and stored again under a newer version.
Deciding again from the same spans gives the same verdicts, so a replay after a crash changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limelight_collector import metrics
from limelight_collector.content import MODEL_TYPES
from limelight_collector.errors import QueryLimit
from limelight_collector.query.stored_spans import facts_of, rows_of, seen_trace_ids
from limelight_collector.trace_memory import MAX_SPANS, MAX_TRACE_SPANS, Known, SeenTraces, TraceKey, TraceMemory
from limelight_collector.traces import OWN, Verdict, decide, fact_of

if TYPE_CHECKING:
    from limelight_collector.store import Store

log = logging.getLogger("limelight.settle")

Row = dict[str, Any]
Price = Callable[[Row], None]

_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_DECIDED = MODEL_TYPES | {"engine"}
_REVISIT_AFTER_NS = 20 * 10**9
_MOST_REVISITED = 5_000


@dataclass(slots=True)
class Settled:
    """What follows from a batch: stored rows to store again, and what to remember once all of it is stored."""

    amended: list[Row] = field(default_factory=list[Row])
    known: dict[TraceKey, Known] = field(default_factory=dict[TraceKey, Known])


class Settler:
    """The trace-level stage of one writer. `is_shared`: others write to the store too, so memory is no proof."""

    def __init__(self, store: Store, *, is_shared: bool) -> None:
        self._store = store
        self._is_shared = is_shared
        self._memory = TraceMemory(0 if is_shared else MAX_SPANS)
        self._seen: SeenTraces | None = None
        self._again: deque[tuple[int, TraceKey]] = deque()

    def settle(self, rows: list[Row], price_of: Callable[[str], Price]) -> Settled:
        """Decide on every trace in `rows`; `price_of` gives a project's pricing. `Unavailable` where the store is."""
        touched: dict[TraceKey, list[Row]] = defaultdict(list)
        for row in rows:
            touched[row["project_id"], row["trace_id"]].append(row)
        return self._settle(touched, price_of)

    def _settle(self, touched: dict[TraceKey, list[Row]], price_of: Callable[[str], Price]) -> Settled:
        found = Settled(known=self._recall(touched))
        changes: dict[str, dict[tuple[bytes, bytes], tuple[int, Verdict]]] = defaultdict(dict)
        for key, own_rows in touched.items():
            known = found.known.setdefault(key, Known())
            for span_id, verdict in _decide(known, own_rows, price_of(key[0])):
                changes[key[0]][key[1], span_id] = known.facts[span_id].start_ns, verdict
        for project_id, wanted in changes.items():
            found.amended += self._amend(project_id, wanted, price_of(project_id))
        return found

    def stored(self, settled: Settled, now_ns: int) -> None:
        """Remember what was decided: all of it is stored."""
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
        return self._settle({key: [] for key in due}, price_of)

    def failed(self, settled: Settled) -> None:
        """Part of it may be stored and part not: the store is asked about these traces the next time."""
        self._memory.forget(settled.known)
        for _, trace_id in settled.known:
            self._seen_traces().add(trace_id)

    # -- what was known ------------------------------------------------------------------------------------------------
    def _recall(self, touched: Iterable[TraceKey]) -> dict[TraceKey, Known]:
        """What is known of these traces from before; a copy, since this batch may fail."""
        found: dict[TraceKey, Known] = {}
        asked: dict[str, list[bytes]] = defaultdict(list)
        seen = self._seen_traces()
        for key in touched:
            known = None if self._is_shared else self._memory.get(key)
            if known is not None:
                found[key] = Known(dict(known.facts), dict(known.verdicts))
            elif self._is_shared or key[1] in seen:
                asked[key[0]].append(key[1])
        for project_id, trace_ids in asked.items():
            for row in self._facts(project_id, trace_ids):
                known = found.setdefault((project_id, row["trace_id"]), Known())
                _learn(known, row)
        return found

    def _facts(self, project_id: str, trace_ids: list[bytes]) -> list[Row]:
        try:
            return facts_of(self._store, project_id, trace_ids, limit=MAX_TRACE_SPANS)
        except QueryLimit as error:  # never the end of ingest
            metrics.UNSETTLED_TRACES.inc(len(trace_ids))
            log.warning("earlier spans not read", extra={"fields": {"traces": len(trace_ids), "error": error.message}})
            return []

    def _seen_traces(self) -> SeenTraces:
        if self._seen is None:
            seen = SeenTraces()
            if not self._is_shared:
                for trace_id in seen_trace_ids(self._store):
                    seen.add(trace_id)
            self._seen = seen
        return self._seen

    def _amend(
        self, project_id: str, wanted: dict[tuple[bytes, bytes], tuple[int, Verdict]], price: Price
    ) -> list[Row]:
        """The stored rows of these spans under their new verdicts, each one version newer."""
        amended: list[Row] = []
        try:
            rows = rows_of(self._store, project_id, {key: start_ns for key, (start_ns, _) in wanted.items()})
        except QueryLimit as error:
            metrics.UNSETTLED_TRACES.inc(len(wanted))
            log.warning("spans not amended", extra={"fields": {"spans": len(wanted), "error": error.message}})
            return []
        for row in rows:
            _apply(row, wanted[row["trace_id"], row["span_id"]][1], price)
            row["received_ns"] += 1
            amended.append(row)
        metrics.AMENDED_SPANS.inc(len(amended))
        return amended


def _decide(known: Known, rows: list[Row], price: Price) -> Iterator[tuple[bytes, Verdict]]:
    """Decide on one trace: changes `rows` and `known`, yields stored spans whose verdict is another than before."""
    stored = dict(known.verdicts)
    for row in rows:
        if len(known.facts) < MAX_TRACE_SPANS or row["span_id"] in known.facts:
            known.facts[row["span_id"]] = fact_of(row)
            if row["observation_type"] in _DECIDED:
                known.verdicts[row["span_id"]] = _told(row)
    if len(known.verdicts) < 2 and not stored:
        return  # one call, or none: what the span says of itself holds
    verdicts = decide(known.facts)
    fresh: set[bytes] = set()
    for row in rows:
        fresh.add(row["span_id"])
        verdict = verdicts.get(row["span_id"])
        if verdict is not None and verdict != _told(row):
            _apply(row, verdict, price)
    for span_id, verdict in verdicts.items():
        if span_id not in fresh and stored.get(span_id) != verdict:
            yield span_id, verdict
    known.verdicts = verdicts


def _learn(known: Known, row: Row) -> None:
    known.facts[row["span_id"]] = fact_of(row)
    if row["observation_type"] in _DECIDED:
        known.verdicts[row["span_id"]] = _told(row)


def _told(row: Row) -> Verdict:
    """The verdict a row stands under."""
    kind, role = row["observation_type"], row.get("usage_role") or "own"
    if kind == "engine":
        return Verdict("engine", model=row.get("request_model") or "")
    duplicate_of = row.get("duplicate_of") or ""
    return OWN if role == "own" else Verdict(role, bytes.fromhex(duplicate_of) if duplicate_of else b"")


def _apply(row: Row, verdict: Verdict, price: Price) -> None:
    """Put a row under a verdict, whichever it stood under before."""
    if verdict.role == "engine":
        row["request_model"] = verdict.model
        return
    if row.get("usage_role") == "aggregate":
        for name in _SUMS:
            row[name] = row.pop(f"aggregate_{name}", None)
    row["usage_role"] = verdict.role
    row["billable"] = verdict.role == "own"
    row["duplicate_of"] = verdict.duplicate_of.hex()
    if verdict.role == "aggregate":
        for name in _SUMS:
            row[f"aggregate_{name}"] = row.pop(name, None)
    for name in ("computed_cost_usd", "cost_usd"):
        row[name] = None
    price(row)
