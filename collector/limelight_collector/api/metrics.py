"""GET metrics, metrics/{name}/series, and the latter as a file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from limelight_collector.api import file_columns
from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Filter, names, seconds
from limelight_collector.api.export import FileAnswer, FileFormat, in_blocks
from limelight_collector.query.metric_points import AGGREGATIONS, find_metrics, metric_series
from limelight_collector.query.metric_sql import Question

router = APIRouter(tags=["metrics"])

_CHOICES = "; ".join(f"{family}: {' '.join(allowed)}" for family, allowed in AGGREGATIONS.items())


def _question(
    window: AskedWindow,
    name: str,
    aggregation: Annotated[str, Query(description=f"default: the first of its kind. {_CHOICES}")] = "",
    group_by: Annotated[str, Query(description='comma-separated fields, such as service_name,attr["model"]')] = "",
    step: Annotated[str, Query(description="seconds, or 30s, 5m, 1h, 1d; none = one row a group")] = "",
    filter_text: Filter = "",
) -> Question:
    return Question(
        window=window,
        metric=name,
        aggregation=aggregation,
        group_by=names(group_by),
        step_s=seconds("step", step),
        filter_text=filter_text,
    )


Asked = Annotated[Question, Depends(_question)]


@router.get("/metrics")
def list_metrics(parts: Parts, window: AskedWindow, filter_text: Filter = "") -> Answer:
    """The metrics with points in the window: kind, unit, attribute keys, and what may be asked of them."""
    return Answer({"metrics": find_metrics(parts.store, window, filter_text=filter_text)})


@router.get("/metrics/{name:path}/series")
def get_metric_series(parts: Parts, question: Asked) -> Answer:
    """One metric by time and group."""
    return Answer(metric_series(parts.store, question))


@router.get("/metrics/{name:path}/series/export", response_class=StreamingResponse)
def export_metric_series(parts: Parts, question: Asked, file_format: FileFormat = "jsonl") -> FileAnswer:
    """The same as a file."""
    rows = metric_series(parts.store, question)["rows"]
    columns = file_columns.of_metric(question.group_by, stepped=question.step_s is not None)
    return FileAnswer("metric-series", file_format, columns, in_blocks(rows))
