"""GET series, errors, flags, fields and the values of a field."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from limelight_collector.api.access import Parts, Reader
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit, names, seconds
from limelight_collector.query import fields
from limelight_collector.query.errors import error_groups
from limelight_collector.query.filter import parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.flags import find_flags
from limelight_collector.query.measures import MEASURES
from limelight_collector.query.series import series
from limelight_collector.query.window import BOUND

router = APIRouter(tags=["questions"])


@router.get("/series")
def get_series(
    parts: Parts,
    window: AskedWindow,
    measure: Annotated[str, Query(description=f"comma-separated: {', '.join(MEASURES)}")],
    group_by: Annotated[str, Query(description="comma-separated fields")] = "",
    step: Annotated[str, Query(description="seconds, or 30s, 5m, 1h, 1d; none = one row a group")] = "",
    filter_text: Filter = "",
) -> Answer:
    """Measures of model calls by time and group."""
    found = series(
        parts.store,
        window.project_id,
        measures=names(measure),
        group_by=names(group_by),
        start_ns=window.start_ns,
        end_ns=window.end_ns,
        step_s=seconds("step", step),
        filter_text=filter_text,
    )
    return Answer({"rows": found.rows, "source": found.source})


@router.get("/errors")
def list_errors(parts: Parts, window: AskedWindow, filter_text: Filter = "", limit: Limit = 100) -> Answer:
    """Failed spans grouped by what failed, largest group first."""
    return Answer({"groups": error_groups(parts.store, window, filter_text=filter_text, limit=limit)})


@router.get("/flags")
def list_flags(
    parts: Parts,
    window: AskedWindow,
    code: Annotated[str, Query(description="only this code")] = "",
    filter_text: Filter = "",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Answer:
    """Verdicts on spans of the window, newest span first."""
    found, next_cursor = find_flags(parts.store, window, code=code, filter_text=filter_text, limit=limit, cursor=cursor)
    return Answer({"flags": found, "next_cursor": next_cursor})


@router.get("/fields")
def list_fields(_caller: Reader) -> Answer:
    """The fields of a span: name, type, and whether a filter may name it."""
    return Answer({"fields": fields.list_fields()})


@router.get("/fields/{name:path}/values")
def list_values(parts: Parts, window: AskedWindow, name: str, limit: Limit = 100) -> Answer:
    """The values a field (or `attr["key"]`, URL-encoded) takes in the window, most frequent first."""
    sql = Sql(BOUND)
    value = sql.value(parse_field(name))
    return Answer({"values": fields.field_values(parts.store, window.compiled(sql, ""), value, limit)})
