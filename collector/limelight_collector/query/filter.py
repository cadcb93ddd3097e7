"""The filter language: text -> tokens -> tree. What it means and the grammar: docs/filter.md; SQL: filter_sql.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

MAX_LENGTH = 10_000
"""Characters of one filter."""
MAX_DEPTH = 40
"""Nested parentheses and nots."""
MAX_COMPARISONS = 200
"""Comparisons (and `exists`) in one filter: each is work for every span looked at."""
MAX_VALUES = 1000
"""Values in one filter, the listed ones of `in` included."""


class FilterError(Exception):
    """A filter that cannot be understood; `position` counts characters from 0, `message` says what was expected."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (position {position})")
        self.message = message
        self.position = position


Value = str | bool | Decimal


@dataclass(frozen=True, slots=True)
class Name:
    """A field by its name."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map: `attr["key"]` or `resource["key"]`."""

    map: str
    key: str
    position: int


@dataclass(frozen=True, slots=True)
class Compare:
    """`field operator values`; `operator` is one of = < <= > >= in contains, several values only with `in`."""

    field: Name | Entry
    operator: str
    values: tuple[Value, ...]
    position: int  # of the operator
    positions: tuple[int, ...]  # of each value


@dataclass(frozen=True, slots=True)
class Exists:
    """True where the field's value is known."""

    field: Name | Entry


@dataclass(frozen=True, slots=True)
class Not:
    """True where `part` is false."""

    part: Node


@dataclass(frozen=True, slots=True)
class And:
    """True where every part is; no part at all is true."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True where any part is."""

    parts: tuple[Node, ...]


Node = Compare | Exists | Not | And | Or


def named(node: Node) -> Iterator[Name | Entry]:
    """The fields that a tree names, one for each time it does."""
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from named(part)
        case Not(part):
            yield from named(part)
        case Exists(field) | Compare(field):
            yield field


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.]))
    |(?P<symbol>!=|<=|>=|[=<>(),\[\]])
    |(?P<word>[A-Za-z_][\w.\-]*)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_PAIR = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\({_PAIR}|u[0-9a-fA-F]{{4}}|.)", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "exists", "true", "false"})
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # string number symbol word keyword end
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    half = _HALF.search(text)  # JSON can carry one, UTF-8 cannot
    if half:
        raise FilterError("half of a surrogate pair is no character", half.start())
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            what = "this string is not closed" if text[position] == '"' else f"unexpected {text[position]!r}"
            raise FilterError(what, position)
        kind, found = str(match.lastgroup), match.group()
        if kind == "word" and found.lower() in _KEYWORDS:
            kind, found = "keyword", found.lower()
        if kind != "space":
            tokens.append(_Token(kind, found, position))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _unquote(token: _Token) -> str:
    def replace(match: re.Match[str]) -> str:
        code, position = match.group(1), token.position + 1 + match.start()
        if len(code) > 1:  # \uXXXX, or two of them: the halves of one character beyond U+FFFF
            units = bytes.fromhex(code.replace("\\", "").replace("u", ""))
            try:
                return units.decode("utf-16-be")
            except UnicodeDecodeError:
                raise FilterError("half of a surrogate pair is no character", position) from None
        if code not in _ESCAPES:
            raise FilterError(f'unknown escape \\{code}; use \\\\ \\" \\n \\t \\uXXXX', position)
        return _ESCAPES[code]

    return _ESCAPE.sub(replace, token.text[1:-1])


class _Parser:
    """Recursive descent: or < and < not < comparison."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._comparisons = 0
        self._values = 0

    def parse(self) -> Node:
        if self._peek().kind == "end":
            return And(())
        node = self._or(0)
        token = self._peek()
        if token.kind != "end":
            raise FilterError(f"expected 'and', 'or' or the end, found {token.text!r}", token.position)
        return node

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _accept(self, kind: str, text: str) -> bool:
        token = self._peek()
        if (token.kind, token.text) != (kind, text):
            return False
        self._take()
        return True

    def _expect(self, text: str) -> None:
        token = self._peek()
        if not self._accept("symbol", text):
            raise FilterError(f"expected {text!r}", token.position)

    def _or(self, depth: int) -> Node:
        parts = [self._and(depth)]
        while self._accept("keyword", "or"):
            parts.append(self._and(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self, depth: int) -> Node:
        parts = [self._not(depth)]
        while self._accept("keyword", "and"):
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not(self, depth: int) -> Node:
        token = self._peek()
        if depth > MAX_DEPTH:
            raise FilterError(f"nested deeper than {MAX_DEPTH}", token.position)
        if self._accept("keyword", "not"):
            return Not(self._not(depth + 1))
        if self._accept("symbol", "("):
            node = self._or(depth + 1)
            self._expect(")")
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            message = f"more than {MAX_COMPARISONS} comparisons; several values of one field go into one: in (…)"
            raise FilterError(message, self._peek().position)
        if self._accept("keyword", "exists"):
            return Exists(self._field())
        field = self._field()
        token = self._take()
        if token.kind == "keyword" and token.text == "exists":
            return Exists(field)
        if token.kind == "keyword" and token.text == "in":
            values, positions = zip(*self._list(), strict=True)
            return Compare(field, "in", values, token.position, positions)
        if token.text not in _COMPARISONS and (token.kind, token.text) != ("keyword", "contains"):
            raise FilterError("expected one of = != < <= > >= in contains exists", token.position)
        value, position = self._value()
        compare = Compare(field, "=" if token.text == "!=" else token.text, (value,), token.position, (position,))
        return Not(compare) if token.text == "!=" else compare

    def _field(self) -> Name | Entry:
        token = self._take()
        if token.kind != "word":
            raise FilterError("expected a field name", token.position)
        if token.text not in {"attr", "resource"}:
            return Name(token.text, token.position)
        self._expect("[")
        key = self._take()
        if key.kind != "string":
            raise FilterError(f'expected a key in double quotes: {token.text}["…"]', key.position)
        self._expect("]")
        return Entry(token.text, _unquote(key), token.position)

    def _list(self) -> list[tuple[Value, int]]:
        self._expect("(")
        values = [self._value()]
        while self._accept("symbol", ","):
            values.append(self._value())
        self._expect(")")
        return values

    def _value(self) -> tuple[Value, int]:
        token = self._take()
        self._values += 1
        if self._values > MAX_VALUES:
            raise FilterError(f"more than {MAX_VALUES} values", token.position)
        match token.kind:
            case "string":
                return _unquote(token), token.position
            case "number":
                return Decimal(token.text), token.position
            case "word":
                return token.text, token.position
            case "keyword" if token.text in {"true", "false"}:
                return token.text == "true", token.position
            case _:
                raise FilterError("expected a value: text in double quotes, a number, true or false", token.position)


def parse(text: str) -> Node:
    """The tree of a filter; an empty one lets everything through. `FilterError` names the position."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH)
    return _Parser(text).parse()


def parse_field(text: str) -> Name | Entry:
    """One field by itself, as in `group_by`; `FilterError` where it is anything else."""
    tokens = _tokens(text)
    if len(tokens) == 2 and tokens[0].kind == "word":
        return Name(tokens[0].text, 0)
    if [token.kind for token in tokens] == ["word", "symbol", "string", "symbol", "end"]:
        name, opened, key, closed, _ = tokens
        if name.text in {"attr", "resource"} and opened.text == "[" and closed.text == "]":
            return Entry(name.text, _unquote(key), 0)
    raise FilterError('expected a field name, attr["…"] or resource["…"]', 0)
