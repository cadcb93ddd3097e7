"""Log records: an OTLP logs request becomes rows of `logs`, whatever the records are about.

`log_id` is a hash of the record as sent, so a retry, a regrouped request and a replay give the same row. A record
without any time gets the time it was received at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from limelight_collector.attributes import MAX_VALUE_CHARS, TRUNCATED, dumps, read_attributes, value_of
from limelight_collector.decode import event_name, is_evaluation
from limelight_collector.kept_time import clamp
from limelight_collector.normalise import read_resource

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

Row = dict[str, Any]

_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)
_MAX_UINT32 = 2**32 - 1
_MAX_SEVERITY = 24


def log_rows(request: ExportLogsServiceRequest, project_id: str, received_ns: int, retention_ns: int) -> Iterator[Row]:
    """A row for each record; `retention_ns` is the oldest age a time may have."""
    for resource_logs in request.resource_logs:
        source = read_resource(resource_logs.resource)
        for scope_logs in resource_logs.scope_logs:
            identity = _identity(source.encoded, scope_logs.scope)
            shared: Row = {
                "project_id": project_id,
                "received_ns": received_ns,
                "service_name": source.service_name,
                "environment": source.environment,
                "scope_name": scope_logs.scope.name,
                "scope_version": scope_logs.scope.version,
                "resource": source.encoded,
            }
            for record in scope_logs.log_records:
                yield shared | _record(record, identity, received_ns, retention_ns)


def evaluations(request: ExportLogsServiceRequest) -> ExportLogsServiceRequest:
    """The records that judge a trace, alone."""
    found = ExportLogsServiceRequest()
    records = found.resource_logs.add().scope_logs.add().log_records
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            records.extend(record for record in scope_logs.log_records if is_evaluation(record))
    return found


def _identity(resource: dict[str, str], scope: InstrumentationScope) -> hashlib.blake2b:
    named = dumps([sorted(resource.items()), scope.name, scope.version])
    return hashlib.blake2b(named.encode("utf-8", "replace"), digest_size=16)


def _record(record: LogRecord, identity: hashlib.blake2b, received_ns: int, retention_ns: int) -> Row:
    attributes = read_attributes(record.attributes)
    body, severity = _body(record), record.severity_number
    time_ns = record.time_unix_nano or record.observed_time_unix_nano or received_ns
    kept_ns = clamp(time_ns, received_ns, retention_ns)
    has_trace = any(record.trace_id)
    found: Row = {
        "time": kept_ns,
        "original_ns": time_ns if kept_ns != time_ns else 0,
        "observed_ns": record.observed_time_unix_nano,
        "trace_id": record.trace_id or _NO_TRACE,
        "span_id": (record.span_id or _NO_SPAN) if has_trace else _NO_SPAN,  # a span without its trace names nothing
        "severity_number": severity if 0 <= severity <= _MAX_SEVERITY else 0,
        "severity_text": record.severity_text,
        "event_name": event_name(record),
        "body": body if len(body) <= MAX_VALUE_CHARS else _cut(body),
        "attributes": attributes.encoded,
        "dropped_attributes_count": min(record.dropped_attributes_count + attributes.dropped, _MAX_UINT32),
    }
    return found | {"log_id": _log_id(identity, record, body, attributes.encoded)}


def _log_id(identity: hashlib.blake2b, record: LogRecord, body: str, attributes: dict[str, str]) -> bytes:
    """Of values and not of bytes as sent: the same record has the same id in JSON and in protobuf."""
    named = [
        record.time_unix_nano,
        record.observed_time_unix_nano,
        record.trace_id.hex(),
        record.span_id.hex(),
        record.severity_number,
        record.severity_text,
        record.event_name,
        body,
        sorted(attributes.items()),
    ]
    digest = identity.copy()
    digest.update(dumps(named).encode("utf-8", "replace"))
    return digest.digest()


def _body(record: LogRecord) -> str:
    """The body as JSON text, '' where there is none."""
    if not record.HasField("body") or record.body.WhichOneof("value") is None:
        return ""
    return dumps(value_of(record.body))


def _cut(body: str) -> str:
    """A body that is too long: the beginning of its text."""
    text: str = json.loads(body) if body.startswith('"') else body
    return dumps(text[:MAX_VALUE_CHARS] + TRUNCATED)
