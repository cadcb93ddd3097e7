"""Spans as protobuf: message for message what OpenTelemetry's own encoder makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from limelight.otlp_spans import request_of
from limelight.testing import Recorded

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
INTS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(TEXT, st.booleans(), INTS, st.floats(allow_nan=False), st.binary(max_size=20))
ATTRIBUTES = st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3).map(tuple), max_size=8)
TIMES = st.integers(0, 2**63)
STATES = st.sampled_from([None, TraceState([("a", "1"), ("b", "2")])])
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1)]),
    STATES,
)
RESOURCES = [Resource({}), Resource({"service.name": "a", "n": [1, 2]}, "https://schema/1")]
RICH = InstrumentationScope("s", "1.2", "https://schema/2", {"scope.attribute": True})
_stock = encode_spans([ReadableSpan("s", SpanContext(1, 2, is_remote=False), instrumentation_scope=RICH)])
_IS_WHOLE = bool(_stock.resource_spans[0].scope_spans[0].scope.attributes)  # the oldest versions leave them out
SCOPES = [None, InstrumentationScope("plain"), *([RICH] if _IS_WHOLE else [])]
SPANS = st.builds(
    ReadableSpan,
    TEXT,
    CONTEXTS,
    st.none() | CONTEXTS,
    st.sampled_from(RESOURCES),
    ATTRIBUTES,
    st.lists(st.builds(Event, TEXT, ATTRIBUTES, TIMES), max_size=2),
    st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    st.sampled_from(SpanKind),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "broken")]),
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.sampled_from(SCOPES),
)


@given(st.lists(SPANS, max_size=6))
def test_every_field_is_what_the_stock_encoder_writes(spans: list[ReadableSpan]) -> None:
    assert request_of(spans) == encode_spans(spans)


def test_spans_of_the_sdk_are_encoded_with_what_it_counts_as_dropped(spans: Recorded) -> None:
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider

    tight = SpanLimits(max_span_attributes=2, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1)
    tracer = TracerProvider(span_limits=tight).get_tracer("t")
    parent = tracer.start_span("parent")
    link = Link(parent.get_span_context(), {"a": 1, "b": 2})
    made: Any = tracer.start_span("made", links=[link, link], attributes={"a": "x", "b": 1.5, "c": [True]})
    for name in ("one", "two"):
        made.add_event(name, {"a": 1, "b": 2})
    made.record_exception(ValueError("v"))
    made.end()
    assert request_of([made]) == encode_spans([made])
    assert request_of([made]).resource_spans[0].scope_spans[0].spans[0].dropped_events_count == 2


def test_lone_surrogates_in_values_become_question_marks() -> None:
    span = ReadableSpan("s", SpanContext(1, 2, is_remote=False), attributes={"a": "x\ud800y", "b": ("\udfff",)})
    first, second = request_of([span]).resource_spans[0].scope_spans[0].spans[0].attributes
    assert first.value.string_value == "x?y"
    assert second.value.array_value.values[0].string_value == "?"


@pytest.mark.parametrize("value", [2**63, object()], ids=["too large", "no attribute"])
def test_what_otlp_cannot_hold_is_refused(value: Any) -> None:
    span = ReadableSpan("s", SpanContext(1, 2, is_remote=False), attributes={"a": value})
    with pytest.raises((ValueError, TypeError)):
        request_of([span])
