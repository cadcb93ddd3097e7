"""The fields a filter or a grouping may name: span columns that allow it, and a few computed from them.

This is the allow-list: SQL is made of the expressions below and of bound parameters, never of text from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from limelight_collector.store.columns import COLUMNS, Column

Kind = Literal["text", "int", "float", "decimal", "bool", "time", "hex", "list", "flag"]


@dataclass(frozen=True, slots=True)
class Field:
    """One name of the filter language: its kind, its SQL expression, and the SQL that says its value is known.

    A literal is multiplied by `scale` before it meets the expression (duration_ms against duration_ns).
    """

    name: str
    kind: Kind
    sql: str
    known: str
    scale: int = 1
    groupable: bool = False


# `parts` of all messages, their text joined by line breaks: what a person would call the prompt or the answer.
_TEXT_OF_MESSAGES = (
    "arrayStringConcat(arrayFilter(t -> t != '', arrayMap(part -> JSONExtractString(part, 'content'), "
    "arrayFlatten(arrayMap(message -> JSONExtractArrayRaw(message, 'parts'), JSONExtractArrayRaw({0}))))), '\\n')"
)
ERROR_MESSAGE = "substring(if(error_message != '', error_message, status_message), 1, 2000)"


def of_column(column: Column) -> Field:
    """The field of a column that filters may name."""
    name = column.name
    match column.json:
        case "hex":
            width = int(column.type[len("FixedString(") : -1])
            return Field(name, "hex", name, f"{name} != toFixedString('', {width:d})")
        case "time":
            return Field(name, "time", f"toUnixTimestamp64Nano({name})", "")
        case "int" | "float" | "decimal" | "bool":
            known = f"isNotNull({name})" if column.type.startswith("Nullable") else ""
            return Field(name, column.json, name, known, groupable=column.json == "bool")
        case "list":
            return Field(name, "list", name, f"notEmpty({name})")
        case _:
            return Field(name, "text", name, f"{name} != ''", groupable=not column.content)


def _text(name: str, sql: str, *, groupable: bool = True) -> Field:
    return Field(name, "text", sql, f"({sql}) != ''", groupable=groupable)


def _content(name: str) -> Field:
    messages = name.replace("_text", "_messages")
    sql = f"if({messages} = '', {name}, {_TEXT_OF_MESSAGES.format(messages)})"
    return _text(name, sql, groupable=False)


_TOTAL_TOKENS = "ifNull(input_tokens, 0) + ifNull(output_tokens, 0)"
_VIRTUAL = (
    Field("duration_ms", "float", "duration_ns", "", scale=10**6),
    Field("duration_s", "float", "duration_ns", "", scale=10**9),
    Field("end_time", "time", "toUInt64(toUnixTimestamp64Nano(start_time)) + duration_ns", ""),
    Field("total_tokens", "int", _TOTAL_TOKENS, "(isNotNull(input_tokens) OR isNotNull(output_tokens))"),
    Field("has_error", "bool", "(status = 'error')", "", groupable=True),
    Field("flag", "flag", "", ""),
    _text("model", "if(response_model != '', response_model, request_model)"),
    _text("error_fingerprint", "error_fingerprint"),
    _content("input_text"),
    _content("output_text"),
)

FIELDS: dict[str, Field] = {
    **{column.name: of_column(column) for column in COLUMNS if column.filterable},
    **{field.name: field for field in _VIRTUAL},
}
MAPS = {"attr": "attributes", "resource": "resource"}
"""Filter name of a map -> its column."""


def attribute_text(column: str, key: str) -> str:
    """SQL for the text of a map's value: a JSON string without its quotes, anything else as it is written.

    `key` is the SQL of the key (a bound parameter).
    """
    raw = f"{column}[{key}]"
    return f"if(startsWith({raw}, '\"'), JSONExtractString(concat('[', {raw}, ']'), 1), {raw})"


def list_fields() -> list[dict[str, Any]]:
    """The answer of GET fields: every name a filter may use, with its kind; `attr["…"]` and `resource["…"]` besides."""
    named = [{"name": field.name, "type": field.kind, "filterable": True} for field in FIELDS.values()]
    maps = [{"name": f'{name}["…"]', "type": "text", "filterable": True} for name in MAPS]
    rest = [{"name": c.name, "type": c.json, "filterable": False} for c in COLUMNS if _only_shown(c)]
    return [*named, *maps, *rest]


def _only_shown(column: Column) -> bool:
    return not column.filterable and column.json != "hidden"
