"""Which metric points can be stored. Each is judged by itself; the rules are those of OTLP's metrics.proto."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    SummaryDataPoint,
)

from limelight_collector.nesting import check_depth

MAX_BUCKETS = 4096
"""Buckets of one histogram, or quantiles of one summary."""
MAX_SCALE = 40
"""Finest exponential histogram; at 40 a bucket is narrower than a float can tell. The coarsest is -MAX_SCALE."""

_TEMPORALITIES = (
    AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
)


def drop_bad_points(request: ExportMetricsServiceRequest) -> tuple[int, Counter[str]]:
    """Remove points that mean nothing; how many stay, and how many went for which reason."""
    kept = 0
    reasons: Counter[str] = Counter()
    for resource_metrics in request.resource_metrics:
        check_depth(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            check_depth(scope_metrics.scope.attributes)
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind is not None:
                    kept += _drop_from(metric, kind, reasons)
    return kept, reasons


def has_no_value(point: Any) -> bool:
    """Whether the client says with this point that the series has ended (Prometheus: stale)."""
    return bool(point.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)


def _drop_from(metric: Metric, kind: str, reasons: Counter[str]) -> int:
    points = getattr(metric, kind).data_points
    shared = _wrong_metric(metric, kind)
    if shared:
        reasons[shared] += len(points)
        del points[:]
        return 0
    bad: list[int] = []
    for index, point in enumerate(points):
        reason = _wrong_point(point, kind)
        if reason:
            reasons[reason] += 1
            bad.append(index)
        else:
            check_depth(point.attributes)
    for index in reversed(bad):
        del points[index]
    return len(points)


def _wrong_metric(metric: Metric, kind: str) -> str:
    if not metric.name:
        return "the metric has no name"
    has_temporality = kind in ("sum", "histogram", "exponential_histogram")
    if has_temporality and getattr(metric, kind).aggregation_temporality not in _TEMPORALITIES:
        return "the aggregation temporality is neither delta nor cumulative"
    return ""


def _wrong_point(point: Any, kind: str) -> str:
    if not point.time_unix_nano:
        return "no time"
    if has_no_value(point):
        return ""
    if kind in ("gauge", "sum"):
        return "" if point.WhichOneof("value") else "no value"
    if kind == "histogram":
        return _wrong_histogram(point)
    return _wrong_exponential(point) if kind == "exponential_histogram" else _wrong_summary(point)


def _wrong_histogram(point: HistogramDataPoint) -> str:
    bounds, counts = point.explicit_bounds, point.bucket_counts
    if len(counts) != len(bounds) + 1 and (counts or bounds):
        return "the bucket counts do not fit the bounds"
    if len(counts) > MAX_BUCKETS:
        return f"more than {MAX_BUCKETS} buckets"
    if not _rises(bounds):
        return "the bucket bounds do not rise"
    return "the bucket counts do not add up to the count" if counts and sum(counts) != point.count else ""


def _rises(bounds: Sequence[float]) -> bool:
    return all(low < high for low, high in itertools.pairwise(bounds)) and not any(map(math.isnan, bounds))


def _wrong_exponential(point: ExponentialHistogramDataPoint) -> str:
    positive, negative = point.positive.bucket_counts, point.negative.bucket_counts
    if abs(point.scale) > MAX_SCALE:
        return f"the scale is not within ±{MAX_SCALE}"
    if len(positive) + len(negative) > MAX_BUCKETS:
        return f"more than {MAX_BUCKETS} buckets"
    if point.zero_count + sum(positive) + sum(negative) != point.count:
        return "the bucket counts do not add up to the count"
    return ""


def _wrong_summary(point: SummaryDataPoint) -> str:
    if len(point.quantile_values) > MAX_BUCKETS:
        return f"more than {MAX_BUCKETS} quantiles"
    return "" if all(0 <= item.quantile <= 1 for item in point.quantile_values) else "a quantile is not within 0 to 1"
