"""Previews of stored spans: the columns, and for spans stored before there were such columns, their messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from limelight_collector.preview import answered, asked
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, hexes
from limelight_collector.query.ranges import starts_at
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

Row = dict[str, Any]

_MESSAGES = "input_messages, input_text, output_messages, output_text"


def input_preview(messages: str, text: str) -> str | None:
    """The last user message of a JSON list of messages, else its last text, else `text`; null where there is none."""
    return asked(_decoded(messages), text) or None


def output_preview(messages: str, text: str) -> str | None:
    """The first text of a JSON list of messages, else `text`; null where there is none."""
    return answered(_decoded(messages), text) or None


def fill_previews(store: Store, project_id: str, rows: Iterable[Row]) -> None:
    """Set `input_preview` and `output_preview` of rows where they are empty and the span's messages give one.

    The rows need `trace_id`, `span_id`, `start_time` and both columns. Spans stored before the columns (migration 9)
    are asked for their messages, and so are calls without a prompt or an answer; others cost nothing.
    """
    lacking = {(row["trace_id"], row["span_id"]): row for row in rows if _lacks(row)}
    if not lacking:
        return
    starts = [row["start_time"] for row in lacking.values()]
    stored = store.query(
        f"SELECT trace_id, span_id, {_MESSAGES} FROM spans FINAL PREWHERE {BOUND} "
        f"AND {starts_at(starts)} AND {IN_TRACES} AND {IN_SPANS}",
        Window(project_id, min(starts), max(starts) + 1).parameters
        | {"traces": hexes(key[0] for key in lacking), "spans": hexes(key[1] for key in lacking)},
    )
    for found in stored.dicts():
        row = lacking.get((found["trace_id"], found["span_id"]))
        if row is not None:
            row["input_preview"] = row["input_preview"] or input_preview(found["input_messages"], found["input_text"])
            row["output_preview"] = row["output_preview"] or output_preview(
                found["output_messages"], found["output_text"]
            )


def _lacks(row: Row) -> bool:
    return not (row["input_preview"] and row["output_preview"])


def _decoded(messages: str) -> Any:
    try:
        return json.loads(messages) if messages else None
    except (ValueError, RecursionError):
        return None
