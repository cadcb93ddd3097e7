"""Log records of any kind as rows; evaluations among them are scores besides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.ingest.otlp import NOW, RETENTION, SECOND, TRACE, any_value, logs, pairs, rows_of
from limelight_collector.attributes import MAX_VALUE_CHARS, TRUNCATED
from limelight_collector.decode import validate
from limelight_collector.json_otlp import write_json

SPAN = (1).to_bytes(8, "big")
EVALUATION = {"event.name": "gen_ai.evaluation.result", "gen_ai.evaluation.name": "helpful"}


def record(body: Any = "hello", said: dict[str, Any] | None = None, /, **given: Any) -> LogRecord:
    fields: dict[str, Any] = {"time_unix_nano": NOW, "body": any_value(body), "attributes": pairs(said or {})}
    return LogRecord(**{**fields, **given})


def of(*records: LogRecord, resource: dict[str, Any] | None = None, scope: str = "") -> ExportLogsServiceRequest:
    whole = ExportLogsServiceRequest()
    resource_logs = whole.resource_logs.add()
    resource_logs.resource.attributes.extend(pairs(resource or {}))
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = scope
    scope_logs.log_records.extend(records)
    return whole


def only(found: LogRecord, **given: Any) -> dict[str, Any]:
    (row,) = rows_of(of(found, **given).SerializeToString(), "logs").logs
    return row


def test_a_record_with_all_it_can_have() -> None:
    found = only(
        record(
            {"content": "Hi", "n": [1, None]},
            {"k": 1.5},
            trace_id=TRACE,
            span_id=SPAN,
            observed_time_unix_nano=NOW + 5,
            severity_number=17,
            severity_text="ERROR",
            event_name="gen_ai.choice",
            dropped_attributes_count=2,
        ),
        resource={"service.name": "svc", "deployment.environment.name": "prod"},
        scope="openai",
    )
    assert len(found.pop("log_id")) == 16
    assert found == {
        "project_id": "p",
        "received_ns": NOW,
        "time": NOW,
        "original_ns": 0,
        "observed_ns": NOW + 5,
        "trace_id": TRACE,
        "span_id": SPAN,
        "severity_number": 17,
        "severity_text": "ERROR",
        "event_name": "gen_ai.choice",
        "service_name": "svc",
        "environment": "prod",
        "scope_name": "openai",
        "scope_version": "",
        "body": '{"content":"Hi","n":[1,null]}',
        "attributes": {"k": "1.5"},
        "resource": {"service.name": '"svc"', "deployment.environment.name": '"prod"'},
        "dropped_attributes_count": 2,
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [("", '""'), ("ü\n", '"ü\\n"'), (0, "0"), (False, "false"), (b"\x00", '"base64:AA=="'), ([], "[]"), (None, "")],
)
def test_a_body_is_json_text_of_its_value(body: Any, text: str) -> None:
    assert only(record(body))["body"] == text


def test_a_body_that_is_too_long_is_cut_and_stays_json() -> None:
    for body in ("x" * (MAX_VALUE_CHARS + 1), ["x" * MAX_VALUE_CHARS]):
        text = only(record(body))["body"]
        assert text.startswith('"')
        assert text.endswith(f'{TRUNCATED}"')
        assert len(text) == MAX_VALUE_CHARS + len(TRUNCATED) + text.count("\\") + 2


def test_a_record_needs_no_trace_and_a_span_without_its_trace_names_nothing() -> None:
    for ids in ({}, {"trace_id": bytes(16), "span_id": bytes(8)}, {"span_id": SPAN}):
        found = only(record("x", **ids))
        assert (found["trace_id"], found["span_id"]) == (bytes(16), bytes(8))


def test_a_bad_id_costs_its_record_only() -> None:
    whole = of(record("a", trace_id=b"short"), record("b", trace_id=TRACE, span_id=b"123456789"), record("c"))
    found = validate(whole.SerializeToString(), "protobuf", "logs")
    assert (found.spans, found.rejected) == (1, 2)
    assert [row["body"] for row in rows_of(found.payload, "logs").logs] == ['"c"']


def test_a_time_is_the_sent_the_observed_or_the_received_one_within_what_is_kept() -> None:
    rows = [
        only(record("x", time_unix_nano=5, observed_time_unix_nano=NOW)),
        only(record("x", time_unix_nano=0, observed_time_unix_nano=NOW - SECOND)),
        only(record("x", time_unix_nano=0)),
        only(record("x", time_unix_nano=2**64 - 1)),
    ]
    assert NOW - RETENTION <= rows[0]["time"] < NOW - RETENTION + 3600 * SECOND
    assert [row["time"] for row in rows[1:3]] == [NOW - SECOND, NOW]
    assert NOW < rows[3]["time"] <= NOW + 3600 * SECOND
    assert [row["original_ns"] for row in rows] == [5, 0, 0, 2**64 - 1]


def test_the_same_record_has_the_same_id_and_any_other_another() -> None:
    first = only(record("x", {"k": 1}, trace_id=TRACE))["log_id"]
    assert only(record("x", {"k": 1}, trace_id=TRACE))["log_id"] == first
    others = [
        only(record("y", {"k": 1}, trace_id=TRACE)),
        only(record("x", {"k": 2}, trace_id=TRACE)),
        only(record("x", {"k": 1})),
        only(record("x", {"k": 1}, trace_id=TRACE, time_unix_nano=NOW + 1)),
        only(record("x", {"k": 1}, trace_id=TRACE, severity_number=1)),
        only(record("x", {"k": 1}, trace_id=TRACE), resource={"host": "a"}),
        only(record("x", {"k": 1}, trace_id=TRACE), scope="s"),
    ]
    assert len({first, *(row["log_id"] for row in others)}) == 1 + len(others)


def test_evaluations_of_a_trace_are_scores_and_records() -> None:
    whole = logs(EVALUATION, {"event.name": "other"}, {"event.name": "gen_ai.evaluation.result"})
    untraced = whole.resource_logs.add().scope_logs.add().log_records.add()
    untraced.attributes.extend(pairs(EVALUATION))
    found = validate(whole.SerializeToString(), "protobuf", "logs")
    assert (found.spans, found.rejected, found.message) == (4, 0, "")
    rows = rows_of(found.payload, "logs")
    assert [(score.name, score.trace_id, score.span_id) for score in rows.scores] == [("helpful", TRACE, SPAN)]
    assert [row["event_name"] for row in rows.logs] == [
        "gen_ai.evaluation.result",
        "other",
        "gen_ai.evaluation.result",
        "gen_ai.evaluation.result",
    ]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _TEXT | st.binary(max_size=6)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=6
)
_RECORDS = st.builds(
    record,
    _VALUES,
    st.dictionaries(_TEXT, _VALUES, max_size=3),
    time_unix_nano=st.integers(0, 2**64 - 1) | st.just(NOW),
    observed_time_unix_nano=st.integers(0, 2**64 - 1),
    trace_id=st.sampled_from([b"", TRACE, bytes(16), b"short"]),
    span_id=st.sampled_from([b"", SPAN, bytes(8), b"123"]),
    severity_number=st.integers(-2, 99),
    severity_text=_TEXT,
    event_name=_TEXT,
    dropped_attributes_count=st.integers(0, 2**32 - 1),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_RECORDS, max_size=3))
def test_json_and_protobuf_give_the_same_records(records: list[LogRecord]) -> None:
    whole = of(*records, scope="s")
    one = validate(write_json(whole).encode(), "json", "logs")
    two = validate(whole.SerializeToString(), "protobuf", "logs")
    assert (one.spans, one.rejected) == (two.spans, two.rejected)
    assert rows_of(one.payload, "logs").logs == rows_of(two.payload, "logs").logs
