"""The filter language against a reference in Python: the same rows pass, whatever the filter and the text."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import T0, batch, flag, llm, span
from limelight_collector.query.filter import MAX_COMPARISONS, MAX_DEPTH, MAX_VALUES, FilterError, parse
from limelight_collector.query.filter_sql import parse_time
from limelight_collector.query.window import Window
from limelight_collector.store import Store

Row = dict[str, Any]
Case = tuple[str, Callable[[Row], bool]]
"""A filter and what it means."""

WORDS = [
    "gpt-4o",
    "a",
    "",
    "A",
    "5",
    'say "hi"',
    "back\\slash",
    "tab\there",
    "new\nline",
    "ünï😀",
    "' OR 1=1 --",
    "nul\0",
]
VALUES = ['"a"', "5", "2.5", "true", "false", '"5"', '""', "[1]"]
NUMBERS = ["0", "1", "5", "100", "2.5", "-3", "1e3", "18446744073709551615"]
COMPARE = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
TEXT_FIELDS = ["name", "request_model", "session_id", "status"]


def quote(text: str) -> str:
    escaped = "".join(f"\\u{ord(c):04x}" if c < " " and c not in "\n\t" else c for c in text.replace("\\", "\\\\"))
    return '"' + escaped.replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def rows() -> list[Row]:
    chance = random.Random(7)
    made: list[Row] = []
    for n in range(120):
        row = llm(
            n,
            1,
            at_s=n,
            project_id="filter",
            name=chance.choice(WORDS),
            request_model=chance.choice(WORDS),
            response_model=chance.choice(["", "", "b"]),
            session_id=chance.choice(WORDS),
            status=chance.choice(["ok", "error"]),
            duration_ns=chance.choice([0, 1, 999_999, 2_500_000, 5_000_000, 10**12]),
            input_tokens=chance.choice([None, 0, 1, 5, 100, 2**63]),
            output_tokens=chance.choice([None, 0, 5]),
            ttft_s=chance.choice([None, 0.0, 2.5, 1000.0]),
            cost_usd=chance.choice([None, Decimal(0), Decimal("2.5"), Decimal("0.000000000000000001")]),
            is_stream=chance.choice([None, True, False]),
            tags=chance.sample(WORDS, chance.randrange(3)),
            attributes=chance.choice([{}, {"k": chance.choice(VALUES)}]),
        )
        made.append(row | {"flags": chance.choice([[], ["truncated"], ["empty", "truncated"]])})
    return made


ROWS = rows()


@pytest.fixture(scope="module")
def filled(store: Store) -> Store:
    flags = [flag(row, code) for row in ROWS for code in row["flags"]]
    store.insert(batch(*({k: v for k, v in row.items() if k != "flags"} for row in ROWS), flags=flags))
    return store


def matching(store: Store, text: str, project: str = "filter") -> list[bytes]:
    condition = Window(project, T0, T0 + 10**15).condition(text)
    sql = f"SELECT span_id FROM spans FINAL WHERE {condition.sql} ORDER BY start_time"
    return [row[0] for row in store.query(sql, condition.parameters).rows]


def model(row: Row) -> str:
    return row["response_model"] or row["request_model"]


def attribute_text(row: Row) -> str | None:
    raw = row["attributes"].get("k")
    return None if raw is None else json.loads(raw) if raw.startswith('"') else raw


def attribute_number(row: Row) -> Decimal | None:
    raw = row["attributes"].get("k", "")
    return Decimal(raw) if raw in {"5", "2.5"} else None


def total(row: Row) -> Decimal | None:
    known = [Decimal(row[name]) for name in ("input_tokens", "output_tokens") if row[name] is not None]
    return Decimal(sum(known)) if known else None


def numeric(name: str) -> Callable[[Row], Decimal | None]:
    return lambda row: None if row[name] is None else Decimal(row[name])


NUMERIC: dict[str, Callable[[Row], Decimal | None]] = {
    **{name: numeric(name) for name in ("input_tokens", "ttft_s", "cost_usd", "duration_ns")},
    "duration_ms": lambda row: Decimal(row["duration_ns"]) / 10**6,
    "duration_s": lambda row: Decimal(row["duration_ns"]) / 10**9,
    "total_tokens": total,
    'attr["k"]': attribute_number,
}


def texts() -> st.SearchStrategy[Case]:
    def case(name: str, op: str, word: str) -> Case:
        def value(row: Row) -> str | None:
            if name == 'attr["k"]':
                return attribute_text(row)
            return (model(row) if name == "model" else row[name]) or None

        def means(row: Row) -> bool:
            found = value(row)
            if found is None:
                return False
            return word in found if op == "contains" else COMPARE[op](found, word)

        return f"{name} {op} {quote(word)}", means

    names = st.sampled_from([*TEXT_FIELDS, "model", 'attr["k"]'])
    return st.builds(case, names, st.sampled_from([*COMPARE, "contains"]), st.sampled_from(WORDS) | st.text(max_size=3))


def listed() -> st.SearchStrategy[Case]:
    def case(name: str, words: list[str]) -> Case:
        return (
            f"{name} in ({', '.join(map(quote, words))})",
            lambda row: bool(row[name]) and row[name] in words,
        )

    return st.builds(case, st.sampled_from(TEXT_FIELDS), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))


def numbers() -> st.SearchStrategy[Case]:
    def case(name: str, op: str, literal: str) -> Case:
        def means(row: Row) -> bool:
            value = NUMERIC[name](row)
            return value is not None and COMPARE[op](value, Decimal(literal))

        return f"{name} {op} {literal}", means

    return st.builds(case, st.sampled_from(sorted(NUMERIC)), st.sampled_from(sorted(COMPARE)), st.sampled_from(NUMBERS))


OTHERS: list[Case] = [
    ("is_stream = true", lambda row: row["is_stream"] is True),
    ("is_stream = false", lambda row: row["is_stream"] is False),
    ("has_error = true", lambda row: row["status"] == "error"),
    ("status = error", lambda row: row["status"] == "error"),
    ('tags = "a"', lambda row: "a" in row["tags"]),
    ('tags contains "A"', lambda row: "A" in row["tags"]),
    ("tags exists", lambda row: bool(row["tags"])),
    ('flag = "empty"', lambda row: "empty" in row["flags"]),
    ("flag in (empty, truncated)", lambda row: bool(row["flags"])),
    ("flag exists", lambda row: bool(row["flags"])),
    ("exists input_tokens", lambda row: row["input_tokens"] is not None),
    ("ttft_s exists", lambda row: row["ttft_s"] is not None),
    ("session_id exists", lambda row: bool(row["session_id"])),
    ('attr["k"] exists', lambda row: "k" in row["attributes"]),
    ('attr["k"] = true', lambda row: row["attributes"].get("k") == "true"),
    ('attr["k"] in (5, "a", false)', lambda row: row["attributes"].get("k") in {"5", '"a"', "false"}),
    ('attr["missing"] = ""', lambda row: False),
    ('resource["k"] exists', lambda row: False),
    (f'trace_id = "{7:032x}"', lambda row: row["trace_id"] == (7).to_bytes(16, "big")),
    ("parent_span_id exists", lambda row: False),
    ('start_time >= "2026-09-21T14:14:20Z"', lambda row: row["start_time"] >= T0 + 60 * 10**9),
    ("", lambda row: True),
]

ATOMS = texts() | numbers() | listed() | st.sampled_from(OTHERS[:-1])


def both(parts: list[Case], word: str) -> Case:
    combine = all if word == "and" else any
    return f"({f' {word} '.join(text for text, _ in parts)})", lambda row: combine(means(row) for _, means in parts)


FILTERS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds(lambda case: (f"not {case[0]}", lambda row: not case[1](row)), inner)
        | st.builds(both, st.lists(inner, min_size=1, max_size=3), st.sampled_from(["and", "or"]))
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(FILTERS)
def test_the_rows_that_pass_are_those_the_reference_lets_pass(filled: Store, case: Case) -> None:
    text, means = case
    assert matching(filled, text) == [row["span_id"] for row in ROWS if means(row)], text


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case[0])
def test_each_kind_of_field(filled: Store, case: Case) -> None:
    assert matching(filled, case[0]) == [row["span_id"] for row in ROWS if case[1](row)]


def test_500_hostile_strings_match_exactly_themselves(store: Store) -> None:
    chance = random.Random(11)
    alphabet = "'\"\\`;{}()[]%_-/*#$\t\n\r\0 a1:ü😀\u2028\uffff"
    worst = ["'; DROP TABLE spans; --", "\\", "{project_id:String}", "%s' UNION SELECT 1 -- \\'"]
    made_up = {"".join(chance.choices(alphabet, k=chance.randrange(1, 12))) for _ in range(700)} - set(worst)
    strings = worst + sorted(made_up)[:496]
    made = [
        span(n, 1, at_s=n, project_id="hostile", session_id=text, attributes={text: json.dumps(text)})
        for n, text in enumerate(strings)
    ]
    store.insert(batch(*made))
    for row, text in zip(made, strings, strict=True):
        q = quote(text)
        expression = f"session_id = {q} and attr[{q}] = {q} and attr[{q}] exists"
        assert matching(store, expression, "hostile") == [row["span_id"]]
    assert len(matching(store, f"session_id in ({', '.join(map(quote, strings))})", "hostile")) == 500


def test_text_of_messages_is_searched_as_a_person_reads_it(store: Store) -> None:
    parts = [{"type": "text", "content": 'He said "no"\nthen ü'}, {"type": "text", "content": "bye"}]
    escaped = json.dumps([{"role": "assistant", "parts": parts}])
    store.insert(
        batch(
            llm(1, project_id="text", output_messages=escaped),
            llm(2, project_id="text", at_s=1, output_text="plain bye"),
        )
    )
    assert len(matching(store, r'output_text contains "said \"no\"\nthen ü"', "text")) == 1
    assert len(matching(store, 'output_text contains "bye"', "text")) == 2
    assert matching(store, 'output_text contains "assistant"', "text") == []
    assert matching(store, 'output_text contains "BYE"', "text") == []


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("request_model =", 15),
        ('request_model = "x', 16),
        ("nope = 1", 0),
        ("gen_ai.request.model = 1", 0),
        ('request_model ~ "x"', 14),
        ("request_model", 13),
        ('request_model = "x" "y"', 20),
        ('(request_model = "x"', 20),
        ("request_model = 5", 16),
        ('input_tokens > "5"', 15),
        ('input_tokens contains "5"', 13),
        ('trace_id = "xyz"', 11),
        ('trace_id > "00000000000000000000000000000001"', 9),
        ("is_stream = 1", 12),
        ("is_stream < true", 10),
        ('start_time > "yesterday"', 13),
        (r'name = "\x"', 8),
        (r'name = "a\ud800"', 9),
        (r'name = "\ud83d\ude00\udfff"', 20),
        ('name = "\ud800"', 8),
        ("name in (a, 5, b)", 12),
        ('attr["k"] < true', 12),
        ('attr["k"] contains 5', 19),
        ("\u00a0", 0),
        ("attr[k] = 1", 5),
        ("cost_usd > 1e30", 11),
        ("cost_usd > 1e-30", 11),
        ("name in ()", 9),
        ("project_id = default", 0),
        ("name = 'x'", 7),
        ("name = “x”", 7),
        ("and", 0),
        ("not", 3),
        ("name = a; DROP TABLE spans", 8),
    ],
)
def test_a_bad_filter_names_its_position(text: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        Window("p", 0, 1).condition(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "position", "limit"),
    [
        ("not " * 2000 + "name = a", 4 * (MAX_DEPTH + 1), "nested deeper than 40"),
        ("(" * 2000, MAX_DEPTH + 1, "nested deeper than 40"),
        ("name = a or " * 800, 12 * MAX_COMPARISONS, "more than 200 comparisons"),
        ("not exists name and " * 300, 20 * MAX_COMPARISONS + 4, "more than 200 comparisons"),
        (f"name in ({'a,' * 2000}a)", 9 + 2 * MAX_VALUES, "more than 1000 values"),
        ("x" * 10_001, 10_000, "longer than 10000 characters"),
        (f'name = "{"x" * 100_000}"', 10_000, "longer than 10000 characters"),
        ("name = a or " * 10_000, 10_000, "longer than 10000 characters"),
    ],
)
def test_depth_length_and_number_are_capped(text: str, position: int, limit: str) -> None:
    with pytest.raises(FilterError, match=limit) as caught:
        parse(text)
    assert caught.value.position == position


UNITS = ["error_fingerprint < a", "not input_text = a", 'attr["k"] = a', "flag exists", "total_tokens < 5.5"]


@pytest.mark.parametrize("unit", UNITS)
def test_as_many_comparisons_as_are_allowed_are_answered(filled: Store, unit: str) -> None:
    assert matching(filled, " and ".join([unit] * MAX_COMPARISONS)) == matching(filled, unit)


@pytest.mark.parametrize("value", ["a", "5", '"\\u00e4"'])
def test_as_many_values_as_are_allowed_are_answered(filled: Store, value: str) -> None:
    one = matching(filled, f'attr["k"] in ({value})')
    assert matching(filled, f'attr["k"] in ({",".join([value] * MAX_VALUES)})') == one


MUCH = "12345678901234567890.123456789012345678"  # Python's Decimal would round it to 28 digits, a float to 17
EXACT = [
    ("cost_usd", Decimal(MUCH), MUCH, True),
    ("cost_usd", Decimal(f"{MUCH[:-1]}9"), MUCH, False),
    ("input_tokens", 2**53 + 1, "9007199254740993", True),
    ("input_tokens", 2**53 + 1, "9007199254740992", False),
    ("input_tokens", 2**53 + 1, "9007199254740993.0000000000000000000000000000001", False),
    ("duration_ns", 2**53 + 1, "9007199254740993", True),
]


@pytest.mark.parametrize(("name", "stored", "literal", "equal"), EXACT)
def test_whole_numbers_and_money_are_compared_exactly(
    store: Store, name: str, stored: Any, literal: str, *, equal: bool
) -> None:
    project = f"exact-{name}-{literal}-{equal}"
    store.insert(batch(llm(**{name: stored}, project_id=project)))
    assert bool(matching(store, f"{name} = {literal}", project)) is equal
    assert bool(matching(store, f"{name} in ({literal})", project)) is equal


def test_between_two_whole_numbers_lies_none(store: Store) -> None:
    large = 2**53 + 2
    store.insert(batch(llm(input_tokens=large, project_id="between")))
    below, above = f"{large - 1}.5", f"{large}.5"  # as floats both are `large`
    for text in (f"> {below}", f">= {below}", f"< {above}", f"<= {above}", "< 1e300", "> -1e300"):
        assert matching(store, f"input_tokens {text}", "between"), text
    for text in (f"< {below}", f"<= {below}", f"> {above}", f">= {above}", f"= {above}", "in (1e300, -1e300)"):
        assert not matching(store, f"input_tokens {text}", "between"), text


def test_minus_zero_is_zero(store: Store) -> None:
    store.insert(batch(llm(ttft_s=-0.0, attributes={"k": "-0.0"}, project_id="zero")))
    for value in ("= 0", "= -0", "in (0, 1)", "in (-0, 1)", "in (1, 0.0)"):
        assert matching(store, f'ttft_s {value} and attr["k"] {value}', "zero"), value


def test_an_attribute_without_a_value_is_unknown(store: Store) -> None:
    made = [llm(n, at_s=n, project_id="null", attributes={"k": raw}) for n, raw in enumerate(["null", '"null"', '""'])]
    store.insert(batch(*made))
    assert matching(store, 'attr["k"] exists', "null") == [row["span_id"] for row in made[1:]]
    assert matching(store, 'attr["k"] = "null"', "null") == [made[1]["span_id"]]
    assert matching(store, 'not attr["k"] >= ""', "null") == [made[0]["span_id"]]


def test_the_deepest_filter_allowed_runs(filled: Store) -> None:
    assert matching(filled, "(" * MAX_DEPTH + "name exists" + ")" * MAX_DEPTH)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='name=<>!()[]",\\ andornti5.attr', max_size=40))
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    position = 0
    try:
        Window("p", 0, 1).condition(text)
    except FilterError as error:
        position = error.position
    assert 0 <= position <= len(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("2026-09-21T14:13:20.000000001Z", T0 + 1),
        ("2026-09-21T16:13:20+02:00", T0),
        ("1790000000", T0),
        ("1790000000.5", T0 + 5 * 10**8),
        ("0.000000001", 1),
    ],
)
def test_times(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


NO_TIMES = ["", "now", "nan", "inf", "1e99", "１", "1_0", ".5"]
NO_TIMES += ["2026-13-01T00:00:00Z", "2026-09-21", "2026-09-21T14:13:20"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|no such time"):
        parse_time(text)
