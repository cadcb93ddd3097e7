"""The filter language a second time, in plain Python over spans as the API shows them.

Written from docs/filter.md alone, for tests to compare with: it knows of no SQL, and reads characters one by one where
the collector matches patterns. What it needs to know of the fields is the answer of `GET fields`. (Over 400 lines: a
whole language, from its characters to its meaning, is easier to hold against its page in one piece.)
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

Span = Mapping[str, Any]
Predicate = Callable[[Span], bool]

BLANK, DIGITS = " \t\n\r\f\v", "0123456789"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
KEYWORDS = ("and", "or", "not", "in", "contains", "exists", "true", "false")
ORDER = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ALLOWED = {
    **dict.fromkeys(("int", "float", "decimal", "time"), ("=", "<", "<=", ">", ">=", "in")),
    **dict.fromkeys(("bool", "hex", "flag"), ("=", "in")),
    "text": ("=", "<", "<=", ">", ">=", "in", "contains"),
    "list": ("=", "in", "contains"),
}


class Mistake(Exception):
    """The filter is wrong at `position`."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


# -- words -------------------------------------------------------------------------------------------------------------
def lex(text: str) -> list[tuple[str, str, int]]:
    """(kind, text, position) of each word; kind is text, number, word, keyword, symbol or end."""
    found: list[tuple[str, str, int]] = []
    at = 0
    while at < len(text):
        start, first = at, text[at]
        if first in BLANK:
            at += 1
            continue
        if first == '"':
            at = closing_quote(text, at) + 1
            kind = "text"
        elif first in DIGITS or (first == "-" and text[at + 1 : at + 2] in [*DIGITS]):
            at, kind = number_end(text, at), "number"
        elif first in LETTERS:
            while at < len(text) and text[at] in LETTERS + DIGITS + ".-":
                at += 1
            kind = "keyword" if text[start:at].lower() in KEYWORDS else "word"
        else:
            kind = "symbol"
            at += 2 if text[at : at + 2] in ("!=", "<=", ">=") else 1
            if text[start:at] not in ("!=", "<=", ">=", *"=<>(),[]"):
                raise Mistake(start)
        found.append((kind, text[start:at].lower() if kind == "keyword" else text[start:at], start))
    return [*found, ("end", "", len(text))]


def closing_quote(text: str, opening: int) -> int:
    """Where the text that starts at `opening` ends."""
    at = opening + 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        raise Mistake(opening)
    return at


def number_end(text: str, start: int) -> int:
    """The end of digits, fraction and exponent; a number runs into nothing that words are made of."""

    def digits(at: int) -> int:
        while at < len(text) and text[at] in DIGITS:
            at += 1
        return at

    at = digits(start + (text[start] == "-"))
    if text[at : at + 1] == "." and digits(at + 1) > at + 1:
        at = digits(at + 1)
    if text[at : at + 1] in ("e", "E"):
        signed = at + 1 + (text[at + 1 : at + 2] in ("+", "-"))
        if signed < digits(signed) <= signed + 3:
            at = digits(signed)
    if at < len(text) and text[at] in LETTERS + DIGITS + ".":
        raise Mistake(start)
    return at


def unquoted(quoted: str, position: int) -> str:
    """The text that is meant; `position` is that of its opening quote."""
    meant, at = "", 1
    while at < len(quoted) - 1:
        if quoted[at] != "\\":
            meant += quoted[at]
            at += 1
            continue
        unit = code_unit(quoted, at)
        low = code_unit(quoted, at + 6) if unit is not None and 0xD800 <= unit < 0xDC00 else None
        if unit is None:
            plain = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}.get(quoted[at + 1])
            if plain is None:
                raise Mistake(position + at)
            meant, at = meant + plain, at + 2
        elif low is not None and 0xDC00 <= low < 0xE000:
            meant, at = meant + chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), at + 12
        elif 0xD800 <= unit < 0xE000:
            raise Mistake(position + at)
        else:
            meant, at = meant + chr(unit), at + 6
    return meant


def code_unit(quoted: str, at: int) -> int | None:
    r"""The number of the \uXXXX at `at`, if that is what stands there."""
    digits = quoted[at + 2 : at + 6]
    if quoted[at : at + 2] != "\\u" or len(digits) < 4 or any(c not in "0123456789abcdefABCDEF" for c in digits):
        return None
    return int(digits, 16)


# -- grammar -----------------------------------------------------------------------------------------------------------
class Reader:
    """Reads one filter into a tree: ("or" | "and", parts), ("not", part), ("exists", field), ("compare", …)."""

    def __init__(self, text: str) -> None:
        if len(text) > 10_000:
            raise Mistake(10_000)
        self.words = lex(text)
        self.comparisons = self.values = 0

    def read(self) -> Any:
        if self.words[0][0] == "end":
            return ("and", [])
        tree = self.joined("or", 0)
        if self.words[0][0] != "end":
            raise Mistake(self.words[0][2])
        return tree

    def take(self, *wanted: str) -> str | None:
        """The next word if it is one of these keywords or symbols."""
        kind, text, _ = self.words[0]
        if kind not in ("keyword", "symbol") or text not in wanted:
            return None
        self.words.pop(0)
        return text

    def need(self, symbol: str) -> None:
        if not self.take(symbol):
            raise Mistake(self.words[0][2])

    def joined(self, word: str, depth: int) -> Any:
        def part() -> Any:
            return self.joined("and", depth) if word == "or" else self.negated(depth)

        parts = [part()]
        while self.take(word):
            parts.append(part())
        return (word, parts)

    def negated(self, depth: int) -> Any:
        if depth > 40:
            raise Mistake(self.words[0][2])
        if self.take("not"):
            return ("not", self.negated(depth + 1))
        if self.take("("):
            inner = self.joined("or", depth + 1)
            self.need(")")
            return inner
        return self.comparison()

    def comparison(self) -> Any:
        self.comparisons += 1
        if self.comparisons > 200:
            raise Mistake(self.words[0][2])
        if self.take("exists"):
            return ("exists", self.field())
        field = self.field()
        position = self.words[0][2]
        word = self.take("exists", "in", "contains", "!=", *ORDER)
        if word is None:
            raise Mistake(position)
        if word == "exists":
            return ("exists", field)
        if word == "!=":
            return ("not", ("compare", field, "=", [self.value()], position))
        if word != "in":
            return ("compare", field, word, [self.value()], position)
        self.need("(")
        values = [self.value()]
        while self.take(","):
            values.append(self.value())
        self.need(")")
        return ("compare", field, "in", values, position)

    def field(self) -> tuple[str, str | None, int]:
        """(name, key or None, position)."""
        kind, name, position = self.words.pop(0)
        if kind != "word":
            raise Mistake(position)
        if name not in ("attr", "resource"):
            return name, None, position
        self.need("[")
        kind, key, at = self.words[0]
        if kind != "text":
            raise Mistake(at)
        self.words.pop(0)
        self.need("]")
        return name, unquoted(key, at), position

    def value(self) -> tuple[Any, int]:
        """(str, Decimal or bool; position)."""
        kind, text, position = self.words[0]
        self.values += 1
        if self.values > 1000:
            raise Mistake(position)
        if kind == "keyword" and text in ("true", "false"):
            found: Any = text == "true"
        elif kind in ("text", "word", "number"):
            found = unquoted(text, position) if kind == "text" else Decimal(text) if kind == "number" else text
        else:
            raise Mistake(position)
        self.words.pop(0)
        return found, position


# -- meaning -----------------------------------------------------------------------------------------------------------
def reference(text: str, types: Mapping[str, str], fingerprints: Mapping[str, str]) -> Predicate:
    """What a filter means; `Mistake` where it is wrong.

    `types` are the filterable fields of `GET fields`, `fingerprints` the error group by id of each failed span.
    """
    return meaning(Reader(text).read(), types, fingerprints)


def meaning(tree: Any, types: Mapping[str, str], fingerprints: Mapping[str, str]) -> Predicate:
    """The predicate of a tree."""
    match tree:
        case ("and" | "or") as word, parts:
            inner = [meaning(part, types, fingerprints) for part in parts]
            every = all if word == "and" else any
            return lambda span: every(predicate(span) for predicate in inner)
        case "not", part:
            wrong = meaning(part, types, fingerprints)
            return lambda span: not wrong(span)
        case "exists", field:
            typed(field, types)
            return lambda span: value_of(span, field, fingerprints) is not None
        case _:
            _, field, word, values, position = tree
            return compared(typed(field, types), field, word, values, position, fingerprints)


def typed(field: tuple[str, str | None, int], types: Mapping[str, str]) -> str:
    """The type of a field that exists."""
    name, key, position = field
    if key is None and name not in types:
        raise Mistake(position)
    return "attribute" if key is not None else types[name]


def compared(
    kind: str, field: Any, word: str, values: list[tuple[Any, int]], position: int, fingerprints: Mapping[str, str]
) -> Predicate:
    """The predicate of one comparison."""
    if kind != "attribute" and word not in ALLOWED[kind]:
        raise Mistake(position)
    wanted = [literal(kind, field[0], word, *value) for value in values]
    name = "=" if word == "in" else word

    def one(found: Any, want: Any) -> bool:
        if kind == "attribute":
            return attribute_holds(found, name, want)
        if isinstance(found, list):
            return want in found
        return want in found if name == "contains" else bool(ORDER[name](found, want))

    def holds(span: Span) -> bool:
        found = value_of(span, field, fingerprints)
        return found is not None and any(one(found, want) for want in wanted)

    return holds


def attribute_holds(found: Any, word: str, want: Any) -> bool:
    """Whether an attribute's value compares with text, a number (float) or a truth."""
    if isinstance(want, bool):
        return found is want
    if isinstance(want, float):
        return isinstance(found, int | float) and not isinstance(found, bool) and bool(ORDER[word](float(found), want))
    text = found if isinstance(found, str) else json_text(found)
    return want in text if word == "contains" else bool(ORDER[word](text, want))


def literal(kind: str, name: str, word: str, value: Any, position: int) -> Any:
    """What the value means beside a field of that type."""
    number = isinstance(value, Decimal)
    if (
        number
        and kind in ("int", "float", "attribute")
        and abs((value * SCALES.get(name, 1)).adjusted()) > 300
        and value
    ):
        raise Mistake(position)
    if kind == "attribute":
        if (isinstance(value, bool) and word not in ("=", "in")) or (number and word == "contains"):
            raise Mistake(position)
        return float(value) if number else value
    if kind in ("text", "list", "flag") and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "hex" and isinstance(value, str) and is_hex(value, 32 if name == "trace_id" else 16):
        return value.lower()
    if kind == "time" and not isinstance(value, bool):
        return time_literal(value, position)
    if kind == "decimal" and number:
        if value.adjusted() >= 20 or -int(value.as_tuple().exponent) > 18:
            raise Mistake(position)
        return Fraction(value)
    if kind in ("int", "float") and number:
        exact = kind == "int" or name in SCALES
        return Fraction(value) if exact else float(value)
    raise Mistake(position)


def is_hex(text: str, digits: int) -> bool:
    """Whether `text` is that many hex digits."""
    return len(text) == digits and all(c in "0123456789abcdefABCDEF" for c in text)


def time_literal(value: str | Decimal, position: int) -> Fraction:
    """Nanoseconds of an RFC 3339 time or of unix seconds."""
    if isinstance(value, str):
        try:
            nanoseconds = Fraction(nanoseconds_of(value))
        except ValueError:
            raise Mistake(position) from None
    else:
        nanoseconds = Fraction(value) * 10**9
    if not -(2**63) <= nanoseconds < 2**63:
        raise Mistake(position)
    return nanoseconds


def nanoseconds_of(text: str) -> int:
    """Nanoseconds since 1970 of RFC 3339, or of unix seconds written as text."""
    text = text.strip().upper()
    if not text.isascii():
        raise ValueError
    whole, point, rest = text.partition(".")
    if whole.removeprefix("-").isdigit():
        if (point and not rest.isdigit()) or abs(int(whole)) >= 10**10:
            raise ValueError
        return int(Fraction(text) * 10**9)
    digits = rest[: len(rest) - len(rest.lstrip(DIGITS))] if point else ""
    zone = rest[len(digits) :] if point else whole[19:]
    date = whole if point else whole[:19]
    if len(date) != 19 or date[10] != "T" or (point and not 1 <= len(digits) <= 9):
        raise ValueError
    shift = timedelta()
    if zone != "Z":
        if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":":
            raise ValueError
        shift = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])) * (1 if zone[0] == "+" else -1)
    since = datetime.strptime(date, "%Y-%m-%dT%H:%M:%S") - datetime(1970, 1, 1) - shift  # noqa: DTZ001, DTZ007
    return (since.days * 86_400 + since.seconds) * 10**9 + int(digits.ljust(9, "0"))


# -- fields ------------------------------------------------------------------------------------------------------------
SCALES = {"duration_ms": 10**6, "duration_s": 10**9}
JSON_FIELDS = ("input_messages", "output_messages", "tool_calls", "tool_args", "tool_result", "retrieval_documents")


def value_of(span: Span, field: tuple[str, str | None, int], fingerprints: Mapping[str, str]) -> Any:
    """The value of a field of a span; None where it is unknown."""
    name, key, _ = field
    if key is not None:
        return span["attributes" if name == "attr" else "resource"].get(key)
    if name in SCALES:
        return Fraction(span["duration_ns"], SCALES[name])
    if name in ("input_text", "output_text"):
        return text_of(span[name.replace("_text", "_messages")], span[name])
    found = COMPUTED[name](span) if name in COMPUTED else span.get(name)
    if name == "error_fingerprint":
        return fingerprints.get(span["span_id"]) if span["status"] == "error" else None
    if name in JSON_FIELDS:
        return None if found is None else json_text(found)
    if name.endswith("_usd"):
        return None if found is None else Fraction(found)
    return nanoseconds_of(str(found)) if name in ("start_time", "end_time") else found


COMPUTED: dict[str, Callable[[Span], Any]] = {
    "total_tokens": lambda span: (
        None
        if span["input_tokens"] is None and span["output_tokens"] is None
        else (span["input_tokens"] or 0) + (span["output_tokens"] or 0)
    ),
    "model": lambda span: span["response_model"] or span["request_model"],
    "has_error": lambda span: span["status"] == "error",
    "flag": lambda span: [flag["code"] for flag in span["flags"]] or None,
}


def text_of(messages: Any, plain: str | None) -> str | None:
    """What a person would call the prompt or the answer."""
    if messages is None:
        return plain
    found = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    parts = [part for message in found for part in message.get("parts") or [] if isinstance(part, dict)]
    contents = [part.get("content") for part in parts]
    texts = [content if isinstance(content, str) else json_text(content) for content in contents if content is not None]
    return "\n".join(text for text in texts if text) or None


def json_text(value: Any) -> str:
    """Compact JSON, as it is stored; text that is no JSON is stored as itself."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
