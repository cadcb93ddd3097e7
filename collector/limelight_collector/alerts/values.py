"""What a rule's signal is worth now, series by series: the question that an evaluation asks the store."""

from __future__ import annotations

from typing import Any, Protocol

from limelight_collector.alerts.rule import Rule
from limelight_collector.alerts.state import Sample
from limelight_collector.query.filter import parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.measures import REQUESTS
from limelight_collector.query.series import series
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

EXEMPLARS = 5
"""Most traces named in a notification."""


class Values(Protocol):
    """Where evaluations get their numbers. Times are nanoseconds since 1970, end excluded; any exception = failed."""

    def samples(self, project_id: str, rule: Rule, start_ns: int, end_ns: int) -> list[Sample]:
        """The rule's series in the window, labels distinct; without `group_by` exactly one, with empty labels."""
        ...

    def exemplars(self, project_id: str, rule: Rule, labels: dict[str, str], start_ns: int, end_ns: int) -> list[str]:
        """Ids (hex) of traces that show what is wrong in one series, newest first."""
        ...


class StoreValues:
    """`Values` from the spans of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def samples(self, project_id: str, rule: Rule, start_ns: int, end_ns: int) -> list[Sample]:
        """Error rate and request count a group; a group whose field is unknown has the label value ""."""
        found = series(
            self._store,
            project_id,
            measures=["error_rate", "request_count"],
            group_by=list(rule.group_by),
            start_ns=start_ns,
            end_ns=end_ns,
            step_s=None,
            filter_text=rule.filter,
        )
        samples = [_sample(rule, row) for row in found.rows]
        return samples if samples or rule.group_by else [Sample({}, None, 0)]

    def exemplars(self, project_id: str, rule: Rule, labels: dict[str, str], start_ns: int, end_ns: int) -> list[str]:
        """Traces of the newest failed requests of the series."""
        sql = Sql(BOUND)
        parts = [REQUESTS, "status = 'error'"]
        for name, value in labels.items():
            field = sql.value(parse_field(name))
            parts.append(f"{field} = {sql.bind('String', value)}" if value else f"{field} IS NULL")
        condition = Window(project_id, start_ns, end_ns).compiled(sql, rule.filter, *parts)
        rows = self._store.query(  # the condition is made of allow-listed fields and bound parameters
            f"SELECT lower(hex(trace_id)) FROM spans FINAL WHERE {condition.sql} ORDER BY start_time DESC LIMIT 50",  # noqa: S608 (see above)
            condition.parameters,
        )
        return list(dict.fromkeys(row[0] for row in rows.rows))[:EXEMPLARS]


def check_query(rule: Rule) -> None:
    """Raise `FilterError` where the store could not be asked: a bad filter, an unknown field to group by."""
    sql = Sql(BOUND)
    for name in rule.group_by:
        sql.value(parse_field(name))
    Window("", 0, 1).compiled(sql, rule.filter)


def _sample(rule: Rule, row: dict[str, Any]) -> Sample:
    events = int(row["request_count"] or 0)
    labels = {name: str(row[name] or "") for name in rule.group_by}
    return Sample(labels, row["error_rate"] if events else None, events)
