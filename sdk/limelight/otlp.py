"""OTLP over HTTP: spans and scores to request bodies, one POST, and an honest reading of the answer.

The stock exporter takes any answer below 400 for success; this one checks status, content type and partial success.
Conventions: OTLP 1.11, https://opentelemetry.io/docs/specs/otlp/.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from limelight import semconv
from limelight.guard import LOGGER
from limelight.otlp_spans import put, request_of
from limelight.version import __version__

SPLIT_BYTES = 4 * 2**20
MAX_BYTES = 64 * 2**20
_ANSWER_BYTES = 4 * 2**20
_PROTOBUF = "application/x-protobuf"
TRACES = "/v1/traces"
LOGS = "/v1/logs"
METRICS = "/v1/metrics"


@dataclass(frozen=True, slots=True)
class Score:
    """One evaluation of a span, or of a trace where `span_id` is 0; sent as a log record."""

    name: str
    value: float | None
    label: str | None
    explanation: str | None
    trace_id: int
    span_id: int
    time_ns: int


Item = ReadableSpan | Score


@dataclass(frozen=True, slots=True)
class Request:
    """One body to send: uncompressed OTLP protobuf with `count` items for `path`; None where it cannot be encoded."""

    path: str
    body: bytes | None
    count: int


def requests_of(items: Sequence[Item], resource: Resource) -> Iterator[Request]:
    """Bodies for `items`, each at most SPLIT_BYTES unless one item alone is larger; an item over MAX_BYTES has none."""
    spans = [item for item in items if isinstance(item, ReadableSpan)]
    scores = [item for item in items if isinstance(item, Score)]
    yield from _split(TRACES, spans, resource)
    yield from _split(LOGS, scores, resource)


def _split(path: str, items: Sequence[Any], resource: Resource) -> Iterator[Request]:
    if not items:
        return
    body = _encoded(path, items, resource)
    if len(items) > 1 and (body is None or len(body) > SPLIT_BYTES):
        # an item that cannot be encoded costs only itself
        middle = len(items) // 2
        yield from _split(path, items[:middle], resource)
        yield from _split(path, items[middle:], resource)
    else:
        yield Request(path, None if body is None or len(body) > MAX_BYTES else body, len(items))


def _encoded(path: str, items: Sequence[Any], resource: Resource) -> bytes | None:
    try:
        message = request_of(items) if path == TRACES else _logs(items, resource)
        return message.SerializeToString()
    except Exception as error:
        LOGGER.debug("cannot encode %d items: %s", len(items), error)
        return None


def _logs(scores: Sequence[Score], resource: Resource) -> ExportLogsServiceRequest:
    scope = InstrumentationScope(name=semconv.SCOPE_NAME, version=__version__)
    records = ScopeLogs(scope=scope, log_records=[_log(score) for score in scores])
    described = ResourceMessage(attributes=key_values(resource.attributes))
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=described, scope_logs=[records])])


_HAS_EVENT_NAME = "event_name" in LogRecord.DESCRIPTOR.fields_by_name  # since OpenTelemetry 1.32 or so


def _log(score: Score) -> LogRecord:
    attributes: dict[str, Any] = {
        semconv.EVALUATION_NAME: score.name,
        semconv.EVALUATION_SCORE_VALUE: score.value,
        semconv.EVALUATION_SCORE_LABEL: score.label,
        semconv.EVALUATION_EXPLANATION: score.explanation,
    }
    event: dict[str, Any] = {"event_name": semconv.EVENT_EVALUATION_RESULT} if _HAS_EVENT_NAME else {}
    if not event:
        attributes["event.name"] = semconv.EVENT_EVALUATION_RESULT
    return LogRecord(
        **event,
        time_unix_nano=score.time_ns,
        observed_time_unix_nano=score.time_ns,
        trace_id=score.trace_id.to_bytes(16, "big"),
        span_id=score.span_id.to_bytes(8, "big") if score.span_id else b"",
        attributes=key_values(attributes),
    )


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes as OTLP; None is left out."""
    found: list[KeyValue] = []
    for key, value in attributes.items():
        if value is not None:
            found.append(KeyValue(key=key))
            put(found[-1].value, value)
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What the collector said. `retry` may be sent again (`retry_after_s` if it named a time), `unreachable` too;
    `unauthorised` and `refused` must not. `rejected` items of an `ok` are lost for good."""

    kind: Literal["ok", "retry", "unreachable", "unauthorised", "refused"]
    message: str = ""
    rejected: int = 0
    retry_after_s: float | None = None


class Sender:
    """Posts OTLP bodies to one collector over one HTTP session; used by one thread at a time."""

    def __init__(self, endpoint: str, api_key: str | None) -> None:
        self._endpoint = endpoint
        self._session = requests.Session()
        self._session.headers.update(
            {
                "Content-Type": _PROTOBUF,
                "Accept-Encoding": "identity",
                "User-Agent": f"limelight-python/{__version__}",
            }
        )
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"
        is_elsewhere = urllib.parse.urlsplit(endpoint).hostname not in {"127.0.0.1", "localhost", "::1"}
        if is_elsewhere:  # on this machine it would cost both ends more time than it saves
            self._session.headers["Content-Encoding"] = "gzip"
        self._compresses = is_elsewhere
        # a proxy meant for the internet, and .netrc, have no say on the way to this machine or over our key
        self._session.trust_env = is_elsewhere
        self._session.auth = _keep_headers

    def post(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """Send one body; never raises for what the network or the server does."""
        started = time.monotonic()
        try:
            with self._session.post(
                self._endpoint + path,
                data=gzip.compress(body, compresslevel=1, mtime=0) if self._compresses else body,
                timeout=timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(path, response, _content(response, started + timeout_s))
        except (requests.RequestException, OSError) as error:
            return Answer("unreachable", f"{type(error).__name__}: {error}"[:300])

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _content(response: requests.Response, deadline: float) -> bytes:
    """The body, at most 4 MiB and until the deadline: a server that drips must not hold the worker for ever."""
    content = b""
    for piece in response.iter_content(65_536):
        content += piece
        if len(content) > _ANSWER_BYTES or time.monotonic() > deadline:
            raise requests.RequestException("the answer is too long or too slow")
    return content


def _read(path: str, response: requests.Response, content: bytes) -> Answer:
    status = response.status_code
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if status == 200:
        return _success(path, kind, content)
    message = f"HTTP {status} from {response.url}"
    if status in {429, 502, 503, 504}:
        return Answer("retry", message, retry_after_s=retry_after_s(response.headers.get("Retry-After"), time.time()))
    return Answer("unauthorised" if status in {401, 403} else "refused", message)


def _success(path: str, kind: str, content: bytes) -> Answer:
    try:
        if kind == _PROTOBUF or not (kind or content):
            # the answer about metrics has the shape of the one about logs
            message = ExportTraceServiceResponse() if path == TRACES else ExportLogsServiceResponse()
            message.ParseFromString(content)
            partial = message.partial_success
            rejected = getattr(partial, "rejected_spans", 0) or getattr(partial, "rejected_log_records", 0)
            return Answer("ok", partial.error_message, rejected)
        if kind == "application/json":
            body = json.loads(content or b"{}").get("partialSuccess") or {}
            names = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")
            rejected = int(next((body[name] for name in names if body.get(name)), 0))
            return Answer("ok", str(body.get("errorMessage") or ""), rejected)
    except Exception as error:  # whatever answered, it is no collector
        return Answer("refused", f"the answer is no OTLP: {type(error).__name__}")
    return Answer("refused", f"the answer is {kind or 'of no type'}, not OTLP: is this address a collector?")


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds of a Retry-After header, given as a number or an HTTP date; None where absent or unreadable."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now_s)
    except (TypeError, ValueError):
        return None
