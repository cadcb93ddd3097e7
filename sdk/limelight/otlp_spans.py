"""Ended spans to OTLP protobuf, in a third of the stock encoder's time, which was a third of what a traced call cost.

Messages are filled where they stand, instead of built and copied into each other; resources are told apart by identity,
instead of hashed. Field by field the same as the stock encoder's (OTLP 1.11): tests/sdk/test_otlp_spans.py compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, SpanFlags, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceState

_status: Any = Status  # its stubs want an enum's own type where a number does


def request_of(spans: Iterable[ReadableSpan]) -> ExportTraceServiceRequest:
    """One request with `spans` under their resources and scopes; raises for what OTLP cannot hold."""
    request = ExportTraceServiceRequest()
    resources: dict[int, ResourceSpans] = {}
    scopes: dict[tuple[int, int], ScopeSpans] = {}
    for span in spans:
        resource, scope = span.resource, span.instrumentation_scope
        key = (id(resource), id(scope))
        if key not in scopes:
            if id(resource) not in resources:
                of_resource = resources[id(resource)] = request.resource_spans.add(schema_url=resource.schema_url)
                of_resource.resource.SetInParent()
                add_attributes(of_resource.resource.attributes, resource.attributes)
            of_scope = scopes[key] = resources[id(resource)].scope_spans.add()
            of_scope.scope.SetInParent()
            if scope is not None:
                of_scope.schema_url = scope.schema_url or ""
                of_scope.scope.name, of_scope.scope.version = scope.name, scope.version or ""
                add_attributes(of_scope.scope.attributes, scope.attributes)
        _add(scopes[key].spans, span)
    return request


def _add(spans: Any, span: ReadableSpan) -> None:
    context: Any = span.context
    parent = span.parent
    message = spans.add(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        trace_state=_state(context.trace_state) if context.trace_state else None,
        parent_span_id=None if parent is None else parent.span_id.to_bytes(8, "big"),
        flags=_flags(parent),
        name=_utf8(span.name),
        kind=span.kind.value + 1,  # the same order; OTLP has an UNSPECIFIED before it
        start_time_unix_nano=span.start_time,
        end_time_unix_nano=span.end_time,
        status=_status(code=span.status.status_code.value, message=span.status.description),
        dropped_attributes_count=span.dropped_attributes,
        dropped_events_count=span.dropped_events,
        dropped_links_count=span.dropped_links,
    )
    add_attributes(message.attributes, attributes_of(span))
    for event in span.events:
        added = message.events.add(name=event.name, time_unix_nano=event.timestamp)
        add_attributes(added.attributes, event.attributes)
        added.dropped_attributes_count = event.dropped_attributes
    for link in span.links:
        linked = message.links.add(
            trace_id=link.context.trace_id.to_bytes(16, "big"),
            span_id=link.context.span_id.to_bytes(8, "big"),
            flags=_flags(link.context),
            dropped_attributes_count=link.dropped_attributes,
        )
        add_attributes(linked.attributes, link.attributes)


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _state(state: TraceState) -> str:
    return ",".join(f"{key}={value}" for key, value in state.items())


def _flags(context: SpanContext | None) -> int:
    """Whether a parent, or a linked span, was in another process."""
    flags: int = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return flags | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if context is not None and context.is_remote else flags


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes, copied at once: read one by one, each takes a lock."""
    attributes: Any = span.attributes or {}
    return attributes.copy() if hasattr(attributes, "copy") else dict(attributes)


def add_attributes(target: Any, attributes: Mapping[str, Any] | None) -> None:
    """Append attributes to a repeated field of them."""
    add = target.add
    for key, value in (attributes or {}).items():
        put(add(key=key).value, value)


def put(target: AnyValue, value: Any) -> None:
    """Fill one value; None leaves it empty, lone surrogates, which UTF-8 cannot hold, become question marks."""
    if isinstance(value, str):
        try:
            target.string_value = value
        except UnicodeEncodeError:
            target.string_value = _utf8(value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, (list, tuple)):
        target.array_value.SetInParent()
        for item in cast("list[Any]", value):
            put(target.array_value.values.add(), item)
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        for key, item in cast("Mapping[Any, Any]", value).items():
            put(target.kvlist_value.values.add(key=str(key)).value, item)
    elif value is not None:
        raise TypeError(f"no attribute can be a {type(value).__name__}")
