"""Content: messages, texts, tools and retrieval of one span, from whichever source has them.

Where a source holds messages they fill the message columns; otherwise its text fills the text columns. JSON columns get
JSON text.
"""

from __future__ import annotations

from typing import Any

from limelight_collector import dialects, messages, preview, vocabulary
from limelight_collector.attributes import dumps, loads, parsed
from limelight_collector.parts import Part

Row = dict[str, Any]

_EMPTY = (None, "", [], {})
_SOURCES = {column: frozenset(keys) for column, keys in dialects.CONTENT.items()}
MODEL_TYPES = frozenset({"llm", "embedding", "rerank"})
"""Observation types that call a model."""


def fill_content(row: Row, content: dict[str, Any]) -> None:
    """Set the content columns of `row`; `observation_type` must be set, `finish_reasons` may be."""
    if not content:
        row["finish_reasons"] = [fold(reason) for reason in row.get("finish_reasons", ())]
        return
    if "ai.response.text" in content or "ai.response.toolCalls" in content:
        content = {**content, "ai.response.*": [_vercel_answer(content)]}
    is_embedding = row["observation_type"] == "embedding"
    asked = {key: content[key] for key in content.keys() & dialects.SURE_MESSAGES} if is_embedding else content
    given = _messages(asked, "input_messages", "user")
    answer = _messages(content, "output_messages", "assistant")
    if answer and row.get("status") == "error" and not any(len(message) > 2 or message["parts"] for message in answer):
        answer = []  # LangChain answers for a call that failed, but says nothing
    instructions = messages.read_instructions(_first(content, "system_instructions"))
    if given:
        row["input_messages"] = dumps(given)
        instructions = instructions or messages.system_text(given)
    else:
        row["input_text"] = _text(_first(content, "input_messages", dialects.SURE_MESSAGES)) or _text(
            _first(content, "input_text")
        )
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
        row["output_text"] = _text(_first(content, "output_messages", dialects.SURE_MESSAGES)) or _text(
            _first(content, "output_text")
        )
    row["input_preview"] = preview.asked(given, row.get("input_text", ""))
    row["output_preview"] = preview.answered(answer, row.get("output_text", ""))
    row["system_instructions"] = instructions or _beside_messages(content)
    row["finish_reasons"] = [fold(reason) for reason in row.get("finish_reasons", ())]
    row["tool_definition_names"] = _definitions(content)
    row["metadata"] = _json(_metadata(content))
    _fill_tool(row, content)
    _fill_retrieval(row, content)


def fold(reason: str) -> str:
    """A finish reason in the conventions' words."""
    word = reason.removeprefix("FinishReason.").removeprefix("FINISH_REASON_").strip().lower().replace("-", "_")
    return vocabulary.FINISH_REASONS.get(word, word)


# -- messages ----------------------------------------------------------------------------------------------------------
def _messages(content: dict[str, Any], column: str, role: str) -> list[messages.Message] | None:
    if content.keys().isdisjoint(_SOURCES[column]):
        return None
    hollow = None
    for key in dialects.CONTENT[column]:
        value = content.get(key)
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


def _beside_messages(content: dict[str, Any]) -> str:
    """Instructions that are a field of the request and no message."""
    for key in dialects.REQUEST_OBJECTS:
        if key in content:
            found = messages.request_instructions(content[key])
            if found:
                return found
    return ""


def _definitions(content: dict[str, Any]) -> list[str]:
    names = messages.tool_names(_first(content, "tool_definitions"))
    for key in dialects.REQUEST_OBJECTS:
        if names:
            break
        if key in content:
            names = messages.tool_names(_object(content[key]).get("tools"))
    return names


# -- tools, retrieval, metadata ----------------------------------------------------------------------------------------
def _fill_tool(row: Row, content: dict[str, Any]) -> None:
    row["tool_args"] = _json(_first(content, "tool_args"))
    row["tool_result"] = _json(_first(content, "tool_result"))
    if row["observation_type"] == "tool":
        row["tool_args"] = row["tool_args"] or _json(row.get("input_text"))
        row["tool_result"] = row["tool_result"] or _json(_tool_answer(parsed(row.get("output_text"))))


def _tool_answer(value: Any) -> Any:
    """What a tool answered, without LangChain's message around it: `{output: {type: tool, content}}`."""
    inner = value.get("output") if isinstance(value, dict) else None
    return inner.get("content") if isinstance(inner, dict) and inner.get("type") == "tool" else value


def _fill_retrieval(row: Row, content: dict[str, Any]) -> None:
    documents = parsed(_first(content, "retrieval_documents"))
    if row["observation_type"] in ("retrieval", "rerank"):
        if documents is None:
            documents = _document_list(parsed(row.get("output_text")))
        if not row.get("retrieval_query"):
            row["retrieval_query"] = _query(parsed(row.get("input_text")))
    row["retrieval_documents"] = dumps(_documents(documents)) if isinstance(documents, list) and documents else ""


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


def _metadata(content: dict[str, Any]) -> Any:
    """What all sources tell; of a name in several of them, what the best one tells."""
    merged: Any = None
    for key in reversed(dialects.CONTENT["metadata"]):
        given = content.get(key)
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
def _first(content: dict[str, Any], column: str, among: frozenset[str] | None = None) -> Any:
    """The best source's value as sent; None where there is none."""
    if content.keys().isdisjoint(_SOURCES[column]):
        return None
    for key in dialects.CONTENT[column]:
        if key in content and (among is None or key in among):
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
