"""Flags: detectors look at one finished model span each and say what is wrong with its answer, quoting it.

A detector never raises a flag on what it did not see: without captured content only counts and finish reasons speak.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from limelight_collector.attributes import loads
from limelight_collector.batch import Flag

Row = dict[str, Any]
Parts = list[dict[str, Any]]
"""The parts of a span's output messages."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One check. `find` returns the evidence (a sentence or a quote with offsets) or None; `code` is the flag's."""

    name: str
    version: int
    code: str
    severity: str
    source: str
    confidence: float
    find: Callable[[Row, Parts], str | None]


def detect(row: Row, parts: Parts | None = None) -> Iterator[Flag]:
    """The flags of one span; spans that are no model calls have none. `parts`: of its output messages, where known."""
    if row.get("observation_type") != "llm":
        return
    said = _parts(row) if parts is None else parts
    for detector in DETECTORS:
        evidence = detector.find(row, said)
        if evidence is not None:
            yield Flag(
                project_id=row["project_id"],
                trace_id=row["trace_id"],
                span_id=row["span_id"],
                start_ns=row["start_time"],
                code=detector.code,
                severity=detector.severity,
                source=detector.source,
                confidence=detector.confidence,
                evidence=evidence,
                detector=detector.name,
                detector_version=detector.version,
                created_ns=row["received_ns"],  # not the clock: a replay must make the same flag
            )


def _parts(row: Row) -> Parts:
    messages: Any = loads(row.get("output_messages") or "[]")
    return [part for message in messages for part in message["parts"]]


def find_truncated(row: Row, _parts: Parts) -> str | None:
    """The answer stopped at a length limit."""
    if "length" not in row.get("finish_reasons", ()):
        return None
    limit = row.get("request_max_tokens")
    count = row.get("output_tokens")
    told = f" after {count} output tokens" if count is not None else ""
    return f"finish reason length{told}" + (f" (max_tokens {limit})" if limit is not None else "")


_NOT_EMPTY = frozenset({"length", "content_filter", "error", "tool_call"})


def find_empty(row: Row, parts: Parts) -> str | None:
    """The call finished well and yet there is nothing in the answer: no text, tool call, reasoning or refusal.

    A call that ended for a tool call is not empty: some libraries leave the tool call out of the answer they send, and
    an answer of which not even the end is told is not known to be empty.
    """
    if row.get("status") == "error" or not _NOT_EMPTY.isdisjoint(row.get("finish_reasons", ())):
        return None
    ended = row.get("output_messages") and row.get("finish_reasons")
    captured = bool(row.get("output_text") or parts or ended)
    if not captured:
        return "0 output tokens" if row.get("output_tokens") == 0 else None
    if (row.get("output_text") or "").strip() or any(map(_says_something, parts)):
        return None
    return "the captured answer has no text, tool call, reasoning or refusal"


def _says_something(part: dict[str, Any]) -> bool:
    content = part.get("content")
    return bool(content.strip()) if isinstance(content, str) else part.get("type") != "text"


_CANNOT = r"(?:can(?:no|['’])t|can not|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t)"
_VERBS = (
    r"(?:(?:help|assist)(?: you)? (?:with|in)\b|assist\b(?! but)|comply\b|fulfil+ (?:this|that|your)\b"
    r"|provide (?:that|this|any|you with|instructions|guidance|assistance)\b|engage in\b|do that\b"
    r"|(?:create|write|generate|answer|discuss|support) (?:that|this)\b)"
)
_REFUSAL = re.compile(
    r"\s*(?:(?:(?:i['’]?m|i am) (?:very |so |really )?sorry|(?:my )?apologies|sorry)[,.]? (?:but )?)?"
    rf"(?:as an? ai(?: language model| assistant)?[,]? )?i ?{_CANNOT} {_VERBS}",
    re.IGNORECASE,
)
"""Openings of a refusal. Anchored at the start of the answer and bound to verbs of helping: "I can't wait" is none."""


def find_refusal(row: Row, parts: Parts) -> str | None:
    """The provider filtered the answer, or the model declined in a part made for it or in its opening words."""
    if "content_filter" in row.get("finish_reasons", ()):
        return "finish reason content_filter"
    texts: list[str] = [row.get("output_text") or ""]
    for part in parts:
        content = part.get("content")
        if not isinstance(content, str):
            continue
        if part.get("type") == "refusal":
            return _quote(content, 0, min(len(content), 200))
        if part.get("type") == "text":
            texts.append(content)
    for text in texts:
        match = _REFUSAL.match(text)
        if match:
            return _quote(text, match.start(), match.end())
    return None


def _quote(text: str, start: int, end: int) -> str:
    return f'characters {start}–{end} of the answer: "{text[start:end].strip()}"'


DETECTORS = (
    Detector("truncated", 1, "truncated", "warning", "rule", 1.0, find_truncated),
    Detector("empty", 1, "empty", "warning", "rule", 1.0, find_empty),
    Detector("refusal", 1, "refusal", "info", "heuristic", 0.8, find_refusal),
)
"""What runs on every model span; free of charge."""
