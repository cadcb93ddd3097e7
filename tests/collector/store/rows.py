"""Rows for tests of the store, the queries and the API: spans with sensible defaults, and batches of them."""

from __future__ import annotations

from typing import Any

from limelight_collector.batch import Batch, Flag, Score

T0 = 1_790_000_000_000_000_000
"""A fixed instant, 2026-09-21T14:13:20Z, in nanoseconds."""
SECOND = 1_000_000_000


def span(
    trace: int = 1, number: int = 1, *, at_s: float = 0.0, parent: int | None = None, **given: Any
) -> dict[str, Any]:
    """One span of trace `trace` starting `at_s` seconds after T0; `given` overrides any column."""
    row: dict[str, Any] = {
        "project_id": "p",
        "trace_id": trace.to_bytes(16, "big"),
        "span_id": (trace * 1000 + number).to_bytes(8, "big"),
        "parent_span_id": b"\0" * 8 if parent is None else (trace * 1000 + parent).to_bytes(8, "big"),
        "start_time": T0 + int(at_s * SECOND),
        "duration_ns": SECOND,
        "received_ns": T0 + 3600 * SECOND,
        "name": f"span-{number}",
        "span_kind": "internal",
        "status": "ok",
        "service_name": "svc",
        "observation_type": "span",
        "usage_role": "none",
    }
    return row | given


def llm(trace: int = 1, number: int = 2, **given: Any) -> dict[str, Any]:
    """A model call with usage."""
    fields: dict[str, Any] = {
        "observation_type": "llm",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o",
        "usage_role": "own",
        "billable": True,
        "input_tokens": 100,
        "output_tokens": 20,
    }
    return span(trace, number, **(fields | given))


def point(series: int = 1, *, at_s: float = 0.0, **given: Any) -> dict[str, Any]:
    """One point of series `series` of a gauge, `at_s` seconds after T0; `given` overrides any column."""
    row: dict[str, Any] = {
        "project_id": "p",
        "metric": "queue.size",
        "series_id": series,
        "time": T0 + int(at_s * SECOND),
        "received_ns": T0 + 3600 * SECOND,
        "kind": "gauge",
        "service_name": "svc",
        "attributes": {"engine": f'"{series}"'},
        "value": 1.0,
    }
    return row | given


def log(number: int = 1, *, at_s: float = 0.0, trace: int = 0, **given: Any) -> dict[str, Any]:
    """Log record `number`, `at_s` seconds after T0, of trace `trace` (0 = none); `given` overrides any column."""
    row: dict[str, Any] = {
        "project_id": "p",
        "time": T0 + int(at_s * SECOND),
        "log_id": number.to_bytes(16, "big"),
        "received_ns": T0 + 3600 * SECOND,
        "trace_id": trace.to_bytes(16, "big"),
        "span_id": (trace * 1000 + 1).to_bytes(8, "big") if trace else bytes(8),
        "severity_number": 9,
        "severity_text": "INFO",
        "service_name": "svc",
        "body": f'"line {number}"',
    }
    return row | given


def batch(*rows: dict[str, Any], flags: list[Flag] | None = None, scores: list[Score] | None = None) -> Batch:
    """A batch of rows."""
    made = Batch(flags=flags or [], scores=scores or [])
    for row in rows:
        made.append(row)
    return made


def flag(row: dict[str, Any], code: str = "truncated", **given: Any) -> Flag:
    """A verdict on a span."""
    fields: dict[str, Any] = {
        "severity": "warning",
        "source": "rule",
        "confidence": 1.0,
        "evidence": "finish reason length",
        "detector": code,
        "detector_version": 1,
        "created_ns": row["received_ns"],
    }
    return Flag(
        project_id=row["project_id"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        start_ns=row["start_time"],
        code=code,
        **(fields | given),
    )


def score(row: dict[str, Any], name: str = "helpful", value: float | None = 1.0, **given: Any) -> Score:
    """An evaluation result on a span."""
    fields: dict[str, Any] = {
        "label": "",
        "explanation": "",
        "source": "api",
        "created_ns": row["received_ns"],
        "score_id": f"{name}-1",
    }
    return Score(
        project_id=row["project_id"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        name=name,
        value=value,
        **(fields | given),
    )
