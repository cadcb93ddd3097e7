"""A filter's tree as SQL: allow-listed expressions and bound parameters, every atom exactly 0 or 1.

Unknown values (NULL, '', no such key) make a comparison false and its `not` true: SQL's third truth value never shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from limelight_collector.query.fields import FIELDS, MAPS, Field, attribute_text
from limelight_collector.query.filter import (
    MAX_LENGTH,
    And,
    Compare,
    Entry,
    Exists,
    FilterError,
    Name,
    Node,
    Not,
    Or,
    Value,
)
from limelight_collector.query.ids import binary

_ORDERED = frozenset({"=", "<", "<=", ">", ">=", "in"})
_OPERATORS: dict[str, frozenset[str]] = {
    "text": _ORDERED | {"contains"},
    "int": _ORDERED,
    "float": _ORDERED,
    "decimal": _ORDERED,
    "time": _ORDERED,
    "bool": frozenset({"=", "in"}),
    "hex": frozenset({"=", "in"}),
    "list": frozenset({"=", "in", "contains"}),
    "flag": frozenset({"=", "in"}),
}
_HEX_DIGITS = {"trace_id": 32}
_EXACT = Context(prec=2 * MAX_LENGTH)
"""Decimal arithmetic that rounds no number a filter has room for; Python's own keeps 28 digits."""
_UNIX_SECONDS = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)

Operand = tuple[str, str]
"""(operator, SQL of what is compared with)."""


class Sql:
    """Collects the parameters while a tree becomes SQL.

    `window` is the SQL that bounds the table (and the side table of flags), `fields` what a filter of it may name.
    """

    def __init__(self, window: str, fields: Mapping[str, Field] = FIELDS) -> None:
        self.parameters: dict[str, Any] = {}
        self.window = window
        self._fields = fields

    def bind(self, type_: str, value: Any) -> str:
        """The placeholder of a new parameter."""
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{type_}}}"

    def condition(self, node: Node) -> str:
        """SQL that is 1 where the tree is true and 0 elsewhere; `FilterError` for unknown fields and wrong types."""
        match node:
            case And(parts):
                return self._joined(" AND ", parts, "1")
            case Or(parts):
                return self._joined(" OR ", parts, "0")
            case Not(part):
                return f"NOT ({self.condition(part)})"
            case Exists(field):
                return self._exists(field)
            case Compare(field):
                return self._entry(node, field) if isinstance(field, Entry) else self._compare(node, self._field(field))

    def value(self, field: Name | Entry) -> str:
        """SQL of the value of a groupable field: text, or NULL where it is unknown."""
        if isinstance(field, Entry):
            column, key = MAPS[field.map], self.bind("String", field.key)
            return f"if({_known(column, key)}, nullIf({attribute_text(column, key)}, ''), NULL)"
        found = self._field(field)
        if not found.groupable:
            raise FilterError(f"cannot group by {found.name}", field.position)
        return f"nullIf(toString({found.sql}), '')"

    def _field(self, name: Name) -> Field:
        found = self._fields.get(name.name)
        if found is None:
            dotted = f'; for an attribute write attr["{name.name}"]'
            hint = dotted if "." in name.name else self._hint()
            raise FilterError(f"unknown field '{name.name}'{hint}", name.position)
        return found

    def _hint(self) -> str:
        return (
            "; GET /api/v1/fields lists them" if self._fields is FIELDS else f"; choose from {', '.join(self._fields)}"
        )

    def _joined(self, word: str, parts: tuple[Node, ...], empty: str) -> str:
        return "(" + word.join(self.condition(part) for part in parts) + ")" if parts else empty

    def _exists(self, named: Name | Entry) -> str:
        if isinstance(named, Entry):
            return f"({_known(MAPS[named.map], self.bind('String', named.key))})"
        field = self._field(named)
        return self._flagged("1") if field.kind == "flag" else f"({field.known or '1'})"

    def _flagged(self, condition: str) -> str:
        return f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM flags WHERE {self.window} AND {condition})"

    def _compare(self, node: Compare, field: Field) -> str:
        if node.operator not in _OPERATORS[field.kind]:
            allowed = " ".join(sorted({"!=" if op == "=" else op for op in _OPERATORS[field.kind]} | {"=", "exists"}))
            raise FilterError(f"{field.name} takes only: {allowed}", node.position)
        given = list(zip(node.values, node.positions, strict=True))
        match field.kind:
            case "flag":
                codes = ", ".join(self._text(field, *one) for one in given)
                return self._flagged(f"code IN ({codes})")
            case "list":
                elements = ", ".join(self._text(field, *one) for one in given)
                return f"hasAny({field.sql}, [{elements}])"
            case "text" if node.operator == "contains":
                return f"({field.known} AND position({field.sql}, {self._text(field, *given[0])}) > 0)"
            case _:
                operator = "=" if node.operator == "in" else node.operator
                operands = [self._operand(field, operator, *one) for one in given]
                sql = _one_zero(field.sql) if field.kind == "float" and field.scale == 1 else field.sql
                compared = _compared(sql, [operand for operand in operands if operand is not None])
                return f"({field.known} AND ifNull({compared}, 0))" if field.known else f"({compared})"

    def _operand(self, field: Field, operator: str, value: Value, position: int) -> Operand | None:
        """What the field is compared with, and how; None where it can never be equal."""
        match field.kind:
            case "text":
                return operator, self._text(field, value, position)
            case "hex":
                digits = _require_hex(field, value, position)
                return operator, binary(self.bind("String", digits), len(digits) // 2)
            case "bool":
                if not isinstance(value, bool):
                    raise FilterError(f"{field.name} is true or false", position)
                return operator, self.bind("Bool", value)
            case "time":
                return self._whole(operator, _require_time(field, value, position))
            case _:
                return self._number(field, operator, value, position)

    def _text(self, field: Field, value: Value, position: int) -> str:
        if not isinstance(value, str):
            raise FilterError(f"{field.name} is text: write the value in double quotes", position)
        return self.bind("String", value)

    def _number(self, field: Field, operator: str, value: Value, position: int) -> Operand | None:
        if not isinstance(value, Decimal):
            raise FilterError(f"{field.name} is a number: compare it with a number", position)
        exact = _EXACT.multiply(value, field.scale)
        if field.kind == "decimal":
            if exact.adjusted() >= 20 or -int(exact.as_tuple().exponent) > 18:
                raise FilterError("money has at most 20 digits before and 18 after the point", position)
            return operator, self.bind("Decimal(38, 18)", format(exact, "f"))
        if field.kind == "float" and field.scale == 1:
            return operator, self._float(exact, position)
        _require_range(exact, position)
        return self._whole(operator, exact)

    def _whole(self, operator: str, exact: Decimal) -> Operand | None:
        """For a field of whole numbers: `< 5.5` is `<= 5`, `> 5.5` is `> 5`, and nothing equals 5.5."""
        floor = int(exact.to_integral_value(ROUND_FLOOR))
        if floor != exact:
            if operator == "=":
                return None
            operator = "<=" if operator in {"<", "<="} else ">"
        if -(2**63) <= floor < 2**64:
            return operator, self.bind("UInt64" if floor >= 0 else "Int64", floor)
        # Beyond every value a field can have: only the direction counts.
        return None if operator == "=" else (operator, self.bind("Float64", float(floor)))

    def _float(self, value: Decimal, position: int) -> str:
        _require_range(value, position)
        return self.bind("Float64", float(value) + 0.0)

    def _entry(self, node: Compare, entry: Entry) -> str:
        column, key = MAPS[entry.map], self.bind("String", entry.key)
        raw, text = f"{column}[{key}]", attribute_text(column, key)
        operator = "=" if node.operator == "in" else node.operator
        texts: list[Operand] = []
        numbers: list[Operand] = []
        truths: list[Operand] = []
        for value, position in zip(node.values, node.positions, strict=True):
            if isinstance(value, bool) and operator == "=":
                truths.append(("=", "'true'" if value else "'false'"))
            elif isinstance(value, Decimal) and operator != "contains":
                numbers.append((operator, self._float(value, position)))
            elif isinstance(value, str):
                texts.append((operator, self.bind("String", value)))
            else:
                raise FilterError(f"'{operator}' cannot take this value", position)
        if operator == "contains":
            return f"({_known(column, key)} AND position({text}, {texts[0][1]}) > 0)"
        atoms = [_compared(sql, operands) for sql, operands in ((text, texts), (raw, truths)) if operands]
        if numbers:
            atoms.append(f"ifNull({_compared(_one_zero(f'toFloat64OrNull({raw})'), numbers)}, 0)")
        return f"({_known(column, key)} AND ({' OR '.join(atoms)}))"


def _known(column: str, key: str) -> str:
    """SQL that is 1 where the map has a value under `key`: a missing key reads as '', an empty value is 'null'."""
    return f"{column}[{key}] NOT IN ('', 'null')"


def _compared(sql: str, operands: list[Operand]) -> str:
    """SQL that compares: with one operand as it says, with several for being equal to any."""
    if not operands:
        return "0"
    if len(operands) == 1:
        operator, operand = operands[0]
        return f"{sql} {operator} {operand}"
    return f"{sql} IN ({', '.join(operand for _, operand in operands)})"


def _one_zero(sql: str) -> str:
    """SQL of a float whose -0 is 0: `=` takes the two for equal, `IN` does not."""
    return f"({sql} + 0)"


def _require_range(value: Decimal, position: int) -> None:
    if value and abs(value.adjusted()) > 300:
        raise FilterError("this number is out of range", position)


def _require_hex(field: Field, value: Value, position: int) -> str:
    digits = _HEX_DIGITS.get(field.name, 16)
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
        raise FilterError(f"{field.name} is {digits} hex digits in double quotes", position)
    return value.lower()


def _require_time(field: Field, value: Value, position: int) -> Decimal:
    """Nanoseconds since 1970."""
    try:
        given = value if isinstance(value, Decimal) else Decimal(parse_time(str(value)))
    except ValueError as error:
        raise FilterError(f"{field.name}: {error}", position) from None
    nanoseconds = _EXACT.multiply(given, 10**9) if isinstance(value, Decimal) else given
    if not -(2**63) <= nanoseconds < 2**63:
        raise FilterError(f"{field.name}: this time is out of range", position)
    return nanoseconds


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time or of unix seconds; `ValueError` says what was expected."""
    match = _RFC3339.fullmatch(text.strip().upper())
    if match is None:
        if not _UNIX_SECONDS.fullmatch(text.strip()) or abs(Decimal(text)) >= 10**10:
            raise ValueError("expected RFC 3339 (2026-11-23T10:00:00Z) or unix seconds")
        return int(_EXACT.multiply(Decimal(text), 10**9))
    whole, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    except ValueError as error:
        raise ValueError(f"no such time: {error}") from None
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))
