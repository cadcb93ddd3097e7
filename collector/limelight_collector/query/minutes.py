"""Tables of minutes: what the spans of each minute come to, by trace, by user, by failure (docs/adr/0015).

A table is defined by how its rows are made of spans. The same statement makes the rows that are kept (`rollups.py`) and
those of minutes that changed since, so that a question has one answer, however much of it was kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from limelight_collector.query.ranges import Range, buckets_within, joined, merged, starts_within
from limelight_collector.store import Store

STEP_S = 0
"""What `rolled` calls the state of these tables; the rollups' are their buckets' lengths."""
MAX_RAW_RANGES = 50
"""More scattered changed minutes than these, and all spans are read."""

_MOST_NAMED = 1000
_MINUTE_NS = 60 * 10**9
_S = 10**9


@dataclass(frozen=True, slots=True)
class MinuteTable:
    """One table: a row for each `key` of a minute, of the spans that meet `condition`.

    `columns`: its columns besides the key -> SQL over those spans; `is_grouped`: aggregates, else a row is a span.
    `joined`: columns that need the side table `JOINED` beside the spans, which costs.
    """

    name: str
    key: tuple[str, ...]
    columns: dict[str, str]
    condition: str = "1"
    is_grouped: bool = True
    joined: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """Fields of the filter language whose SQL holds over a row: it is the same for all of its spans."""
        return frozenset(self.key if self.is_grouped else (*self.key, *self.columns))

    def made(self, columns: Iterable[str], ranges_ns: Iterable[Range], only: str = "1") -> str:
        """SQL of the rows of spans that start in these ranges: `bucket`, the key, these columns.

        With whole minutes as ranges they are what the table keeps. The project is the parameter `project_id`; `only`
        narrows spans down by what identifies them.
        """
        names = list(columns)
        within = f"project_id = {{project_id:String}} AND {starts_within(ranges_ns)} AND {only}"
        source = f"spans FINAL PREWHERE {within} WHERE {self.condition}"
        if self.joined & set(names):
            source = (
                f"(SELECT * FROM {source}) AS spans LEFT JOIN ({JOINED.format(within)}) AS joined "
                "USING (trace_id, span_id)"
            )
        selected = [f"{self.columns[name]} AS {name}" for name in names]
        key = ["toStartOfMinute(start_time) AS bucket", *self.key]
        tail = f" GROUP BY {', '.join(['bucket', *self.key])}" if self.is_grouped else ""
        return f"SELECT {', '.join([*key, *selected])} FROM {source}{tail}"

    def rows(self, columns: Iterable[str], division: Division, passes: str = "1", only: str = "1") -> str:
        """SQL, in parentheses, of rows, kept or made: those that pass `passes`, which is over the key and `columns`.

        `only` narrows the spans down beforehand, by what identifies them; it is over the key, too.
        """
        names = sorted(set(columns))
        selected = ", ".join(["bucket", *self.key, *names])
        parts: list[str] = []
        if division.kept:
            within = f"project_id = {{project_id:String}} AND {_buckets_in(division.kept)}"
            source = f"{self.name} FINAL PREWHERE {within} AND {only}"
            parts.append(f"SELECT {selected} FROM {source} WHERE NOT is_gone AND ({passes})")
        if division.changed:
            parts.append(f"SELECT {selected} FROM ({self.made(names, division.changed, only)}) WHERE {passes}")
        if not parts:
            parts.append(f"SELECT {selected} FROM {self.name} WHERE 0")
        return f"({' UNION ALL '.join(parts)})"


JOINED = "SELECT trace_id, span_id, groupUniqArray(code) AS codes FROM flags FINAL WHERE {} GROUP BY trace_id, span_id"
"""SQL of the flags of spans, `codes` a span."""


@dataclass(frozen=True, slots=True)
class Division:
    """Where a stretch of time is answered from: minutes that are kept (seconds), spans of the rest (nanoseconds)."""

    kept: list[Range]
    changed: list[Range]

    def since(self, start_ns: int) -> Division:
        """The part of it from the minute of `start_ns` on."""
        start = start_ns // _MINUTE_NS * _MINUTE_NS
        kept = [(max(first, start // _S), end) for first, end in self.kept if end > start // _S]
        changed = [(max(first, start), end) for first, end in self.changed if end > start]
        return Division(kept, changed)


def divide(store: Store, project_id: str, ranges_ns: list[Range]) -> Division:
    """How to answer for these ranges, which do not overlap: whole minutes that have not changed are kept ones."""
    if not ranges_ns:
        return Division([], [])
    # asked for all at once: a statement that names each range costs more than minutes that are not needed
    first, last = min(start for start, _ in ranges_ns), max(end for _, end in ranges_ns)
    whole = [(first // _MINUTE_NS * 60, -(-last // _S))]
    return divided(ranges_ns, changed_minutes(store, project_id, whole, STEP_S))


def divided(ranges_ns: list[Range], changed: Iterable[int]) -> Division:
    """The same where these minutes (starts, in seconds) are known to have changed. Pure."""
    gaps = [(start * _S, end * _S) for start, end in merged(changed, 60)]
    kept: list[Range] = []
    rest: list[Range] = []
    for start, end in ranges_ns:
        first, last = -(-start // _MINUTE_NS) * _MINUTE_NS, end // _MINUTE_NS * _MINUTE_NS
        if first >= last:
            rest.append((start, end))
            continue
        position = first
        pieces = [(start, first), (last, end)]
        for gap_start, gap_end in gaps:
            if gap_start < last and gap_end > first:
                kept.append((position, max(position, gap_start)))
                pieces.append((max(gap_start, first), min(gap_end, last)))
                position = min(gap_end, last)
        kept.append((position, last))
        rest += pieces
    whole = [(start // _S, end // _S) for start, end in kept if start < end]
    raw = joined(piece for piece in rest if piece[0] < piece[1])
    return Division(whole, raw) if len(raw) <= MAX_RAW_RANGES else Division([], list(ranges_ns))


def changed_minutes(store: Store, project_id: str, ranges_s: Iterable[Range], step_s: int) -> list[int]:
    """Starts (seconds since 1970) of the minutes in these ranges that changed since they were last computed.

    `step_s`: of what, as `rolled` has it.
    """
    bound = f"project_id = {{project_id:String}} AND {buckets_within(ranges_s)}"
    rows = store.query(
        f"""SELECT toUnixTimestamp(bucket)
        FROM (SELECT bucket, sum(changes) AS changes FROM touched WHERE {bound} GROUP BY bucket) AS t
        LEFT JOIN (
            SELECT bucket, max(changes) AS changes FROM rolled WHERE {bound} AND step_s = {step_s:d} GROUP BY bucket
        ) AS r USING (bucket)
        WHERE t.changes != r.changes""",
        {"project_id": project_id},
    ).rows
    return [minute for (minute,) in rows]


def _buckets_in(ranges_s: list[Range]) -> str:
    """SQL: `bucket` is a minute of one of these ranges; minutes by name where ranges are many and short."""
    if len(ranges_s) == 1 or sum(end - start for start, end in ranges_s) > 60 * _MOST_NAMED:
        return buckets_within(ranges_s)
    return f"bucket IN ({', '.join(str(minute) for start, end in ranges_s for minute in range(start, end, 60))})"
