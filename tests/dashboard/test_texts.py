"""Numbers as people read them, untrusted text that stays text, filters that stay filters, CSV that runs nothing."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_dashboard import format as f
from limelight_dashboard.export import csv_text, file_name
from limelight_dashboard.filters import Filters, Search, last, quote, search

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("spell", "value", "text"),
    [
        (f.compact, 842, "842"),
        (f.compact, 4213, "4.2K"),
        (f.compact, 126_000, "126K"),
        (f.compact, 1_310_000, "1.3M"),
        (f.compact, 999_960, "1M"),
        (f.compact, None, "–"),
        (f.compact, 0, "0"),
        (f.cost, "0.00001", "<$0.0001"),
        (f.cost, "0.0042", "$0.0042"),
        (f.cost, 0.01314, "$0.0131"),
        (f.cost, 0.1984, "$0.198"),
        (f.cost, 23.494, "$23.49"),
        (f.cost, 1234, "$1.2K"),
        (f.cost, 0, "$0"),
        (f.cost, None, "–"),
        (f.cost, 0.99999, "$1.00"),
        (f.cost, -0.5, "-$0.500"),
        (f.seconds, 0.00034, "340 µs"),
        (f.seconds, 0.095, "95 ms"),
        (f.seconds, 2.8, "2.80 s"),
        (f.seconds, 87.2, "1m 27s"),
        (f.seconds, 59.999, "1m 00s"),
        (f.seconds, 7500, "2h 05m"),
        (f.seconds, 300_000, "3d 11h"),
        (f.seconds, None, "–"),
        (f.percent, 0.0141, "1.41 %"),
        (f.percent, 0.73, "73 %"),
        (f.percent, 0, "0 %"),
        (f.percent, None, "–"),
        (f.age, 44.3, "44 s"),
        (f.age, -3, "0 s"),
        (f.age, 125, "2m 05s"),
        (f.one_line, "a\n\n b", "a b"),
        (f.one_line, None, ""),
        (f.short_id, None, "–"),
    ],
)
def test_spelling(spell: object, value: object, text: str) -> None:
    assert callable(spell)
    assert spell(value) == text


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@given(st.datetimes(timezones=st.just(timezone.utc)).filter(lambda t: t > EPOCH), st.integers(0, 999))
def test_times_keep_their_nanoseconds(when: datetime, rest: int) -> None:
    ns = f.parse_ns(f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond:06d}{rest:03d}Z")
    assert ns % 1000 == rest
    assert ns // 1000 == (when - EPOCH) // timedelta(microseconds=1)


def test_offsets_count_and_nonsense_is_refused() -> None:
    assert f.parse_ns("2026-11-23T13:00:00+01:00") == f.parse_ns("2026-11-23T12:00:00Z")
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        f.parse_ns("yesterday")


@given(st.text())
def test_plain_text_holds_no_tag(text: str) -> None:
    assert "<" not in f.plain(text)
    assert "&" not in f.plain(text).replace("&lt;", "").replace("&gt;", "").replace("&amp;", "")


@given(st.text(alphabet="[]()!<>`*_:#$~\\|@w.hps/ax"))
def test_labels_escape_every_mark_of_markdown(text: str) -> None:
    shown = f.label(text)
    plain_marks = shown.replace("\\\\", "")
    for mark in "[]()!<>`*_#$~|":
        assert plain_marks.count(mark) == plain_marks.count("\\" + mark)
    assert ":/" not in shown


@given(st.text())
def test_quoted_text_is_one_literal_that_reads_back(text: str) -> None:
    literal = quote(text)
    inner = literal[1:-1]
    assert json.loads(literal) == text
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")


def test_filters_speak_the_filter_language() -> None:
    filters = Filters(NOON - timedelta(hours=1), NOON, 'pro"d', "", "gpt")
    assert filters.expression("status = error", "a or b") == (
        'environment = "pro\\"d" and request_model = "gpt" and status = error and (a or b)'
    )
    assert Filters(NOON, NOON).expression("") == ""
    assert filters.before().end == filters.start


@pytest.mark.parametrize(
    ("typed", "clause"),
    [
        (f" {'A' * 32} ", f'trace_id = "{"a" * 32}"'),
        ("team=blue sky", 'attr["team"] = "blue sky"'),
        ("name=sql", 'name contains "sql"'),
        ('user= u"7', 'user_id = "u\\"7"'),
        ("session=a=b", 'session_id = "a=b"'),
    ],
)
def test_a_search_with_a_key_or_a_trace_id_is_a_filter(typed: str, clause: str) -> None:
    assert search(typed) == Search(clause=clause)


@pytest.mark.parametrize("typed", ["", "  ", "A" * 31, "refund", 'say "hi"', "price = 5", "=x", "user=", "a\nb=c"])
def test_any_other_search_is_text_as_it_is_written(typed: str) -> None:
    assert search(typed) == Search(text=typed.strip())


@pytest.mark.parametrize(("hours", "step"), [(1, 60), (6, 300), (24, 900), (24 * 7, 3600), (24 * 30, 21_600)])
def test_steps_keep_charts_small(hours: int, step: int) -> None:
    filters = Filters(NOON - timedelta(hours=hours), NOON)
    assert filters.step_s == step


def test_the_window_ends_on_the_refresh_grain() -> None:
    one = last(timedelta(hours=1), NOON.replace(second=1))
    assert one == last(timedelta(hours=1), NOON.replace(second=14))
    assert one[1] - one[0] == timedelta(hours=1)


@given(st.lists(st.dictionaries(st.just("=name"), st.text() | st.none() | st.integers(), min_size=1), min_size=1))
def test_no_cell_of_a_csv_starts_a_formula(rows: list[dict[str, object]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    assert len(read) == len(rows) + 1 or any("\r" in str(v) or v in {"", None} for r in rows for v in r.values())
    for cell in (cell for line in read for cell in line):
        assert not cell.startswith(("=", "+", "@")) or cell.lstrip("+-").isdigit()


def test_a_carriage_return_starts_no_cell() -> None:
    (header, row) = csv.reader(io.StringIO(csv_text([{"a": "x\r=1+1"}]), newline=""))
    assert (header, row) == (["a"], ["x\n=1+1"])


def test_csv_of_nothing_and_its_name() -> None:
    assert csv_text([]) == ""
    assert csv_text([{"a": ["x", "y"], "b": None, "c": -3}]) == 'a,b,c\n"x, y",,-3\n'
    assert file_name("Cost by model", ["../etc", "A/B"]) == "limelight-cost-by-model-etc-a-b.csv"
