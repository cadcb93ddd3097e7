"""The columns of each file, in order: the keys of the objects the API answers with, and the kind of their values."""

from __future__ import annotations

from limelight_collector.api.export import FileColumn, columns_of, shown
from limelight_collector.query.logs import LOG_SHOWN
from limelight_collector.query.measures import MEASURES
from limelight_collector.query.span_json import SHOWN

SPANS = [FileColumn("project"), *shown(SHOWN), FileColumn("end_time", "time")]
TRACES = [
    *columns_of(hex="trace_id root_span_id", text="name service_name environment status", time="start_time end_time"),
    *columns_of(int="duration_ns span_count llm_count error_count unpriced_count"),
    *columns_of(int="input_tokens output_tokens cache_read_tokens total_tokens", decimal="cost_usd", float="ttft_s"),
    *columns_of(list="models providers flags tags", text="session_id user_id input_preview output_preview"),
]
ERRORS = [
    *columns_of(hex="fingerprint", text="error_type message span_name observation_type", int="count users sessions"),
    *columns_of(time="first_seen last_seen", list="service_names models sample_trace_ids"),
]
FLAGS = [
    *columns_of(text="id code severity source evidence detector", float="confidence"),
    *columns_of(int="detector_version", hex="trace_id span_id", time="start_time created_time"),
    *columns_of(text="span_name request_model service_name environment input_preview output_preview"),
]
LOGS = shown(LOG_SHOWN)
VALUES = columns_of(text="value", int="count")


def of_series(measures: list[str], group_by: list[str], *, stepped: bool) -> list[FileColumn]:
    """The columns of measures by time (where there is a step) and group."""
    counts = [FileColumn(name, "int" if MEASURES[name].is_count else "float") for name in measures]
    return [*_keys(group_by, stepped=stepped), *counts]


def of_metric(group_by: list[str], *, stepped: bool) -> list[FileColumn]:
    """The columns of a metric's values."""
    return [*_keys(group_by, stepped=stepped), FileColumn("value", "float")]


def _keys(group_by: list[str], *, stepped: bool) -> list[FileColumn]:
    return [*columns_of(time="time" if stepped else ""), *map(FileColumn, group_by)]
