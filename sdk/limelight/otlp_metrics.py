"""Metrics as one OTLP request body. Loaded by the export worker with the first metrics it sends."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram as HistogramMessage
from opentelemetry.proto.metrics.v1.metrics_pb2 import Sum as SumMessage
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

from limelight import semconv
from limelight.metrics import Point
from limelight.otlp import key_values
from limelight.version import __version__

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def encode(points: Iterable[Point], resource: dict[str, Any], started_ns: int, now_ns: int) -> bytes:
    """An ExportMetricsServiceRequest of `points`, cumulative from `started_ns` to `now_ns` (nanoseconds since 1970)."""
    times: dict[str, Any] = {"start_time_unix_nano": started_ns, "time_unix_nano": now_ns}
    metrics: list[Metric] = []
    ordered = sorted(points, key=_metric_of)
    for (name, unit), group in itertools.groupby(ordered, _metric_of):
        metrics.append(_metric(name, unit, list(group), times))
    scope = ScopeMetrics(scope=InstrumentationScope(name=semconv.SCOPE_NAME, version=__version__), metrics=metrics)
    described = ResourceMessage(attributes=key_values(resource))
    request = ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(resource=described, scope_metrics=[scope])])
    return request.SerializeToString()


def _metric_of(point: Point) -> tuple[str, str]:
    return point.metric, point.unit


def _metric(name: str, unit: str, points: list[Point], times: dict[str, Any]) -> Metric:
    if points[0].counts:
        histogram = HistogramMessage(
            data_points=[_histogram(point, times) for point in points], aggregation_temporality=_CUMULATIVE
        )
        return Metric(name=name, unit=unit, histogram=histogram)
    numbers = [
        NumberDataPoint(attributes=key_values(point.attributes), as_int=point.value, **times) for point in points
    ]
    total = SumMessage(data_points=numbers, aggregation_temporality=_CUMULATIVE, is_monotonic=points[0].is_monotonic)
    return Metric(name=name, unit=unit, sum=total)


def _histogram(point: Point, times: dict[str, Any]) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=key_values(point.attributes),
        count=sum(point.counts),
        sum=point.total,
        bucket_counts=point.counts,
        explicit_bounds=point.bounds,
        **times,
    )
