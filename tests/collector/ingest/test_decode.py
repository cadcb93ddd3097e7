"""What is taken, what is rejected span by span, and what is no OTLP at all; JSON and protobuf agree."""

from __future__ import annotations

import base64
import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ingest.otlp import NOW, TRACE, any_value, logs, pairs, request, rows_of, span
from limelight_collector.decode import validate
from limelight_collector.errors import Rejected


def json_span(**fields: Any) -> bytes:
    whole = {"traceId": TRACE.hex(), "spanId": "00" * 7 + "01", "name": "n", **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}).encode()


def nested(depth: int) -> dict[str, Any]:
    """An attribute of `depth` arrays."""
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


def test_valid_request_is_spooled_as_it_came() -> None:
    payload = request(span(1), span(2)).SerializeToString()
    found = validate(payload, "protobuf", "traces")
    assert (found.payload, found.spans, found.rejected, found.message) == (payload, 2, 0, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": bytes(16)},
        {"trace_id": TRACE[:15]},
        {"span_id": bytes(8)},
        {"span_id": b""},
        {"span_id": bytes(9)},
        {"parent_span_id": b"123"},
    ],
)
def test_a_bad_id_costs_its_span_only(fields: dict[str, Any]) -> None:
    found = validate(request(span(1), span(2, **fields), span(3)).SerializeToString(), "protobuf", "traces")
    assert (found.spans, found.rejected) == (2, 1)
    assert "1 span" in found.message
    kept = ExportTraceServiceRequest.FromString(found.payload).resource_spans[0].scope_spans[0].spans
    assert [item.span_id[-1] for item in kept] == [1, 3]


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
@pytest.mark.parametrize(("payload", "encoding"), [(b"", "protobuf"), (b"{}", "json"), (b'{"x":[{}]}', "json")])
def test_empty_requests_are_fine(payload: bytes, encoding: Any, signal: Any) -> None:
    assert validate(payload, encoding, signal).spans == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"nul",
        b'{"resourceSpans":',
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        '{"resourceSpans":[]}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b'"\\"' * 50_000,
        json_span(name=1),
        json_span(name="\ud800"),
        json_span(startTimeUnixNano="1e3"),
        json_span(startTimeUnixNano=2**64),
        json_span(startTimeUnixNano=-1),
        json_span(kind="SPAN_KIND_CLIENT"),
        json_span(attributes=[{"key": "k", "value": {"intValue": "9" * 5000}}]),
        json_span(attributes=[{"key": "k", "value": {"intValue": True}}]),
        json_span(attributes=[{"key": "k", "value": {"bytesValue": "***"}}]),
        json_span(attributes=[{"key": "k", "value": {"doubleValue": "nan"}}]),
        json_span(attributes=[{"key": "k", "value": nested(25)}]),
        json_span(attributes=[{"key": "k", "value": nested(60)}]),
        json_span(events=[{"attributes": [{"key": "k", "value": nested(25)}]}]),
    ],
)
def test_broken_json_is_a_bad_request(payload: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        validate(payload, "json", "traces")
    assert caught.value.kind == "bad_request"


def test_broken_protobuf_is_a_bad_request() -> None:
    deep: Any = "x"
    for _ in range(25):
        deep = [deep]
    map_of_maps: Any = "x"
    for _ in range(25):
        map_of_maps = {"k": map_of_maps}
    bad_utf8 = request(span(1, name="NAME")).SerializeToString().replace(b"NAME", b"\xff\xfe\xff\xfe")
    wholes = [b"garbage", request(span(1)).SerializeToString()[:-3], bad_utf8]
    wholes += [request(span(1, {"k": value})).SerializeToString() for value in (deep, map_of_maps)]
    wholes.append(request(span(1), resource={"k": deep}).SerializeToString())
    for payload in wholes:
        with pytest.raises(Rejected, match=r"protobuf|nests"):
            validate(payload, "protobuf", "traces")
    assert validate(request(span(1, {"k": deep[0]})).SerializeToString(), "protobuf", "traces").spans == 1


def test_json_follows_otlp_and_not_the_protobuf_mapping() -> None:
    payload = json_span(
        traceId=TRACE.hex().upper(),  # hexadecimal, either case
        parent_span_id="00" * 8,  # snake_case is an unknown key
        startTimeUnixNano=str(NOW),
        endTimeUnixNano=NOW + 5,
        kind=3,
        unknown={"deep": [1]},
        status=None,
        attributes=[{"key": "n", "value": {"intValue": "7"}}, {"key": "b", "value": {"bytesValue": "AAE="}, "z": 1}],
    )
    row = rows_of(validate(payload, "json", "traces").payload).spans[0]
    assert row["trace_id"] == TRACE
    assert (row["start_time"], row["duration_ns"], row["span_kind"]) == (NOW, 5, "client")
    assert row["attributes"] == {"n": "7", "b": '"base64:AAE="'}


def test_json_ids_that_are_no_hex_reject_the_span() -> None:
    found = validate(json_span(traceId=base64.b64encode(TRACE).decode()), "json", "traces")
    assert (found.spans, found.rejected) == (0, 1)


def test_json_ids_that_are_no_hex_reject_the_log_record() -> None:
    records = [{"body": {"stringValue": "x"}}, {"traceId": "xyz"}, {"traceId": "", "spanId": "0"}]
    whole = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    found = validate(whole, "json", "logs")
    assert (found.spans, found.rejected) == (1, 2)
    assert found.message == "2 log records have a trace or span id of wrong length"


@pytest.mark.parametrize("where", ["attribute", "body", "resource", "scope"])
def test_log_records_that_nest_too_deep_are_a_bad_request(where: str) -> None:
    deep: Any = "x"
    for _ in range(25):
        deep = [deep]
    whole = logs({"k": deep} if where == "attribute" else {})
    scope_logs = whole.resource_logs[0].scope_logs[0]
    if where == "body":
        scope_logs.log_records[0].body.CopyFrom(any_value(deep))
    elif where == "resource":
        whole.resource_logs[0].resource.attributes.extend(pairs({"k": deep}))
    elif where == "scope":
        scope_logs.scope.attributes.extend(pairs({"k": deep}))
    with pytest.raises(Rejected, match="nests"):
        validate(whole.SerializeToString(), "protobuf", "logs")


# -- one request in both encodings -------------------------------------------------------------------------------------
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _TEXT | st.binary(max_size=6)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=8
)
_KEYS = _TEXT | st.sampled_from(
    ["gen_ai.operation.name", "gen_ai.usage.input_tokens", "gen_ai.input.messages", "gen_ai.request.model",
     "error.type", "gen_ai.output.messages", "gen_ai.response.finish_reasons", "limelight.tags"]
)  # fmt: skip
_ATTRIBUTES = st.dictionaries(_KEYS, _VALUES, max_size=6)
_SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.binary(min_size=16, max_size=16),
        "span_id": st.binary(min_size=8, max_size=8) | st.binary(max_size=9),
        "parent_span_id": st.just(b"") | st.binary(min_size=8, max_size=8),
        "name": _TEXT,
        "kind": st.integers(0, 5),
        "start_time_unix_nano": st.integers(0, 2**64 - 1) | st.just(NOW),
        "end_time_unix_nano": st.integers(0, 2**64 - 1),
        "attributes": _ATTRIBUTES,
    }
)


def to_json(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value) if value % 2 else value}
    if isinstance(value, float):
        names = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return {"doubleValue": value if math.isfinite(value) else names.get(value, "NaN")}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return {"arrayValue": {"values": [to_json(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": json_pairs(value)}}
    return {"stringValue": value}


def json_pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": to_json(value)} for key, value in attributes.items()]


@settings(max_examples=150, deadline=None)
@given(st.lists(_SPANS, max_size=3), _ATTRIBUTES)
def test_json_and_protobuf_give_the_same_rows(spans: list[dict[str, Any]], resource: dict[str, Any]) -> None:
    names = {
        "trace_id": "traceId",
        "span_id": "spanId",
        "parent_span_id": "parentSpanId",
        "start_time_unix_nano": "startTimeUnixNano",
        "end_time_unix_nano": "endTimeUnixNano",
    }
    as_json = [
        {
            names.get(key, key): value.hex()
            if isinstance(value, bytes)
            else json_pairs(value)
            if isinstance(value, dict)
            else value
            for key, value in item.items()
        }
        for item in spans
    ]
    scope_spans = [{"scope": {"name": ""}, "spans": as_json}]
    document = {"resourceSpans": [{"resource": {"attributes": json_pairs(resource)}, "scopeSpans": scope_spans}]}
    as_protobuf = request(
        *(span(1, **{**item, "attributes": pairs(item["attributes"])}) for item in spans), resource=resource
    )
    one = validate(json.dumps(document).encode(), "json", "traces")
    two = validate(as_protobuf.SerializeToString(), "protobuf", "traces")
    assert (one.spans, one.rejected) == (two.spans, two.rejected)
    assert rows_of(one.payload) == rows_of(two.payload)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["json", "protobuf"]), st.sampled_from(["traces", "logs", "metrics"]))
def test_noise_is_rejected_or_harmless(payload: bytes, encoding: Any, signal: Any) -> None:
    with suppress(Rejected):  # anything else is a crash that a client can cause
        validate(payload, encoding, signal)
