"""GET metrics and metrics/{name}/series."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Filter, names, seconds
from limelight_collector.query.metric_points import AGGREGATIONS, find_metrics, metric_series
from limelight_collector.query.metric_sql import Question

router = APIRouter(tags=["metrics"])

_CHOICES = "; ".join(f"{family}: {' '.join(allowed)}" for family, allowed in AGGREGATIONS.items())


@router.get("/metrics")
def list_metrics(parts: Parts, window: AskedWindow, filter_text: Filter = "") -> Answer:
    """The metrics with points in the window: kind, unit, attribute keys, and what may be asked of them."""
    return Answer({"metrics": find_metrics(parts.store, window, filter_text=filter_text)})


@router.get("/metrics/{name:path}/series")
def get_metric_series(
    parts: Parts,
    window: AskedWindow,
    name: str,
    aggregation: Annotated[str, Query(description=f"default: the first of its kind. {_CHOICES}")] = "",
    group_by: Annotated[str, Query(description='comma-separated fields, such as service_name,attr["model"]')] = "",
    step: Annotated[str, Query(description="seconds, or 30s, 5m, 1h, 1d; none = one row a group")] = "",
    filter_text: Filter = "",
) -> Answer:
    """One metric by time and group."""
    question = Question(
        window=window,
        metric=name,
        aggregation=aggregation,
        group_by=names(group_by),
        step_s=seconds("step", step),
        filter_text=filter_text,
    )
    return Answer(metric_series(parts.store, question))
