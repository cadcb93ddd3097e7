"""OpenAI's messages, items and choices to semconv messages: `{role, parts:[{type, …}], finish_reason?}`.

Works on what users pass (dicts or the library's objects) and on what comes back (objects or parsed JSON). Only lists
and tuples are read: an iterator is the user's.
"""

from __future__ import annotations

from typing import Any

from limelight.content import blob_of_base64, blob_of_url
from limelight.values import field, items, reader, word, words

Message = dict[str, Any]
Part = dict[str, Any]
_SERVER_TOOLS = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
        "mcp_call",
    }
)
_TOOL_OUTPUTS = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "computer_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
    }
)


_SPEAKERS = frozenset({"system", "developer", "user", "assistant"})


def of_chat(messages: Any) -> list[Message]:
    """The `messages` argument of chat completions."""
    return [_message(message) for message in items(messages)]


def of_prompt(prompt: Any) -> list[Message]:
    """The `prompt` argument of completions: a text or several; token ids are left out."""
    return [{"role": "user", "parts": [text_part(text)]} for text in words(prompt) or ()]


def of_choice(choice: Any) -> Message:
    """One choice of a chat completion, or of a completion, which has text only."""
    message = field(choice, "message")
    text = word(field(choice, "text"))
    found = _message(message) if message is not None else {"role": "assistant", "parts": _contents(text)}
    return {**found, "finish_reason": word(field(choice, "finish_reason")) or ""}


def _message(message: Any) -> Message:
    told = reader(message)
    role = word(told("role")) or "assistant"
    content = told("content")
    if type(message) is dict and len(message) == 2 and type(content) is str and content and role in _SPEAKERS:
        return {"role": role, "parts": [{"type": "text", "content": content}]}  # nearly every one
    if role in {"tool", "function"}:
        answer = word(told("tool_call_id")) or word(told("name"))
        response = [_content(part) for part in items(content)] or content
        return {"role": role, "parts": [{"type": "tool_call_response", "id": answer, "response": response}]}
    parts: list[Part] = []
    reasoning = word(told("reasoning_content")) or word(told("reasoning"))
    if reasoning:
        parts.append({"type": "reasoning", "content": reasoning})
    parts += _contents(content)
    refusal = word(told("refusal"))
    if refusal:
        parts.append({"type": "refusal", "content": refusal})
    parts += _audio(told("audio"))
    for tool_call in items(told("tool_calls")):
        parts.append(_tool_call(tool_call))
    function = told("function_call")
    if function is not None:
        parts.append(tool_call_part(None, field(function, "name"), field(function, "arguments")))
    return {"role": role, "parts": parts}


def _audio(audio: Any) -> list[Part]:
    """Spoken output: what was said, and the sound; in a later request only its id."""
    if audio is None:
        return []
    transcript, data = word(field(audio, "transcript")), word(field(audio, "data"))
    parts = [text_part(transcript)] if transcript else []
    if data:
        parts.append({**blob_of_base64("audio", data), "modality": "audio"})
    return parts or [_file("audio", field(audio, "id"))]


def text_part(text: str) -> Part:
    """A part of plain text."""
    return {"type": "text", "content": text}


def _tool_call(tool_call: Any) -> Part:
    called = field(tool_call, "function")
    called = field(tool_call, "custom") if called is None else called
    arguments = field(called, "arguments")
    return tool_call_part(
        field(tool_call, "id"), field(called, "name"), field(called, "input") if arguments is None else arguments
    )


def tool_call_part(call_id: Any, name: Any, arguments: Any) -> Part:
    """A tool call; `arguments` as the model wrote them, valid JSON or not."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def _contents(content: Any) -> list[Part]:
    text = word(content)
    if text is not None:
        return [text_part(text)] if text else []
    return [_content(part) for part in items(content)]


def _content(part: Any) -> Part:
    """One content part, of chat completions or of the Responses API."""
    kind = word(field(part, "type"))
    if kind in {"text", "input_text", "output_text", "summary_text", "reasoning_text"}:
        return {"type": "text", "content": field(part, "text")}
    if kind == "thinking":  # of Cohere a text, of Mistral parts of text
        thought = field(part, "thinking")
        thoughts = [word(field(piece, "text")) or "" for piece in items(thought)]
        return {"type": "reasoning", "content": word(thought) or "".join(thoughts)}
    if kind == "refusal":
        return {"type": "refusal", "content": field(part, "refusal")}
    if kind in {"image_url", "input_image"}:
        image = field(part, "image_url")
        url = word(image) or word(field(image, "url"))
        return _file("image", field(part, "file_id")) if url is None else _reference("image", url)
    if kind == "input_audio":
        audio = field(part, "input_audio")
        sound = word(audio)  # Mistral
        if sound is not None:
            return _reference("audio", sound)
        mime_type = f"audio/{word(field(audio, 'format')) or 'unknown'}"
        return {**blob_of_base64(mime_type, word(field(audio, "data")) or ""), "modality": "audio"}
    if kind == "document_url":  # Mistral
        return _reference("file", word(field(part, "document_url")) or "")
    if kind in {"file", "input_file"}:
        file = field(part, "file")
        file = part if file is None else file
        data = word(field(file, "file_data")) or word(field(file, "file_url"))
        return _reference("file", data) if data else _file("file", field(file, "file_id"))
    return {"type": kind or "custom", "content": part}


def _reference(modality: str, url: str) -> Part:
    if url.startswith("data:"):
        return {**blob_of_url(url), "modality": modality}
    if "://" not in url[:16]:  # bare base64
        return {**blob_of_base64(modality, url), "modality": modality}
    return {"type": "uri", "uri": url, "modality": modality}


def _file(modality: str, file_id: Any) -> Part:
    return {"type": "file", "file_id": file_id, "modality": modality}


def of_items(value: Any) -> list[Message]:
    """The `input` argument of the Responses API: text or a list of items."""
    text = word(value)
    if text is not None:
        return [{"role": "user", "parts": [text_part(text)]}]
    return [_item(item) for item in items(value)]


def parts_of_item(item: Any) -> list[Part]:
    """The parts of one output item."""
    return _item(item)["parts"]


def of_output(parts: list[Part], finish_reason: str | None) -> list[Message]:
    """The output of a response: one assistant message with the parts of all its items."""
    return [{"role": "assistant", "parts": parts, "finish_reason": finish_reason or ""}] if parts else []


def _item(item: Any) -> Message:
    kind = word(field(item, "type"))
    if kind in {None, "message"}:
        return {"role": word(field(item, "role")) or "assistant", "parts": _contents(field(item, "content"))}
    if kind in {"function_call", "custom_tool_call"}:
        arguments = field(item, "arguments")
        called = field(item, "input") if arguments is None else arguments
        return _by("assistant", tool_call_part(field(item, "call_id"), field(item, "name"), called))
    if kind in _TOOL_OUTPUTS:
        output = field(item, "output")
        response = [_content(part) for part in items(output)] or output
        return _by("tool", {"type": "tool_call_response", "id": field(item, "call_id"), "response": response})
    if kind == "reasoning":
        texts = [*items(field(item, "summary")), *items(field(item, "content"))]
        return _by("assistant", *({"type": "reasoning", "content": field(text, "text")} for text in texts))
    if kind == "image_generation_call":
        image = word(field(item, "result"))
        return _by("assistant", *([{**blob_of_base64("image", image), "modality": "image"}] if image else []))
    if kind in _SERVER_TOOLS:
        name = word(field(item, "name")) or kind.removesuffix("_call")
        return _by(
            "assistant", {"type": "server_tool_call", "id": field(item, "id"), "name": name, "server_tool_call": item}
        )
    return _by("assistant", {"type": kind or "custom", "content": item})


def _by(role: str, *parts: Part) -> Message:
    return {"role": role, "parts": list(parts)}


def output_type(response_format: Any, modalities: Any = None) -> str | None:
    """`speech`, `json` or `text`, as `modalities` and `response_format` ask; a class to parse into is `json`."""
    if "audio" in (words(modalities) or ()):
        return "speech"
    if response_format is None:
        return None
    return "text" if word(field(response_format, "type")) == "text" else "json"


def finish_of_response(answer: Any) -> str | None:
    """Why a response ended, in the words of the convention; None while it runs."""
    status = word(field(answer, "status"))
    if status == "incomplete":
        reason = word(field(field(answer, "incomplete_details"), "reason")) or "length"
        return "length" if reason == "max_output_tokens" else reason
    if status == "failed":
        return "error"
    if status != "completed":
        return None
    calls = {"function_call", "custom_tool_call"}
    return "tool_call" if any(word(field(item, "type")) in calls for item in items(field(answer, "output"))) else "stop"
