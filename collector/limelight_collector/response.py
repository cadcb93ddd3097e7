"""Response: what providers' answers and errors, kept as whole objects, tell beside the text."""

from __future__ import annotations

import re
from typing import Any

from limelight import semconv as s
from limelight_collector import dialects
from limelight_collector.content import fold
from limelight_collector.convert import as_text
from limelight_collector.usage import as_object, read_details, read_usage

Row = dict[str, Any]

_KNOWN_BY = frozenset({"usage", "choices", "model", "model_name"})
_TRACEBACK = "Traceback (most recent call last)"
_REPR = re.compile(r"([A-Za-z_]\w*)\((['\"])(.*)\2\)", re.DOTALL)


def fill(row: Row, values: dict[str, Any]) -> None:
    """Set the columns of `values` that are known and that `row` has not."""
    for column, value in values.items():
        if value is not None and row.get(column) in (None, ""):
            row[column] = value


def fill_response(row: Row, content: dict[str, Any]) -> None:
    """What a whole response of a provider, kept as content, tells besides the answer."""
    if row.get("response_id") and row.get("input_tokens") is not None and row["finish_reasons"]:
        return
    for key in dialects.RESPONSE_OBJECTS:
        found = as_object(content[key]) if key in content else None
        if not found:
            continue
        if isinstance(outer := found.get("llm_output"), dict) and isinstance(outer.get("id"), str):  # LangChain
            fill(row, {"response_id": outer["id"]})
        if told := _langchain_metadata(found):
            fill(row, {"response_model": told.get("model_name"), "service_tier": _tier(told)})
            found = told
        if isinstance(found.get("id"), str) and not _KNOWN_BY.isdisjoint(found):
            fill(row, {"response_id": found["id"]})
        if isinstance(found.get("model"), str):
            fill(row, {"response_model": found["model"]})
        if isinstance(found.get("usage"), dict):
            fill(row, read_usage(found["usage"]))
        reason = found.get("status") if found.get("object") == "response" else found.get("stop_reason")
        if not row["finish_reasons"] and isinstance(reason, str):
            row["finish_reasons"] = [fold(reason)]
        if row["observation_type"] == "embedding" and isinstance(found.get("data"), list):
            row["output_text"] = ""  # vectors
            if not row.get("output_messages"):
                row["output_preview"] = ""
        return


def fill_provider(row: Row, value: Any) -> None:
    """What providers tell under their names (Vercel): details of the usage, the tier, and Anthropic's whole input.

    Vercel 4 and 5 give Anthropic's input without its cache tokens, 6 and 7 with them, under the same names; the usage
    that Anthropic sent, or that there is none, tells which.
    """
    for provider, told in (as_object(value) or {}).items():
        if not isinstance(told, dict):
            continue
        inner = told.get("usage")
        usage: dict[str, Any] = inner if isinstance(inner, dict) else {}
        details = read_details({**told, **usage})
        fill(row, details)
        fill(row, {"service_tier": _tier({**told, "service_tier": told.get("serviceTier"), "usage": usage})})
        given = row.get("input_tokens")
        if provider == "anthropic" and given is not None:
            cached = details.get("cache_read_tokens", 0) + details.get("cache_write_tokens", 0)
            whole = read_usage(usage).get("input_tokens", given) if usage else given + cached
            if whole > given:
                row["raw_input_tokens"], row["input_tokens"] = given, whole


def exception_of(values: dict[str, Any]) -> tuple[str, str]:
    """Type and message of an exception event; LangSmith's are always `Exception` with `repr` and traceback."""
    kind = as_text(values.get(s.EXCEPTION_TYPE)) or ""
    message = as_text(values.get(s.EXCEPTION_MESSAGE)) or ""
    if kind == "Exception" and _TRACEBACK in message:
        message = message.partition(_TRACEBACK)[0].strip()
        told = _REPR.fullmatch(message)
        if told:
            return told[1], told[3]
    return kind, message


def _langchain_metadata(found: dict[str, Any]) -> dict[str, Any] | None:
    """What the provider answered besides the message in LangChain's result: `{generations: [[{message}]]}`."""
    place: Any = found.get("generations")
    while isinstance(place, list) and place:
        place = place[0]
    for key in ("message", "kwargs", "response_metadata"):
        place = place.get(key) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


def _tier(told: dict[str, Any]) -> str | None:
    usage = told.get("usage")
    tier = told.get("service_tier") or (usage.get("service_tier") if isinstance(usage, dict) else None)
    return tier if isinstance(tier, str) else None
