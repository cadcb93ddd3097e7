"""SQL over metric points: their values and their increases, by time bucket and group.

An increase of a delta point is the point itself. Of a cumulative one it is the difference to the point before in the
same stream (series, start and bucket bounds); the whole after a reset, and where the stream began within what is read
or is first heard of at all. So nothing that was counted before the first report is lost: it counts at that report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limelight_collector.query.filter import parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.signal_fields import POINT_FIELDS
from limelight_collector.query.span_json import number, time_text
from limelight_collector.query.window import TIME_BOUND, Window
from limelight_collector.store import Store

LOOKBACK_NS = 15 * 60 * 10**9
"""How far before the window the point is looked for that a first increase is counted from."""
MAX_ROWS = 20_000

_WHOLE = """start_ns > 0 AND start_ns < toUnixTimestamp64Nano(time) AND (start_ns >= {start_ns:Int64}
    OR (series_id, start_ns, time) IN (
        SELECT series_id, stream_start_ns, min(first_time) FROM metric_series
        WHERE project_id = {project_id:String} AND metric = {metric:String} GROUP BY series_id, stream_start_ns))"""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one metric: its values in `window` by `step_s` (None = the whole) and by group."""

    window: Window
    metric: str
    aggregation: str
    group_by: list[str]
    step_s: float | None
    filter_text: str


class PointSql:
    """The SQL of one question, and the rows of its answer."""

    def __init__(self, question: Question, *, lookback_ns: int = 0) -> None:
        asked = question.window
        self._window = asked
        self._group_by = question.group_by
        self._step_ns = int(question.step_s * 10**9) if question.step_s else 0
        sql = Sql(TIME_BOUND, POINT_FIELDS)
        selected = [f"{sql.value(parse_field(name))} AS g{n}" for n, name in enumerate(question.group_by)]
        self.keys = [f"g{n}" for n in range(len(selected))]
        """Names of the columns an answer's rows start with: `bucket` where there is a step, then the groups."""
        if self._step_ns:
            step = f"{self._step_ns:d}"
            selected.insert(0, f"intDiv(toUnixTimestamp64Nano(time), {step}) * {step} AS bucket")
            self.keys.insert(0, "bucket")
        self._selected = selected
        read = Window(asked.project_id, max(0, asked.start_ns - lookback_ns), asked.end_ns)
        condition = read.compiled(sql, question.filter_text, "metric = {metric:String}")
        self._condition = condition.sql
        self.parameters = condition.parameters | {"metric": question.metric, "from_ns": asked.start_ns}

    def points(self, *columns: str, known: str) -> str:
        """SQL of the points in the window for which `known` holds: keys, time, series_id and `columns`."""
        selected = ", ".join([*self._selected, "time", "series_id", *columns])
        return f"SELECT {selected} FROM metric_points FINAL WHERE {self._condition} AND {known}"

    def increases(self, total: str, state: str, *columns: str, known: str, form: str = "0") -> str:
        """SQL of the increases: keys, `form`, `state`, `before`, `is_more`, `largest` and the names of `columns`.

        `total` never falls without a reset. A point adds its `state`, less the state `before` it in the same series and
        `form` where `is_more`; else `before` means nothing.
        """
        points = self.points(
            "original_ns",
            "temporality",
            "start_ns",
            f"{form} AS form",
            f"{total} AS total",
            f"{state} AS state",
            "if(temporality = 'delta', max, NULL) AS largest",
            *columns,
            known=known,
        )
        selected = ", ".join([*self.keys, "form", "state", "before", "is_more", "largest", *columns])
        lagged = f"""SELECT *, row_number() OVER stream AS nth, lagInFrame(total) OVER stream AS total_before,
            lagInFrame(state) OVER stream AS before FROM ({points})
            WINDOW stream AS (PARTITION BY series_id, if(temporality = 'delta', 0, start_ns), form
                ORDER BY time, original_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"""
        counted = f"""SELECT *, temporality != 'delta' AND nth > 1 AND total >= total_before AS is_more
            FROM ({lagged}) WHERE time >= fromUnixTimestamp64Nano({{from_ns:Int64}})
            AND (temporality = 'delta' OR nth > 1 OR ({_WHOLE}))"""
        return f"SELECT {selected} FROM ({counted})"

    def rows(self, store: Store, source: str, measure: str) -> list[dict[str, Any]]:
        """The answer: `measure` (SQL) of each group of `source` as `value`, None where it is unknown."""
        selected = ", ".join([*self.keys, f"if(count() = 0, NULL, {measure})"])
        found = store.query(f"SELECT {selected} FROM ({source}){self.grouped()}", self.parameters, max_rows=MAX_ROWS)
        return [self.row(row) for row in found.rows]

    def grouped(self, *and_by: str) -> str:
        """SQL that groups and orders by the keys and what else is given."""
        by = ", ".join([*self.keys, *and_by])
        return f" GROUP BY {by} ORDER BY {by}" if by else ""

    def row(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """One row of the answer from its keys and its value."""
        rest = list(values)
        answer: dict[str, Any] = {"time": time_text(rest.pop(0))} if self._step_ns else {}
        return answer | dict(zip(self._group_by, rest, strict=False)) | {"value": number(rest[-1])}

    def length(self) -> str:
        """SQL of the seconds of a bucket (of the whole window where there is no step) that lie in the window."""
        window = self._window
        if not self._step_ns:
            return f"{max(1, window.end_ns - window.start_ns) / 1e9}"
        start, end = f"greatest(bucket, {window.start_ns:d})", f"least(bucket + {self._step_ns:d}, {window.end_ns:d})"
        return f"(({end} - {start}) / 1e9)"
