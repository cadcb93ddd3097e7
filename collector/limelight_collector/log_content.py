"""Log content: prompts and answers that arrive as log records, joined to the span they belong to.

Instrumentations of 2024 and 2025 put content into log events of the span (`gen_ai.user.message`, `gen_ai.choice`,
`gen_ai.client.inference.operation.details`). Whichever arrives first waits in its table for the other; the span's row
is then made again from all records there are, so their order decides nothing. A span with content of its own keeps it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from limelight_collector import dialects
from limelight_collector.attributes import loads
from limelight_collector.content import MODEL_TYPES, fill_content
from limelight_collector.content_events import NAMES as CONTENT_EVENTS
from limelight_collector.content_events import read_events
from limelight_collector.unfold import family_of

Row = dict[str, Any]
Key = tuple[bytes, bytes]
"""(trace id, span id)."""
Records = dict[Key, dict[bytes, Row]]
"""Content records by span and log id."""

JOINED = (
    "input_messages",
    "output_messages",
    "input_text",
    "output_text",
    "input_preview",
    "output_preview",
    "system_instructions",
    "tool_calls",
    "tool_definition_names",
)
"""Columns that are made again from the records."""
_EMPTY = {column: [] if column == "tool_definition_names" else "" for column in JOINED}
_NO_SPAN = bytes(8)
_OWN = frozenset(
    key
    for column in ("input_messages", "output_messages", "input_text", "output_text")
    for key in dialects.CONTENT[column]
)


def content_records(logs: Iterable[Row]) -> Records:
    """The records of `logs` (rows of the table) that carry a span's content."""
    found: Records = defaultdict(dict)
    for row in logs:
        if row["event_name"] in CONTENT_EVENTS and row["span_id"] != _NO_SPAN:
            found[row["trace_id"], row["span_id"]][row["log_id"]] = row
    return found


def lacks_content(row: Row) -> bool:
    """Whether a row is a model call whose span brought no content of its own."""
    if row["observation_type"] not in MODEL_TYPES:
        return False
    attributes: Mapping[str, str] = row.get("attributes") or {}
    if not _OWN.isdisjoint(attributes) or any(family_of(key) in _FAMILIES for key in attributes):
        return False
    events: Any = loads(row["events"]) if row.get("events") else None
    return not any(event.get("name") in CONTENT_EVENTS for event in events or ())


_FAMILIES = frozenset({"llm.input_messages.", "llm.output_messages.", "gen_ai.prompt.", "gen_ai.completion."})


def join(row: Row, records: Mapping[bytes, Row]) -> None:
    """Give a row the content of its records, oldest first; what was joined before is made again."""
    ordered = sorted(records.values(), key=lambda record: (record["original_ns"] or record["time"], record["log_id"]))
    content = read_events((record["event_name"], _value(record["body"]), _values(record)) for record in ordered)
    made: Row = {"observation_type": row["observation_type"]}
    fill_content(made, content)
    for column in JOINED:
        row[column] = made.get(column) or _EMPTY[column]
    if made["finish_reasons"] and not row.get("finish_reasons"):
        row["finish_reasons"] = made["finish_reasons"]


def _value(text: str) -> Any:
    return loads(text) if text.startswith(("{", "[")) else _text(text)


def _text(text: str) -> Any:
    """A JSON string's own text."""
    return (loads(f"[{text}]") or [text])[0] if text else None


def _values(record: Row) -> dict[str, Any]:
    return {key: _value(text) for key, text in record["attributes"].items()}
