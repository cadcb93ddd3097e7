"""Spans with nasty values in every column a filter may name, and the strings that are meant to break out of one."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

from collector.store.rows import SECOND, T0, span
from limelight_collector.batch import Batch, Flag
from limelight_collector.store.columns import COLUMNS, Column

Row = dict[str, Any]

NASTY = [
    "",
    "a",
    "A",
    "gpt-4o",
    "5",
    "5.0",
    "true",
    "null",
    "NULL",
    'say "hi"',
    "it's",
    "back\\slash",
    "ends with \\",
    "\\'",
    "tab\there",
    "new\nline\r\n",
    "nul\0inside",
    "\0",
    "100%",
    "under_score",
    "%s%d{0}",
    "ünï😀",
    "e\u0301 or \u00e9",
    "\u202ertl\u202c",
    "\ufeff",
    "\uffff",
    "\u2028",
    "{p:String}",
    "{project_id:String}",
    "{f0:String}",
    "${x}",
    "' OR 1=1 --",
    "') OR 1=1 --",
    "x'; DROP TABLE spans; --",
    "' UNION ALL SELECT * FROM spans --",
    "'||(SELECT 1)||'",
    "\\x27 OR 1=1",
    "/* comment */",
    "`name`",
    '{"a": [1, "x"]}',
    "[1]",
    '"quoted"',
    "not name exists",
    "and",
    "x" * 3000,
    "😀" * 200,
]
"""Text a client may send."""
INTEGERS = [0, 1, 5, 2**31, 2**53, 2**53 + 1, 2**63 - 1]
FLOATS = [0.0, -0.0, 0.1, 0.30000000000000004, 1.7091, 1.5, 1000.0, 1e-300, 5e-324, 1.7976931348623157e308]
MONEY = [Decimal(text) for text in ("0", "2.5", "0.000000000000000001", "-1.25", "99999999999999999999." + "9" * 18)]
DURATIONS = [0, 1, 999_999, 10**6, 1_500_000, 10**9, 2**53 + 1, 2**63 - 1 - T0 - 3600 * SECOND]
OFFSETS_NS = [0, 1, 999_999_999, 1_000_000_000, 1_000_000_001, 59_999_999_999, 60_000_000_000, 3_599_999_999_999]
JSON_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    5,
    5.0,
    2.5,
    -1,
    1e30,
    2**63 - 1,
    1.7091,
    [],
    [1, "a"],
    {"a": {"b": None}},
]
CODES = ["truncated", "empty", "refusal", "' OR 1=1 --", "ü\\"]
KEYS = ["k", "a.b", "", *NASTY[9:16], "ünï😀", "{p:String}", "' OR 1=1 --"]


def compact(value: Any) -> str:
    """JSON as the collector stores it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def rows(project: str, count: int, seed: int) -> list[Row]:
    """`count` spans of `count` / 3 traces within an hour of T0; whatever a column may hold, some span holds."""
    chance = random.Random(seed)
    made: list[Row] = []
    for n in range(count):
        row = span(n // 3 + 1, n, project_id=project)
        row |= {column.name: _value(column, chance) for column in COLUMNS if column.filterable and column.json != "hex"}
        row["start_time"] = T0 + (n if n % 2 else 0) + OFFSETS_NS[n % len(OFFSETS_NS)]
        row["parent_span_id"] = chance.choice([bytes(8), (1).to_bytes(8, "big"), b"ab\0\0\0\0\0\0"])
        row["duration_ns"] = chance.choice(DURATIONS)
        row["status"] = chance.choice(["ok", "ok", "error"])
        row["observation_type"] = chance.choice(["llm", "embedding", "span", "tool"])
        row["usage_role"] = chance.choice(["own", "own", "none", "aggregate", "duplicate"])
        row["resource"] = _attributes(chance)
        row["attributes"] = _attributes(chance)
        made.append(row)
    return made


def flags_of(made: list[Row], seed: int) -> Batch:
    """The rows with verdicts on some of them."""
    chance = random.Random(seed)
    flags = [
        Flag(
            row["project_id"],
            row["trace_id"],
            row["span_id"],
            row["start_time"],
            code,
            "info",
            "rule",
            1.0,
            "",
            code,
            1,
            1,
        )
        for row in made
        for code in chance.sample(CODES, chance.choice([0, 0, 1, 2]))
    ]
    batch = Batch(flags=flags)
    for row in made:
        batch.append(row)
    return batch


def _value(column: Column, chance: random.Random) -> Any:
    if column.name in ("input_messages", "output_messages"):
        return chance.choice(["", "", compact(_messages(chance))])
    unknown: list[Any] = [None] if column.type.startswith("Nullable") else []
    match column.json:
        case "json":
            return chance.choice(["", compact(chance.choice(JSON_VALUES[1:])), compact({"text": chance.choice(NASTY)})])
        case "int":
            signed = [-1, -(2**63)] if "UInt" not in column.type else []
            return chance.choice([*unknown, *unknown, *signed, *INTEGERS])
        case "float":
            return chance.choice([*unknown, *unknown, *FLOATS])
        case "decimal":
            return chance.choice([*unknown, *MONEY])
        case "bool":
            return chance.choice([*unknown, True, False])
        case "list":
            return chance.sample(NASTY, chance.randrange(3))
        case _:
            return chance.choice(["", *NASTY])


def _attributes(chance: random.Random) -> dict[str, str]:
    keys = chance.sample(KEYS, chance.randrange(5))
    return {key: compact(chance.choice([chance.choice(NASTY), chance.choice(JSON_VALUES)])) for key in keys}


def _messages(chance: random.Random) -> Any:
    texts = chance.sample(NASTY, 3)
    whole = [{"role": "user", "parts": [{"type": "text", "content": text} for text in texts]}]
    odd = [None, 5, True, {"a": "b"}, [1]]
    parts: list[Any] = [
        {"type": "blob", "content": chance.choice(odd)},
        {"type": "tool_call", "name": "f"},
        "no part",
        5,
    ]
    return chance.choice(
        [whole, [*whole, {"role": "assistant", "parts": parts}], [{"role": "user"}, 5], {"not": "a list"}]
    )


def hostile(count: int, seed: int, address: str, path: str) -> list[str]:
    """Strings that are SQL, escapes, markup or the filter language itself; no two alike, some name a URL and a file."""
    chance = random.Random(seed)
    named = [text for text in NASTY if len(text) < 100]
    named += [
        f"' OR name IN (SELECT * FROM url('{address}', 'LineAsString')) --",
        f"file('{path}', 'LineAsString')",
        f"(SELECT * FROM file('{path}', 'LineAsString'))",
        f'attr["k"] = "a" or url("{address}")',
        "1) OR (1=1",
        "1 = 1",
        "0x10",
        "1e999",
        "-0",
        "1.5.2",
        "00005",
        "5 --",
        "1e300",
        "1e301",
        "9" * 40,
        "0." + "0" * 30 + "1",
        "name",
        "attr",
        "project_id",
        "received_ns",
        "attributes",
        "name exists",
        "not not",
        "or",
        "in (a",
        "NOT IN",
        ")",
        "((",
        '"',
        "\\",
        "\\u0041",
        "\\ud800",
        "\\ud83d\\ude00",
        "\\q",
        '\\"',
        "a\\",
        'a" or name exists or name = "',
        "＝",
        "５",
        "“a”",
        "\u00a0",
        "na\u00a0me",
    ]
    alphabet = "'\"\\`;{}()[]%_-/*#$\t\n\r\0 a1:=<>!,.ü😀\u2028\uffff\u202e"
    while len(set(named)) < count:
        named.append("".join(chance.choices(alphabet, k=chance.randrange(1, 12))))
    return list(dict.fromkeys(named))


def quote(text: str) -> str:
    """Any text as text of the filter language."""
    plain = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(plain.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def in_every_place(text: str) -> list[str]:
    """Filters with `text` as field, operator, value, list element, key, after each keyword, in brackets, and alone."""
    q = quote(text)
    return [
        text,
        f"{text} = 1",
        f"name {text} 5",
        f"session_id = {q}",
        f'session_id = "{text}"',
        f"user_id contains {q}",
        f"input_tokens > {text}",
        f"attr[{q}] = {text}",
        f"name in ({q}, a, {text})",
        f"not tags in ({q}, {q})",
        f"attr[{q}] exists",
        f'attr["{text}"] != {q}',
        f"resource[{q}] > {q}",
        f"not {text}",
        f"has_error = true and {text}",
        f"name exists or {text} exists",
        f"({text})",
        f"(name = a {text})",
        f"flag = {q} or output_text contains {q}",
        f"start_time >= {q}",
        f"cost_usd < {text}",
    ]
