"""Metric points: an OTLP metrics request becomes rows of `metric_points`.

A series is one metric of one resource and scope with one set of attributes; `series_id` is a hash of all of that, so a
retry, a regrouped request and a replay give the same rows. Exemplars (counted) and the metric's metadata are not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, ScopeMetrics

from limelight_collector import metrics
from limelight_collector.attributes import dumps, read_attributes
from limelight_collector.kept_time import clamp
from limelight_collector.normalise import Source, read_resource
from limelight_collector.valid_points import has_no_value

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        ExponentialHistogramDataPoint,
        HistogramDataPoint,
        NumberDataPoint,
        SummaryDataPoint,
    )

Row = dict[str, Any]

_TEMPORALITIES: dict[int, str] = {
    AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA: "delta",
    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative",
}


def point_rows(
    request: ExportMetricsServiceRequest, project_id: str, received_ns: int, retention_ns: int
) -> Iterator[Row]:
    """A row for each point; `retention_ns` is the oldest age a time may have."""
    for resource_metrics in request.resource_metrics:
        source = read_resource(resource_metrics.resource)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    continue
                shared = _shared(source, scope_metrics, metric, kind)
                identity = _identity(shared)
                shared |= {"project_id": project_id, "received_ns": received_ns, "description": metric.description}
                for point in getattr(metric, kind).data_points:
                    if kind != "summary" and point.exemplars:
                        metrics.DROPPED_EXEMPLARS.inc(len(point.exemplars))
                    row = shared | _series(identity, point)
                    _times(row, point, received_ns, retention_ns)
                    if not has_no_value(point):
                        _READ[kind](row, point)
                    yield row


def _shared(source: Source, scope_metrics: ScopeMetrics, metric: Metric, kind: str) -> Row:
    """What all points of a metric have in common, and what names their series."""
    data = getattr(metric, kind)
    return {
        "metric": metric.name,
        "kind": kind,
        "unit": metric.unit,
        "temporality": _TEMPORALITIES.get(getattr(data, "aggregation_temporality", 0), ""),
        "is_monotonic": bool(getattr(data, "is_monotonic", False)),
        "service_name": source.service_name,
        "environment": source.environment,
        "scope_name": scope_metrics.scope.name,
        "scope_version": scope_metrics.scope.version,
        "resource": source.encoded,
    }


def _identity(shared: Row) -> hashlib.blake2b:
    named = {key: value for key, value in shared.items() if key != "resource"}
    return hashlib.blake2b(dumps([named, sorted(shared["resource"].items())]).encode("utf-8", "replace"), digest_size=8)


def _series(identity: hashlib.blake2b, point: Any) -> Row:
    attributes = read_attributes(point.attributes).encoded
    digest = identity.copy()
    digest.update(dumps(sorted(attributes.items())).encode("utf-8", "replace"))
    return {"series_id": int.from_bytes(digest.digest(), "big"), "attributes": attributes}


def _times(row: Row, point: Any, received_ns: int, retention_ns: int) -> None:
    """Points of one series that are moved to the same bound stay apart by the time they were sent with."""
    row["time"] = clamp(point.time_unix_nano, received_ns, retention_ns)
    row["original_ns"] = point.time_unix_nano if row["time"] != point.time_unix_nano else 0
    row["start_ns"] = point.start_time_unix_nano


def _number(row: Row, point: NumberDataPoint) -> None:
    row["value"] = float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double


def _summed(row: Row, point: HistogramDataPoint | ExponentialHistogramDataPoint) -> None:
    row["count"] = point.count
    for name in ("sum", "min", "max"):
        row[name] = getattr(point, name) if point.HasField(name) else None


def _histogram(row: Row, point: HistogramDataPoint) -> None:
    _summed(row, point)
    row["bucket_bounds"] = list(point.explicit_bounds)
    row["bucket_counts"] = list(point.bucket_counts)


def _exponential(row: Row, point: ExponentialHistogramDataPoint) -> None:
    _summed(row, point)
    row["scale"] = point.scale
    row["zero_count"] = point.zero_count
    row["zero_threshold"] = point.zero_threshold
    row["positive_offset"] = point.positive.offset
    row["positive_counts"] = list(point.positive.bucket_counts)
    row["negative_offset"] = point.negative.offset
    row["negative_counts"] = list(point.negative.bucket_counts)


def _summary(row: Row, point: SummaryDataPoint) -> None:
    row["count"] = point.count
    row["sum"] = point.sum
    row["quantiles"] = [item.quantile for item in point.quantile_values]
    row["quantile_values"] = [item.value for item in point.quantile_values]


_READ: dict[str, Any] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
