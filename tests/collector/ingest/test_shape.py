"""What a request may hold is counted before it is built: arrays are, long texts are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.ingest.otlp import request, rows_of, span
from limelight_collector.attributes import MAX_VALUE_CHARS, TRUNCATED
from limelight_collector.errors import Rejected
from limelight_collector.shape import MAX_PARTS, check_protobuf


def _varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def array(count: int) -> AnyValue:
    """An array of empty values, two bytes each."""
    return AnyValue.FromString(b"\x2a" + _varint(2 * count) + b"\x0a\x00" * count)


def nested(count: int) -> AnyValue:
    """The same inside a map inside an array."""
    outer = AnyValue()
    outer.array_value.values.add().kvlist_value.values.add(key="k").value.CopyFrom(array(count))
    return outer


def in_attribute(value: AnyValue) -> bytes:
    made = span(1)
    made.attributes.append(KeyValue(key="k", value=value))
    return request(made).SerializeToString()


def in_event(value: AnyValue) -> bytes:
    made = span(1)
    made.events.add(name="e").attributes.append(KeyValue(key="k", value=value))
    return request(made).SerializeToString()


def in_link(value: AnyValue) -> bytes:
    made = span(1)
    made.links.add(trace_id=bytes(16)).attributes.append(KeyValue(key="k", value=value))
    return request(made).SerializeToString()


def _logs(**fields: object) -> bytes:
    made = ExportLogsServiceRequest()
    made.resource_logs.add().scope_logs.add().log_records.add(**fields)  # type: ignore[arg-type]
    return made.SerializeToString()


PLACES: dict[str, tuple[str, Callable[[AnyValue], bytes]]] = {
    "attribute": ("traces", in_attribute),
    "event": ("traces", in_event),
    "link": ("traces", in_link),
    "body": ("logs", lambda value: _logs(body=value)),
    "attribute of a record": ("logs", lambda value: _logs(attributes=[KeyValue(key="k", value=value)])),
}


@pytest.mark.parametrize("make", [array, nested])
@pytest.mark.parametrize("place", PLACES)
def test_values_of_arrays_are_counted_wherever_they_are(place: str, make: Callable[[int], AnyValue]) -> None:
    signal, put = PLACES[place]
    check_protobuf(put(make(MAX_PARTS // 2)), signal)
    with pytest.raises(Rejected) as caught:
        check_protobuf(put(make(MAX_PARTS + 1)), signal)
    assert caught.value.kind == "too_large"


def test_a_long_text_is_cut_and_costs_no_other_span() -> None:
    payload = request(span(1, {"a": "x" * 30_000_000}), span(2)).SerializeToString()
    check_protobuf(payload, "traces")
    long, other = rows_of(payload).spans
    assert long["attributes"]["a"] == '"' + "x" * MAX_VALUE_CHARS + TRUNCATED + '"'
    assert (long["dropped_attributes_count"], other["dropped_attributes_count"]) == (1, 0)
