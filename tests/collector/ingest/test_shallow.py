"""The quick proof that no attribute nests too deep agrees with the check of each attribute, wherever attributes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from limelight_collector.decode import validate
from limelight_collector.errors import Rejected
from limelight_collector.nesting import MAX_VALUE_DEPTH
from limelight_collector.shallow import is_shallow

PLACES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "resource": lambda resource_spans, scope_spans, span: resource_spans.resource,
    "scope": lambda resource_spans, scope_spans, span: scope_spans.scope,
    "span": lambda resource_spans, scope_spans, span: span,
    "event": lambda resource_spans, scope_spans, span: span.events.add(name="e"),
    "link": lambda resource_spans, scope_spans, span: span.links.add(),
}


def request(place: str, depth: int, kind: str, trace_id: bytes = b"t" * 16) -> bytes:
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    scope_spans = resource_spans.scope_spans.add()
    span = scope_spans.spans.add(trace_id=trace_id, span_id=b"s" * 8, name="s")
    span.attributes.add(key="plain").value.string_value = "x" * 100
    value = PLACES[place](resource_spans, scope_spans, span).attributes.add(key="deep").value
    for level in range(depth):
        if kind == "array" or (kind == "mixed" and level % 2):
            value.array_value.values.add().int_value = 1
            value = value.array_value.values.add()
        else:
            value.kvlist_value.values.add(key="a").value.bool_value = True
            value = value.kvlist_value.values.add(key="b").value
    value.string_value = "leaf"
    return message.SerializeToString()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["array", "map", "mixed"])
@pytest.mark.parametrize(
    "depth", [0, 1, MAX_VALUE_DEPTH - 1, MAX_VALUE_DEPTH, MAX_VALUE_DEPTH + 1, MAX_VALUE_DEPTH + 4]
)
def test_it_agrees_with_the_check_of_each_attribute(place: str, kind: str, depth: int) -> None:
    payload = request(place, depth, kind)
    assert is_shallow(payload) == (depth <= MAX_VALUE_DEPTH)
    if depth <= MAX_VALUE_DEPTH:
        assert validate(payload, "protobuf", "traces").spans == 1
    else:
        with pytest.raises(Rejected, match="nests deeper"):
            validate(payload, "protobuf", "traces")


def test_a_deep_span_that_is_left_out_anyway_costs_nobody_else_anything() -> None:
    payload = request("span", 1, "array") + request("span", MAX_VALUE_DEPTH + 1, "array", trace_id=b"short")
    assert not is_shallow(payload)
    found = validate(payload, "protobuf", "traces")
    assert (found.spans, found.rejected) == (1, 1)


def test_what_is_no_request_is_not_known_to_be_shallow() -> None:
    assert not is_shallow(b"\xff\xff\xff")
