"""JSON is read and written as Python's json module does it, to the letter, though another library does most of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limelight_collector.attributes import dumps, loads

EXACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def expected(text: str) -> Any:
    """What the json module makes of `text`."""
    if not text or text[0] not in '[{"-0123456789tfn \n\r\t':
        return None
    try:
        value = json.JSONDecoder(parse_float=finite, parse_constant=str).decode(text)
    except (ValueError, RecursionError):
        return None
    return json.loads(EXACT(value).encode("utf-8", "replace")) if "\\ud" in text.lower() else value


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-5, 1e17),
    st.floats(-1, 1),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from('"\\/\b\f\n\r\t\x00\x1f\x7f\u2028é😀'), max_size=100),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_value_is_written_and_read_as_the_json_module_does(value: Any) -> None:
    text = dumps(value)
    assert text == EXACT(value)
    if value is not None:
        for form in (text, json.dumps(value), json.dumps(value, indent=1)):
            assert repr(loads(form)) == repr(expected(form))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('[]{}",:.\\u0dD8eE+-129 tfn\n'), max_size=40))
def test_any_text_is_read_as_the_json_module_does(text: str) -> None:
    assert repr(loads(text)) == repr(expected(text))


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551616",
        "-9223372036854775809",
        '{"big": [123456789012345678901234567890]}',
        "1e999",
        "-1e999",
        "1e-7",
        "-0",
        "-0.0",
        "[0.0001, 0.00009999, 999999999999999.9, 1000000000000000.0]",
        "[NaN, Infinity, -Infinity]",
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '{"a": 1, "a": 2}',
        "01",
        "[1]\x00",
        '"\t"',
        "[" * 500 + "]" * 500,
        "[" * 2000 + "]" * 2000,
    ],
)
def test_what_the_two_libraries_do_not_agree_on_is_read_as_the_json_module_does(text: str) -> None:
    assert repr(loads(text)) == repr(expected(text))


@pytest.mark.parametrize(
    "value",
    [
        1e-7,
        [1e-5],
        [1e-4, 9.999e-5, 1e15, 999999999999999.9, 1e16],
        {"a": 1e16},
        2**64,
        [2**64],
        "x" * 100 + "\ud800",
        ["\ud800"],
        {"a": {"b": -0.0}},
    ],
)
def test_what_the_two_libraries_do_not_agree_on_is_written_as_the_json_module_does(value: Any) -> None:
    assert dumps(value) == EXACT(value)
