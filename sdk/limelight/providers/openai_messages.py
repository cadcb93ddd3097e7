"""OpenAI's messages, items and choices to semconv messages: `{role, parts:[{type, …}], finish_reason?}`.

Works on what users pass (dicts or the library's objects) and on what comes back (objects or parsed JSON).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from limelight.content import blob_of_base64, blob_of_url, field

Message = dict[str, Any]
Part = dict[str, Any]


def of_chat(messages: Iterable[Any]) -> list[Message]:
    """The `messages` argument of chat completions."""
    return [_message(message) for message in messages]


def of_choice(choice: Any) -> Message:
    """One choice of a chat completion."""
    message = _message(field(choice, "message"))
    return {**message, "finish_reason": field(choice, "finish_reason") or ""}


def _message(message: Any) -> Message:
    role = str(field(message, "role") or "assistant")
    content = field(message, "content")
    if role in {"tool", "function"}:
        answer = field(message, "tool_call_id") or field(message, "name")
        return {"role": role, "parts": [{"type": "tool_call_response", "id": answer, "response": content}]}
    parts: list[Part] = []
    reasoning = field(message, "reasoning_content") or field(message, "reasoning")
    if isinstance(reasoning, str):
        parts.append({"type": "reasoning", "content": reasoning})
    parts += _contents(content)
    refusal = field(message, "refusal")
    if refusal:
        parts.append({"type": "refusal", "content": refusal})
    for tool_call in field(message, "tool_calls") or []:
        parts.append(_tool_call(tool_call))
    function = field(message, "function_call")
    if function is not None:
        parts.append(tool_call_part(None, field(function, "name"), field(function, "arguments")))
    return {"role": role, "parts": parts}


def _tool_call(tool_call: Any) -> Part:
    called = field(tool_call, "function") or field(tool_call, "custom")
    arguments = field(called, "arguments")
    return tool_call_part(
        field(tool_call, "id"), field(called, "name"), field(called, "input") if arguments is None else arguments
    )


def tool_call_part(call_id: Any, name: Any, arguments: Any) -> Part:
    """A tool call; `arguments` as the model wrote them, valid JSON or not."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def _contents(content: Any) -> list[Part]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_content(part) for part in content]


def _content(part: Any) -> Part:
    """One content part, of chat completions or of the Responses API."""
    kind = field(part, "type")
    if kind in {"text", "input_text", "output_text", "summary_text", "reasoning_text"}:
        return {"type": "text", "content": field(part, "text")}
    if kind == "refusal":
        return {"type": "refusal", "content": field(part, "refusal")}
    if kind in {"image_url", "input_image"}:
        image = field(part, "image_url")
        url = image if isinstance(image, str) else field(image, "url")
        return _reference("image", url) if isinstance(url, str) else _file("image", field(part, "file_id"))
    if kind == "input_audio":
        audio = field(part, "input_audio")
        return {**blob_of_base64(f"audio/{field(audio, 'format')}", str(field(audio, "data"))), "modality": "audio"}
    if kind in {"file", "input_file"}:
        file = field(part, "file") or part
        data = field(file, "file_data")
        return _reference("file", data) if isinstance(data, str) else _file("file", field(file, "file_id"))
    return {"type": str(kind or "custom"), "content": part}


def _reference(modality: str, url: str) -> Part:
    if url.startswith("data:"):
        return {**blob_of_url(url), "modality": modality}
    return {"type": "uri", "uri": url, "modality": modality}


def _file(modality: str, file_id: Any) -> Part:
    return {"type": "file", "file_id": file_id, "modality": modality}


def of_items(items: Any) -> list[Message]:
    """The `input` argument of the Responses API: text or a list of items."""
    if items is None:
        return []
    if isinstance(items, str):
        return [{"role": "user", "parts": [{"type": "text", "content": items}]}]
    return [_item(item) for item in items]


def of_output(items: Iterable[Any], finish_reason: str | None) -> list[Message]:
    """The `output` of a response: one assistant message with the parts of all its items."""
    parts = [part for item in items for part in _item(item)["parts"]]
    return [{"role": "assistant", "parts": parts, "finish_reason": finish_reason or ""}] if parts else []


def _item(item: Any) -> Message:
    kind = field(item, "type")
    if kind in {"function_call", "custom_tool_call"}:
        arguments = field(item, "arguments")
        called = field(item, "input") if arguments is None else arguments
        return _by("assistant", tool_call_part(field(item, "call_id"), field(item, "name"), called))
    if kind in {"function_call_output", "custom_tool_call_output"}:
        response = {"type": "tool_call_response", "id": field(item, "call_id"), "response": field(item, "output")}
        return _by("tool", response)
    if kind == "reasoning":
        texts = [*(field(item, "summary") or []), *(field(item, "content") or [])]
        return _by("assistant", *({"type": "reasoning", "content": field(text, "text")} for text in texts))
    if kind in {None, "message"}:
        return {"role": str(field(item, "role") or "assistant"), "parts": _contents(field(item, "content"))}
    return _by("assistant", {"type": str(kind), "content": item})


def _by(role: str, *parts: Part) -> Message:
    return {"role": role, "parts": list(parts)}


def output_type(response_format: Any) -> str | None:
    """`json` or `text` of a `response_format`; a class to parse into is `json`."""
    if response_format is None:
        return None
    kind = field(response_format, "type")
    return {"json_object": "json", "json_schema": "json", "text": "text"}.get(
        kind if isinstance(kind, str) else "", "json"
    )


def finish_of_response(answer: Any) -> str | None:
    """Why a response ended, in the words of the convention; None while it runs."""
    status = field(answer, "status")
    if status == "incomplete":
        reason = str(field(field(answer, "incomplete_details"), "reason") or "length")
        return "length" if reason == "max_output_tokens" else reason
    if status == "failed":
        return "error"
    if status != "completed":
        return None
    calls = {"function_call", "custom_tool_call"}
    return "tool_call" if any(field(item, "type") in calls for item in field(answer, "output") or []) else "stop"
