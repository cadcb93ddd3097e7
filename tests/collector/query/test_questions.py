"""The questions about stored spans: what is counted, what is left out, and pages that neither repeat nor lose."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, batch, flag, llm, span
from limelight_collector.errors import QueryLimit, Rejected
from limelight_collector.preview import LENGTH, line
from limelight_collector.query.errors import error_groups
from limelight_collector.query.flags import find_flags
from limelight_collector.query.preview import input_preview, output_preview
from limelight_collector.query.series import MEASURES, series
from limelight_collector.query.spans import find_spans, slices
from limelight_collector.query.trace import find_trace
from limelight_collector.query.traces import find_traces
from limelight_collector.query.window import Window
from limelight_collector.store import Store

END = T0 + 10_000 * SECOND


NUMBERS = count()
NO_USAGE: dict[str, Any] = {"input_tokens": None, "output_tokens": None}


def window(project: str) -> Window:
    return Window(project, T0, END)


def ask(store: Store, project: str, *measures: str, **given: Any) -> list[dict[str, Any]]:
    question = {"group_by": [], "step_s": None, "filter_text": "", "start_ns": T0, "end_ns": END} | given
    return series(store, project, measures=list(measures), **question).rows


# -- series ------------------------------------------------------------------------------------------------------------
def test_requests_are_counted_once_and_only_requests(store: Store) -> None:
    store.insert(
        batch(
            span(1, 1, project_id="s1", observation_type="agent", usage_role="aggregate", input_tokens=None),
            llm(1, 2, at_s=1, project_id="s1", cost_usd=Decimal("0.5"), cost_state="computed", ttft_s=0.5),
            llm(1, 3, at_s=2, project_id="s1", usage_role="duplicate", cost_usd=Decimal("0.5")),
            llm(1, 4, at_s=3, project_id="s1", observation_type="embedding", cost_state="unpriced", output_tokens=None),
            llm(1, 5, at_s=4, project_id="s1", usage_role="none", status="error", **NO_USAGE),
            span(1, 6, at_s=5, project_id="s1", status="error"),
        )
    )
    (row,) = ask(store, "s1", *MEASURES)
    assert {name: row[name] for name in row if "_p" not in name} == {
        "request_count": 3,
        "error_count": 1,
        "error_rate": pytest.approx(1 / 3),
        "unpriced_count": 1,
        "flag_count": 0,
        "flag_rate": 0,
        "input_tokens": 200,
        "output_tokens": 20,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": 0.5,
    }
    assert (row["latency_p50"], row["ttft_p95"], row["tpot_p50"]) == (1.0, 0.5, None)


def test_a_stored_copy_counts_once(store: Store) -> None:
    row = llm(2, 1, project_id="s2", cost_usd=Decimal(1))
    for received in (1, 2, 3):
        store.insert(batch(row | {"received_ns": received}))
    assert ask(store, "s2", "request_count", "cost_usd") == [{"request_count": 1, "cost_usd": 1.0}]


def test_percentiles_of_few_are_exact(store: Store) -> None:
    store.insert(batch(*(llm(3, n, at_s=n, project_id="s3", duration_ns=n * SECOND) for n in range(1, 102))))
    assert ask(store, "s3", "latency_p50", "latency_p95", "latency_p99") == [
        {"latency_p50": 51.0, "latency_p95": 96.0, "latency_p99": 100.0}
    ]


def test_buckets_and_groups(store: Store) -> None:
    made = [llm(4, n, at_s=n, project_id="s4", request_model="ab"[n % 2], session_id="") for n in range(4)]
    store.insert(batch(*made, llm(4, 9, at_s=60, project_id="s4", attributes={"team": '"x"'})))
    rows = ask(store, "s4", "request_count", group_by=["model", "session_id"], step_s=10)
    assert rows == [
        {"time": "2026-09-21T14:13:20.000000000Z", "model": "a", "session_id": None, "request_count": 2},
        {"time": "2026-09-21T14:13:20.000000000Z", "model": "b", "session_id": None, "request_count": 2},
        {"time": "2026-09-21T14:14:20.000000000Z", "model": "gpt-4o", "session_id": None, "request_count": 1},
    ]
    team = 'attr["team"]'
    by_team = ask(store, "s4", "request_count", group_by=[team])
    assert {row[team]: row["request_count"] for row in by_team} == {None: 4, "x": 1}


def test_nothing_is_one_row_without_numbers(store: Store) -> None:
    (row,) = ask(store, "nobody", *MEASURES)
    assert row["request_count"] == 0
    assert row["error_rate"] is None
    assert row["latency_p95"] is None
    assert row["cost_usd"] is None
    assert ask(store, "nobody", "request_count", step_s=60) == []


def test_flags_are_a_share_of_requests(store: Store) -> None:
    made = [llm(5, n, at_s=n, project_id="s5") for n in range(4)]
    store.insert(batch(*made, flags=[flag(made[0]), flag(made[0], "empty"), flag(made[1])]))
    assert ask(store, "s5", "flag_count", "flag_rate") == [{"flag_count": 2, "flag_rate": 0.5}]


def test_a_series_nobody_can_read_is_refused(store: Store) -> None:
    with pytest.raises(Rejected, match="measure"):
        ask(store, "p", "speed")
    with pytest.raises(Rejected, match="step"):
        ask(store, "p", "request_count", step_s=0)
    store.insert(batch(*(llm(6, n, at_s=n / 4, project_id="s6") for n in range(20_001))))
    with pytest.raises(QueryLimit, match="group by less"):
        ask(store, "s6", "request_count", step_s=0.25)


# -- traces and spans --------------------------------------------------------------------------------------------------
def pages(find: Any, **question: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page, following = find(**question, cursor=cursor)
        found += page
        if not following:
            return found
        assert page
        cursor = following


def test_every_page_of_traces_once_newest_first(store: Store) -> None:
    # Starts from seconds to hours apart, some equal; the later traces also have spans that begin much later.
    starts = [0, 0, 1, 2, 30, 31, 500, 500, 501, 4000, 9000, 9001]
    made = [span(n, 1, at_s=at, project_id="t1") for n, at in enumerate(starts)]
    made += [span(n, 2, at_s=at + 900, parent=1, project_id="t1") for n, at in enumerate(starts) if n % 2]
    store.insert(batch(*made))
    expected = [f"{n:032x}" for at, n in sorted(((at, n) for n, at in enumerate(starts)), reverse=True)]
    for limit in (1, 2, 5, 100):
        found = pages(find_traces, store=store, window=window("t1"), filter_text="", order="newest", limit=limit)
        assert [trace["trace_id"] for trace in found] == expected
    oldest = pages(find_traces, store=store, window=window("t1"), filter_text="", order="oldest", limit=5)
    assert [trace["start_time"] for trace in oldest] == sorted(trace["start_time"] for trace in found)
    slowest = pages(find_traces, store=store, window=window("t1"), filter_text="", order="slowest", limit=5)
    assert [trace["duration_ns"] for trace in slowest] == sorted((t["duration_ns"] for t in found), reverse=True)


def test_a_trace_is_listed_whole_when_one_span_matches_in_the_window(store: Store) -> None:
    made = (
        span(1, 1, at_s=0, project_id="t2", name="root", duration_ns=100 * SECOND),
        llm(1, 2, at_s=50, parent=1, project_id="t2", status="error", cost_usd=Decimal("0.25")),
        span(2, 1, at_s=51, project_id="t2"),
    )
    store.insert(batch(*made, flags=[flag(made[1])]))
    late = Window("t2", T0 + 40 * SECOND, T0 + 60 * SECOND)
    (trace,), _ = find_traces(store, late, filter_text="status = error", order="newest", limit=9, cursor="")
    assert trace["name"] == "root"
    assert trace["status"] == "ok"
    assert (trace["span_count"], trace["error_count"], trace["llm_count"]) == (2, 1, 1)
    assert (trace["cost_usd"], trace["flags"], trace["duration_ns"]) == ("0.25", ["truncated"], 100 * SECOND)


def test_a_trace_whose_root_is_missing_is_named_after_its_first_span(store: Store) -> None:
    store.insert(batch(span(1, 3, at_s=2, parent=1, project_id="t3"), span(1, 2, at_s=1, parent=1, project_id="t3")))
    (trace,), _ = find_traces(store, window("t3"), filter_text="", order="newest", limit=9, cursor="")
    assert trace["name"] == "span-2"
    assert len(find_trace(store, "t3", (1).to_bytes(16, "big"))) == 2
    assert find_trace(store, "elsewhere", (1).to_bytes(16, "big")) == []


def test_ids_that_end_in_zero_bytes_are_ids(store: Store) -> None:
    row = llm(1, 1, project_id="zero", trace_id=b"a" + b"\0" * 15, span_id=b"b" + b"\0" * 7)
    store.insert(batch(row, llm(2, 1, at_s=1, project_id="zero"), flags=[flag(row)]))
    condition = f'trace_id = "{row["trace_id"].hex()}" and span_id = "{row["span_id"].hex()}"'
    (found,), _ = find_spans(store, window("zero"), filter_text=condition, search="", limit=9, cursor="")
    assert len(found["flags"]) == 1
    assert find_trace(store, "zero", row["trace_id"]) == [found]
    assert len(pages(find_traces, store=store, window=window("zero"), filter_text="", order="newest", limit=1)) == 2
    assert len(pages(find_spans, store=store, window=window("zero"), filter_text="", search="", limit=1)) == 2
    (flagged,), _ = find_flags(store, window("zero"), code="", filter_text="", limit=9, cursor="")
    assert flagged["request_model"] == "gpt-4o"


@pytest.mark.parametrize("cursor", ["x", "1.2", "9" * 19 + "." + "0" * 32, "1-" + "0" * 32])
def test_a_cursor_that_was_not_ours_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(Rejected, match="cursor"):
        find_traces(store, window("p"), filter_text="", order="newest", limit=1, cursor=cursor)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=30), st.integers(1, 7))
def test_every_page_of_spans_once_newest_first(store: Store, starts: list[int], limit: int) -> None:
    project = f"pages-{next(NUMBERS)}"
    store.insert(batch(*(span(n % 3 + 1, n, at_s=at, project_id=project) for n, at in enumerate(starts))))
    found = pages(find_spans, store=store, window=window(project), filter_text="", search="", limit=limit)
    assert [item["start_time"] for item in found] == sorted((item["start_time"] for item in found), reverse=True)
    assert len({item["span_id"] for item in found}) == len(found) == len(starts)


def test_search_reads_inputs_and_outputs_in_any_case(store: Store) -> None:
    asked = llm(1, 1, project_id="q", input_messages='[{"parts":[{"content":"the \\"Refund\\" ÜBER\\nall"}]}]')
    answered = llm(1, 2, at_s=1, project_id="q", output_text="über")
    store.insert(batch(asked, answered, llm(1, 3, at_s=2, project_id="q", name="über")))
    for text, numbers in (('"refund"', [1]), ("Über", [2, 1]), ("r\nall", [1]), ("%", []), ("content\\", [])):
        found, _ = find_spans(store, window("q"), filter_text="", search=text, limit=9, cursor="")
        assert [int(item["span_id"], 16) % 1000 for item in found] == numbers, text


@given(st.integers(0, 10**19), st.integers(0, 10**19))
def test_slices_end_with_the_whole_window(start: int, length: int) -> None:
    starts = list(slices(start, start + length))
    assert starts[-1] == start
    assert sorted(starts, reverse=True) == starts
    assert len(starts) < 20


# -- errors, flags, previews -------------------------------------------------------------------------------------------
def test_errors_group_by_what_does_not_change(store: Store) -> None:
    messages = [
        "no answer from 'host-1' in 30 s (request 0f8fad5b-d9cb-469f-a165-70867728950e)",
        "no answer from 'host-22' in 4.5 s (request 7c9e6679-7425-40de-944b-e07fc1f90ae7)",
        "refused",
    ]
    made = [
        llm(n, 1, at_s=n, project_id="e", status="error", error_type="Timeout", error_message=text, user_id=f"u{n}")
        for n, text in enumerate(messages)
    ]
    store.insert(batch(*made, llm(9, 1, project_id="e")))
    (first, second), is_truncated = error_groups(store, window("e"), filter_text="", limit=2)
    assert not is_truncated
    assert (first["count"], first["users"], first["message"]) == (2, 2, messages[1])
    assert first["sample_trace_ids"] == [f"{1:032x}", f"{0:032x}"]
    assert second["message"] == "refused"
    only = f'error_fingerprint = "{first["fingerprint"]}"'
    assert error_groups(store, window("e"), filter_text=only, limit=10) == ([first], False)
    assert error_groups(store, window("e"), filter_text="", limit=1) == ([first], True)


def test_flags_page_and_filter(store: Store) -> None:
    made = [llm(n, 1, at_s=n // 2, project_id="f", request_model="ab"[n % 2]) for n in range(6)]
    store.insert(batch(*made, flags=[flag(row, code) for row in made for code in ("empty", "truncated")]))
    found = pages(find_flags, store=store, window=window("f"), code="", filter_text="", limit=5)
    assert len({item["id"] for item in found}) == len(found) == 12
    only = pages(find_flags, store=store, window=window("f"), code="empty", filter_text='request_model = "a"', limit=2)
    assert [(item["code"], item["request_model"]) for item in only] == [("empty", "a")] * 3


@given(
    st.lists(st.sampled_from([" ", "  ", "\n", "\t", "\u2028", "\xa0", "a", "word", "é" * 9, "x" * 60]), max_size=200),
    st.integers(0, 1200),
)
def test_a_preview_is_the_beginning_in_one_line(pieces: list[str], length: int) -> None:
    text = "".join(pieces)[:length]
    whole = " ".join(text[: 4 * LENGTH].split())
    assert line(text) == (whole if len(whole) <= LENGTH else whole[: LENGTH - 1] + "…")


def test_flags_show_previews_as_stored_and_those_of_older_rows_from_their_messages(store: Store) -> None:
    said = {"input_messages": CONVERSATION, "output_text": "three"}
    made = [
        llm(1, 1, project_id="v", **said, input_preview="as stored", output_preview="too"),
        llm(2, 1, at_s=1, project_id="v", **said),
        llm(3, 1, at_s=2, project_id="v", input_text="asked", input_preview="asked"),
    ]
    store.insert(batch(*made, flags=[flag(row, "empty") for row in made]))
    found, _ = find_flags(store, window("v"), code="", filter_text="", limit=5, cursor="")
    shown = [(item["input_preview"], item["output_preview"]) for item in found]
    assert shown == [("asked", None), ("two", "three"), ("as stored", "too")]


CONVERSATION = """[{"role":"user","parts":[{"type":"text","content":"one"}]},
{"role":"user","parts":[{"content":"two"}]},{"role":"tool","parts":[{"type":"text","content":"three"}]}]"""


@pytest.mark.parametrize(
    ("messages", "text", "asked", "answered"),
    [
        ("", "", None, None),
        ("", " plain \n text ", "plain text", "plain text"),
        ("not json", "text", "text", "text"),
        ("5", "", None, None),
        ('[1, {"role": 2, "parts": [{"content": 5}, "x"]}, {"parts": "y"}]', "", None, None),
        (CONVERSATION, "", "two", "one"),
        ('[{"role":"user","parts":[{"type":"tool_call","content":"x"}]}]', "", None, None),
    ],
)
def test_previews(messages: str, text: str, asked: str | None, answered: str | None) -> None:
    assert input_preview(messages, text) == asked
    assert output_preview(messages, text) == answered
    assert len(input_preview("", "x" * 999) or "") == LENGTH
    assert output_preview("", "x " + " " * 300 + "y" * 999) == "x " + "y" * (LENGTH - 3) + "…"
