"""Content: messages, texts, tools and retrieval of one span, from whichever source has them.

Where a source holds messages they fill the message columns; otherwise its text fills the text columns. JSON columns get
JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from limelight_collector import dialects, messages, preview, vocabulary
from limelight_collector.attributes import dumps, loads, parsed
from limelight_collector.parts import Part

Row = dict[str, Any]

_EMPTY = (None, "", [], {})
_REQUEST = "request"
_SOURCES = {**dialects.CONTENT, _REQUEST: dialects.REQUEST_OBJECTS}
Told = Mapping[str, tuple[str, ...]]
"""Column -> its sources that a span has, best first."""
MODEL_TYPES = frozenset({"llm", "embedding", "rerank"})
"""Observation types that call a model."""


def fill_content(row: Row, content: dict[str, Any]) -> list[Part]:
    """Set the content columns of `row`; `observation_type` must be set, `finish_reasons` may be.

    Returns the parts of its output messages.
    """
    if not content:
        row["finish_reasons"] = [fold(reason) for reason in row.get("finish_reasons", ())]
        return []
    if "ai.response.text" in content or "ai.response.toolCalls" in content:
        content = {**content, "ai.response.*": [_vercel_answer(content)]}
    told = _told(tuple(content))
    is_embedding = row["observation_type"] == "embedding"
    asked = told["input_messages"]
    given = _messages(content, _sure(asked) if is_embedding else asked, "user")
    answer = _messages(content, told["output_messages"], "assistant")
    if answer and row.get("status") == "error" and not any(len(message) > 2 or message["parts"] for message in answer):
        answer = []  # LangChain answers for a call that failed, but says nothing
    instructions = messages.read_instructions(_first(content, told["system_instructions"]))
    if given:
        row["input_messages"] = dumps(given)
        instructions = instructions or messages.system_text(given)
    else:
        row["input_text"] = _text(_first(content, _sure(asked))) or _text(_first(content, told["input_text"]))
        if is_embedding:
            row["input_text"] = _embedded(row["input_text"])
    if answer:
        row["output_messages"] = dumps(answer)
        calls = messages.tool_calls(answer)
        row["tool_calls"] = dumps(calls) if calls else ""
        reasons = messages.finish_reasons(answer)
        if reasons:
            row.setdefault("finish_reasons", reasons)
    elif answer is None:
        sure = _sure(told["output_messages"])
        row["output_text"] = _text(_first(content, sure)) or _text(_first(content, told["output_text"]))
    row["input_preview"] = preview.asked(given, row.get("input_text", ""))
    row["output_preview"] = preview.answered(answer, row.get("output_text", ""))
    row["system_instructions"] = instructions or _beside_messages(content, told[_REQUEST])
    row["finish_reasons"] = [fold(reason) for reason in row.get("finish_reasons", ())]
    row["tool_definition_names"] = _definitions(content, told)
    if told["metadata"]:
        row["metadata"] = _json(_metadata(content, told["metadata"]))
    _fill_tool(row, content, told)
    _fill_retrieval(row, content, told["retrieval_documents"])
    return [part for message in answer or () for part in message["parts"]]


@lru_cache(1024)
def fold(reason: str) -> str:
    """A finish reason in the conventions' words."""
    word = reason.removeprefix("FinishReason.").removeprefix("FINISH_REASON_").strip().lower().replace("-", "_")
    return vocabulary.FINISH_REASONS.get(word, word)


# -- messages ----------------------------------------------------------------------------------------------------------
def _messages(content: dict[str, Any], sources: Iterable[str], role: str) -> list[messages.Message] | None:
    hollow = None
    for key in sources:
        value = content[key]
        if not value:
            continue
        found = messages.read_messages(value, role, is_sure=key in dialects.SURE_MESSAGES)
        if found and any(message["parts"] for message in found):
            return found
        hollow = hollow or found  # LiteLLM: the tool call is missing here, and told elsewhere
    return hollow


def _vercel_answer(content: dict[str, Any]) -> Part:
    parts: list[Any] = []
    if content.get("ai.response.reasoning"):
        parts.append({"type": "reasoning", "content": content["ai.response.reasoning"]})
    if content.get("ai.response.text"):
        parts.append({"type": "text", "content": content["ai.response.text"]})
    calls = parsed(content.get("ai.response.toolCalls"))
    listed = calls if isinstance(calls, list) else []
    parts += [{**call, "type": "tool-call"} for call in listed if isinstance(call, dict)]
    answer: Part = {"role": "assistant", "content": parts}
    if content.get("ai.response.finishReason"):
        answer["finish_reason"] = content["ai.response.finishReason"]
    return answer


def _beside_messages(content: dict[str, Any], requests: Iterable[str]) -> str:
    """Instructions that are a field of the request and no message."""
    for key in requests:
        found = messages.request_instructions(content[key])
        if found:
            return found
    return ""


def _definitions(content: dict[str, Any], told: Told) -> list[str]:
    names = messages.tool_names(_first(content, told["tool_definitions"]))
    for key in told[_REQUEST]:
        if names:
            break
        names = messages.tool_names(_object(content[key]).get("tools"))
    return names


# -- tools, retrieval, metadata ----------------------------------------------------------------------------------------
def _fill_tool(row: Row, content: dict[str, Any], told: Told) -> None:
    is_tool = row["observation_type"] == "tool"
    if is_tool or told["tool_args"] or told["tool_result"]:
        args, result = _json(_first(content, told["tool_args"])), _json(_first(content, told["tool_result"]))
        row["tool_args"] = args or (_json(row.get("input_text")) if is_tool else "")
        row["tool_result"] = result or (_json(_tool_answer(parsed(row.get("output_text")))) if is_tool else "")


def _tool_answer(value: Any) -> Any:
    """What a tool answered, without LangChain's message around it: `{output: {type: tool, content}}`."""
    inner = value.get("output") if isinstance(value, dict) else None
    return inner.get("content") if isinstance(inner, dict) and inner.get("type") == "tool" else value


def _fill_retrieval(row: Row, content: dict[str, Any], sources: Iterable[str]) -> None:
    documents = parsed(_first(content, sources))
    if row["observation_type"] in ("retrieval", "rerank"):
        if documents is None:
            documents = _document_list(parsed(row.get("output_text")))
        if not row.get("retrieval_query"):
            row["retrieval_query"] = _query(parsed(row.get("input_text")))
    if isinstance(documents, list) and documents:
        row["retrieval_documents"] = dumps(_documents(documents))


def _document_list(value: Any) -> Any:
    if isinstance(value, dict):
        return next(
            (value[key] for key in ("documents", "output", "results") if isinstance(value.get(key), list)), None
        )
    return value


def _query(value: Any) -> str:
    if isinstance(value, dict):
        value = next((value[key] for key in ("query", "input", "question") if isinstance(value.get(key), str)), value)
    if isinstance(value, dict) and isinstance(given := value.get("args"), list) and given:  # a traced function's
        value = given[0]
    return _text(value)


def _documents(documents: list[Any]) -> list[dict[str, Any]]:
    """`[{id, score, content, metadata}]` without nulls; a document that is no object is its content."""
    return [_document(item) for item in documents]


def _document(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"content": item}
    inner = item.get("document", item.get("kwargs"))  # OpenInference; LangChain's serialisation
    source = inner if isinstance(inner, dict) else item
    found: dict[str, Any] = {key: value for key, value in source.items() if value is not None and key != "type"}
    for name, others in _DOCUMENT_FIELDS.items():
        for key in others:
            if key in found and name not in found:
                found[name] = found.pop(key)
    if isinstance(found.get("metadata"), str):
        found["metadata"] = parsed(found["metadata"])
    return found


_DOCUMENT_FIELDS = {
    "content": ("page_content", "pageContent", "text"),
    "score": ("relevance_score",),
    "id": ("doc_id",),
}


def _metadata(content: dict[str, Any], sources: tuple[str, ...]) -> Any:
    """What all sources tell; of a name in several of them, what the best one tells."""
    merged: Any = None
    for key in reversed(sources):
        given = content[key]
        if given in _EMPTY:
            continue
        if not key.endswith(".*"):
            given = parsed(given)
        elif isinstance(given, dict):
            given = {name: parsed(value) for name, value in given.items() if not name.startswith("LANGSMITH_")}
        is_more = isinstance(merged, dict) and isinstance(given, dict)
        merged = {**merged, **given} if is_more else given
    return merged or None


# -- values ------------------------------------------------------------------------------------------------------------
@lru_cache(4096)
def _told(keys: tuple[str, ...]) -> Told:
    """Which sources of each column are among `keys`; most spans of a program have the same ones."""
    return {column: tuple(key for key in sources if key in keys) for column, sources in _SOURCES.items()}


def _sure(sources: Iterable[str]) -> tuple[str, ...]:
    return tuple(key for key in sources if key in dialects.SURE_MESSAGES)


def _first(content: dict[str, Any], sources: Iterable[str]) -> Any:
    """The best source's value as sent; None where there is none."""
    for key in sources:
        value = content[key]
        if value or value not in _EMPTY:
            return _unquoted(value) if key in dialects.JSON_TEXTS else value
    return None


def _unquoted(value: Any) -> Any:
    """Text, or a list of texts, out of the quotes of JSON."""
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    found = loads(value) if isinstance(value, str) and value.startswith('"') else None
    return found if isinstance(found, str) else value


def _embedded(text: str) -> str:
    """What is embedded, where `text` is a whole request for it."""
    return _text(_object(text).get("input")) or text


def _object(value: Any) -> dict[str, Any]:
    found = loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):  # [{embedding: {text}}], [{prompt: {text}}]
        texts = [_leaf_text(item) for item in value]
        if all(text is not None for text in texts):
            return "\n".join(text for text in texts if text)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return dumps(value)


def _leaf_text(item: Any) -> str | None:
    while isinstance(item, dict) and len(item) == 1:
        item = next(iter(item.values()))
    return item if isinstance(item, str) else None


def _json(value: Any) -> str:
    return "" if value in _EMPTY else dumps(parsed(value))
