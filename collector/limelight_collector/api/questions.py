"""GET series, errors, flags and the values of a field, each also as a file; GET fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from limelight_collector.api import file_columns
from limelight_collector.api.access import Parts, Reader
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit, names, seconds
from limelight_collector.api.export import Block, FileAnswer, FileFormat, in_blocks
from limelight_collector.errors import QueryLimit
from limelight_collector.query import fields
from limelight_collector.query.errors import error_groups
from limelight_collector.query.filter import parse_field
from limelight_collector.query.flags import find_flags
from limelight_collector.query.measures import MEASURES
from limelight_collector.query.series import Series, series
from limelight_collector.query.values import field_values
from limelight_collector.query.whole import whole_flags
from limelight_collector.query.window import Window
from limelight_collector.store import Store

router = APIRouter(tags=["questions"])

MAX_TOP = 100
"""Groups of a series that are told apart on request."""
MAX_FILE_GROUPS = 20_000
"""Error groups or values that a file may have."""


@dataclass(frozen=True, slots=True)
class _Series:
    """What is asked of requests: measures by group and time."""

    window: Window
    measures: list[str]
    group_by: list[str]
    step_s: float | None
    filter_text: str
    top: int | None

    def answer(self, store: Store) -> Series:
        """The rows."""
        return series(
            store,
            self.window.project_id,
            measures=self.measures,
            group_by=self.group_by,
            start_ns=self.window.start_ns,
            end_ns=self.window.end_ns,
            step_s=self.step_s,
            filter_text=self.filter_text,
            top=self.top,
        )


def _series(
    window: AskedWindow,
    measure: Annotated[str, Query(description=f"comma-separated: {', '.join(MEASURES)}")],
    group_by: Annotated[str, Query(description="comma-separated fields")] = "",
    step: Annotated[str, Query(description="seconds, or 30s, 5m, 1h, 1d; none = one row a group")] = "",
    filter_text: Filter = "",
    top: Annotated[
        int | None, Query(ge=1, le=MAX_TOP, description="so many largest groups by the first measure, the rest as one")
    ] = None,
) -> _Series:
    return _Series(window, names(measure), names(group_by), seconds("step", step), filter_text, top)


AskedSeries = Annotated[_Series, Depends(_series)]
Code = Annotated[str, Query(description="only this code")]


@router.get("/series")
def get_series(parts: Parts, asked: AskedSeries) -> Answer:
    """Measures of model calls by time and group."""
    found = asked.answer(parts.store)
    return Answer({"rows": found.rows, "source": found.source})


@router.get("/series/export", response_class=StreamingResponse)
def export_series(parts: Parts, asked: AskedSeries, file_format: FileFormat = "jsonl") -> FileAnswer:
    """The same as a file."""
    rows = asked.answer(parts.store).rows
    groups = [*asked.group_by, "other"] if asked.top is not None else asked.group_by
    columns = file_columns.of_series(asked.measures, groups, stepped=bool(asked.step_s))
    return FileAnswer("series", file_format, columns, in_blocks(rows))


@router.get("/errors")
def list_errors(parts: Parts, window: AskedWindow, filter_text: Filter = "", limit: Limit = 100) -> Answer:
    """Failed spans grouped by what failed, largest group first; `truncated`: there are more than `limit`."""
    groups, is_truncated = error_groups(parts.store, window, filter_text=filter_text, limit=limit)
    return Answer({"groups": groups, "truncated": is_truncated})


@router.get("/errors/export", response_class=StreamingResponse)
def export_errors(
    parts: Parts, window: AskedWindow, file_format: FileFormat = "jsonl", filter_text: Filter = ""
) -> FileAnswer:
    """All groups of failed spans, largest first, as a file."""
    groups = error_groups(parts.store, window, filter_text=filter_text, limit=MAX_FILE_GROUPS)
    return FileAnswer("errors", file_format, file_columns.ERRORS, in_blocks(_all(groups)))


@router.get("/flags")
def list_flags(
    parts: Parts,
    window: AskedWindow,
    code: Code = "",
    filter_text: Filter = "",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Answer:
    """Verdicts on spans of the window, newest span first."""
    found, next_cursor = find_flags(parts.store, window, code=code, filter_text=filter_text, limit=limit, cursor=cursor)
    return Answer({"flags": found, "next_cursor": next_cursor})


@router.get("/flags/export", response_class=StreamingResponse)
def export_flags(
    parts: Parts, window: AskedWindow, file_format: FileFormat = "jsonl", code: Code = "", filter_text: Filter = ""
) -> FileAnswer:
    """All verdicts on spans of the window, oldest span first, as a file."""
    blocks = whole_flags(parts.store, window, code=code, filter_text=filter_text)
    return FileAnswer("flags", file_format, file_columns.FLAGS, blocks)


@router.get("/fields")
def list_fields(_caller: Reader) -> Answer:
    """The fields of a span: name, type, and whether a filter may name it."""
    return Answer({"fields": fields.list_fields()})


@router.get("/fields/{name:path}/values")
def list_values(parts: Parts, window: AskedWindow, name: str, limit: Limit = 100) -> Answer:
    """The values a field (or `attr["key"]`, URL-encoded) takes in the window, most frequent first."""
    values, is_truncated = _values(parts.store, window, name, limit)
    return Answer({"values": values, "truncated": is_truncated})


@router.get("/fields/{name:path}/values/export", response_class=StreamingResponse)
def export_values(parts: Parts, window: AskedWindow, name: str, file_format: FileFormat = "jsonl") -> FileAnswer:
    """All values a field takes in the window, most frequent first, as a file."""
    values = _all(_values(parts.store, window, name, MAX_FILE_GROUPS))
    return FileAnswer("values", file_format, file_columns.VALUES, in_blocks(values))


def _values(store: Store, window: Window, name: str, limit: int) -> tuple[Block, bool]:
    return field_values(store, window, parse_field(name), limit)


def _all(found: tuple[Block, bool]) -> Block:
    """What was found, if that is all of it: a file must not look whole where it is not."""
    rows, is_truncated = found
    if is_truncated:
        raise QueryLimit(f"this file would have more than {MAX_FILE_GROUPS} rows: choose a shorter time range")
    return rows
