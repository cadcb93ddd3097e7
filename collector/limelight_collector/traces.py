"""Traces: whose usage counts, decided over all spans of a trace. Pure: facts in, verdicts out.

One call to a model often leaves several spans: the client's own and an instrumentation's around it, a gateway's, a
framework's wrapper, the engine's. Exactly one of them is billable:

* same response id and same usage, or an ancestor and a descendant with the same model and usage where one contains the
  other in time, or a span that says itself which span it is nested in: one call. The span that knows most counts, of
  equals the outermost; the others are `duplicate`s of it.
* a model span whose usage is the sum of two or more calls below it is an `aggregate`.
* an engine's span without a model has that of the nearest model call above it.
* Triton's model span has queued from its QUEUE_START event until the compute span below it began.
* a call whose span does not say for whom it was has that from its duplicates and the spans above it (identity.py).

Nothing depends on the order in which spans arrive (docs/dialects.md, "Counted once").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from limelight import semconv as s
from limelight_collector.attributes import loads
from limelight_collector.content import MODEL_TYPES
from limelight_collector.identity import NOTHING, Inherited, Values, inherited, offered, own

Facts = Mapping[bytes, "Fact"]
"""Span id -> fact, of one trace."""

TRITON = "triton-server"
"""Scope of Triton's spans."""
CLOCK_SLACK_NS = 5_000_000
"""How far a child may stick out of its parent: clocks of browsers and Node have milliseconds."""
_MAX_CALLS_ABOVE = 32
_DETAILS = (
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "service_tier",
    "reported_cost_usd",
)
"""What makes a span's usage worth more than another's of the same call."""


@dataclass(slots=True)
class Fact:
    """What one span contributes to its trace's decision, as it was before any decision.

    Never changed; not frozen, because every span has one and a frozen one takes four times as long to make.
    """

    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int
    kind: str
    scope_name: str
    models: frozenset[str] = frozenset()
    response_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    details: int = 0
    nested_in: str = ""
    queue_start_ns: int = 0
    """When a Triton model began to queue."""
    who: Values = NOTHING

    @property
    def has_usage(self) -> bool:
        """Whether it counted tokens."""
        return self.input_tokens is not None or self.output_tokens is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trace says of one of its spans: `role` is a `usage_role`; the rest is about engines.

    `model` is its own or inherited, `queue_ns` how long a Triton model queued. `inherited` is about model calls.
    """

    role: str
    duplicate_of: bytes = b""
    model: str = ""
    queue_ns: int | None = None
    inherited: Inherited = ()


OWN = Verdict("own")


def fact_of(row: Mapping[str, Any]) -> Fact:
    """The fact of a row, whether it was decided on before or not."""
    start, kind = row["start_time"], row["observation_type"]
    if kind not in MODEL_TYPES and kind != "engine":
        fact = Fact(row["span_id"], row["parent_span_id"], start, start + row["duration_ns"], kind, row["scope_name"])
        if row.get("session_id") or row.get("user_id"):
            fact.who = offered(row)
        return fact
    given, answered = row.get("input_tokens"), row.get("output_tokens")
    if row.get("usage_role") == "aggregate":
        given, answered = row.get("aggregate_input_tokens"), row.get("aggregate_output_tokens")
    models = {row.get("request_model") or "", (kind != "engine" and row.get("response_model")) or ""} - {""}
    nested = row["attributes"].get(s.LIMELIGHT_NESTED_IN, "") if "attributes" in row else row["nested_in"]
    return Fact(
        row["span_id"],
        row["parent_span_id"],
        start,
        start + row["duration_ns"],
        kind,
        row["scope_name"],
        frozenset(models),
        row.get("response_id") or "",
        given,
        answered,
        sum(1 for name in _DETAILS if row.get(name) not in (None, "")),
        nested.strip('"'),
        _queue_start_ns(row.get("events") or "") if row["scope_name"] == TRITON else 0,
        offered(row) if kind == "engine" else own(row),
    )


def decide(facts: Facts) -> dict[bytes, Verdict]:
    """The verdict on each model call and engine span of one trace."""
    calls = sorted(
        (fact for fact in facts.values() if fact.kind in MODEL_TYPES), key=lambda fact: (fact.start_ns, fact.span_id)
    )
    verdicts = {fact.span_id: OWN for fact in calls}
    engines = [fact for fact in facts.values() if fact.kind == "engine"]
    nearest = _nearest_calls(facts) if len(calls) > 1 or (calls and engines) else {}
    above = {fact.span_id: _calls_above(fact, nearest) for fact in calls} if len(calls) > 1 else {}
    copies: dict[bytes, list[Fact]] = {}
    for group in _groups(calls, above) if _may_repeat(calls, above) else ():
        kept, *others = sorted(group, key=lambda fact: _preference(fact, above))
        copies[kept.span_id] = others
        verdicts |= {fact.span_id: Verdict("duplicate", kept.span_id) for fact in others}
    for total in _aggregates(calls, above, verdicts) if any(above.values()) else ():
        verdicts[total.span_id] = Verdict("aggregate")
    for fact in engines:
        outer = nearest.get(fact.span_id)
        model = _name(fact) or (_name(outer) if outer else "")
        verdicts[fact.span_id] = Verdict("engine", model=model, queue_ns=_queue_ns(fact, engines))
    for fact in calls if any(fact.who for fact in facts.values()) else ():
        if found := inherited(fact, copies.get(fact.span_id, ()), facts):
            verdicts[fact.span_id] = replace(verdicts[fact.span_id], inherited=found)
    return verdicts


def _may_repeat(calls: list[Fact], above: Mapping[bytes, list[Fact]]) -> bool:
    """Whether any call lies below another or shares its response id; most traces have neither."""
    responses = [fact.response_id for fact in calls if fact.response_id]
    return any(above.values()) or len(set(responses)) < len(responses)


# -- one call, several spans -------------------------------------------------------------------------------------------
def _groups(calls: list[Fact], above: Mapping[bytes, list[Fact]]) -> Iterable[list[Fact]]:
    """Spans of one and the same call, two or more in each group."""
    leader = {fact.span_id: fact.span_id for fact in calls}

    def find(span_id: bytes) -> bytes:
        while leader[span_id] != span_id:
            leader[span_id] = span_id = leader[leader[span_id]]
        return span_id

    taken: set[bytes] = set()  # a call has one copy of itself below it, not several
    for fact in calls:
        outer = next((call for call in above.get(fact.span_id, ()) if _is_copy(call, fact)), None)
        if outer is not None and outer.span_id not in taken:
            taken.add(outer.span_id)
            leader[find(fact.span_id)] = find(outer.span_id)
    for one, other in _same_responses(calls):
        leader[find(other.span_id)] = find(one.span_id)
    groups: dict[bytes, list[Fact]] = defaultdict(list)
    for fact in calls:
        groups[find(fact.span_id)].append(fact)
    return [group for group in groups.values() if len(group) > 1]


def _same_responses(calls: list[Fact]) -> Iterable[tuple[Fact, Fact]]:
    """Pairs with one response id and the same usage, or none: an id that comes with another usage is used again."""
    first: dict[tuple[str, int | None, int | None], Fact] = {}
    any_usage: dict[str, Fact] = {}
    for fact in sorted((fact for fact in calls if fact.response_id), key=lambda fact: not fact.has_usage):
        key = (fact.response_id, fact.input_tokens, fact.output_tokens)
        other = first.get(key) or (None if fact.has_usage else any_usage.get(fact.response_id))
        if other is not None:
            yield other, fact
        first.setdefault(key, fact)
        any_usage.setdefault(fact.response_id, fact)


def _is_copy(outer: Fact, inner: Fact) -> bool:
    """Whether a model call below another one is that same call."""
    if inner.nested_in and inner.nested_in == outer.scope_name and inner.parent_id == outer.span_id:
        return True
    contained = outer.start_ns - CLOCK_SLACK_NS <= inner.start_ns and inner.end_ns <= outer.end_ns + CLOCK_SLACK_NS
    if not contained or not _same_model(outer, inner) or _tell_apart(outer, inner):
        return False
    if outer.has_usage and inner.has_usage:
        return _agree(outer, inner)
    if outer.kind != inner.kind:
        return False
    # no embedding is part of another: Vercel 7 has a span for the function around that for its call
    return outer.scope_name != inner.scope_name or (outer.kind == "embedding" and not outer.has_usage)


def _agree(one: Fact, other: Fact) -> bool:
    """Whether both count the same tokens, or one of them none."""
    if not one.has_usage or not other.has_usage:
        return True
    return one.input_tokens == other.input_tokens and one.output_tokens == other.output_tokens


def _tell_apart(one: Fact, other: Fact) -> bool:
    """Whether two response ids say that these are two calls: gateways make up ids, one library does not."""
    known = bool(one.response_id and other.response_id)
    return known and one.response_id != other.response_id and one.scope_name == other.scope_name


def _same_model(one: Fact, other: Fact) -> bool:
    if not one.models or not other.models:
        return True
    return not {_bare(model) for model in one.models}.isdisjoint(_bare(model) for model in other.models)


def _name(fact: Fact) -> str:
    """The model as it was asked for: of two names the shorter, without a date."""
    return min(fact.models, key=lambda model: (len(model), model), default="")


def _bare(model: str) -> str:
    """A model's name without the provider gateways put before it."""
    return model.rpartition("/")[2].lower()


def _preference(fact: Fact, above: Mapping[bytes, list[Fact]]) -> tuple[bool, int, bool, int, int, bytes]:
    """Smallest = the one that counts: it knows the usage, knows most of it, and is the outermost."""
    depth = len(above.get(fact.span_id, ()))
    return (not fact.has_usage, -fact.details, bool(fact.nested_in), depth, fact.start_ns, fact.span_id)


# -- sums --------------------------------------------------------------------------------------------------------------
def _aggregates(
    calls: list[Fact], above: Mapping[bytes, list[Fact]], verdicts: Mapping[bytes, Verdict]
) -> Iterable[Fact]:
    """Model spans whose usage is the sum of the calls that count below them."""
    below: dict[bytes, list[Fact]] = defaultdict(list)
    for fact in calls:
        if verdicts[fact.span_id].role == "own":
            for outer in above.get(fact.span_id, ()):
                below[outer.span_id].append(fact)
    for fact in calls:
        parts = below.get(fact.span_id, [])
        if len(parts) < 2 or verdicts[fact.span_id].role != "own" or not fact.has_usage:
            continue
        given = sum(part.input_tokens or 0 for part in parts)
        answered = sum(part.output_tokens or 0 for part in parts)
        if (fact.input_tokens or 0, fact.output_tokens or 0) == (given, answered):
            yield fact


# -- engines -----------------------------------------------------------------------------------------------------------
def _queue_start_ns(events: str) -> int:
    """Unix time of QUEUE_START in a row's events; 0 without one."""
    listed: Any = loads(events) if "QUEUE_START" in events else None
    times = (event["time"] for event in listed or () if event.get("name") == "QUEUE_START")
    return next(map(_time_ns, times), 0)


def _time_ns(text: str) -> int:
    """Nanoseconds since 1970 of a time as rows hold it: RFC 3339 in UTC with nine digits."""
    moment = datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 10**9 + int(text[20:29])


def _queue_ns(fact: Fact, engines: list[Fact]) -> int | None:
    """How long a Triton model queued: until the first span below it that is no model itself began."""
    if not fact.queue_start_ns:
        return None
    starts = [below.start_ns for below in engines if below.parent_id == fact.span_id and not below.models]
    return max(0, min(starts) - fact.queue_start_ns) if starts else None


# -- ancestry ----------------------------------------------------------------------------------------------------------
def _nearest_calls(facts: Facts) -> dict[bytes, Fact | None]:
    """The nearest model call above each span, as far as its ancestors are known; a circle of parents has none.

    Each span is visited once, however deep the trace is.
    """
    nearest: dict[bytes, Fact | None] = {}
    for fact in facts.values():
        path: list[bytes] = []
        place: Fact | None = fact
        found: Fact | None = None
        while place is not None and place.span_id not in nearest:
            nearest[place.span_id] = None  # a circle ends where it began
            path.append(place.span_id)
            parent = facts.get(place.parent_id)
            if parent is not None and parent.kind in MODEL_TYPES and parent is not place:
                found = parent
                break
            place = parent
        else:
            found = nearest[place.span_id] if place is not None else None
        for span_id in path:
            nearest[span_id] = found
    return nearest


def _calls_above(fact: Fact, nearest: Mapping[bytes, Fact | None]) -> list[Fact]:
    """The model calls above, nearest first."""
    found: list[Fact] = []
    outer = nearest[fact.span_id]
    while outer is not None and outer is not fact and outer not in found and len(found) < _MAX_CALLS_ABOVE:
        found.append(outer)
        outer = nearest.get(outer.span_id)
    return found
