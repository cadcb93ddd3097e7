"""Prompts and answers as messages of the GenAI conventions: `[{role, parts: [{type, …}]}]`, whatever they came as.

Schema: open-telemetry/semantic-conventions-genai, "GenAI messages". Providers' requests and responses (OpenAI chat and
responses, Anthropic, Gemini, Bedrock, Ollama) and frameworks' messages (LangChain, Vercel, OpenInference) are read by
their shape; the pieces of a message in parts.py.
"""

from __future__ import annotations

from typing import Any

from limelight_collector.attributes import loads, parsed
from limelight_collector.parts import Part, read_part, tool_call, tool_response

Message = dict[str, Any]

_SYSTEM_ROLES = frozenset({"system", "developer"})
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool", "AIMessageChunk": "assistant"}
_MESSAGE_CLASSES = {"Human": "user", "AI": "assistant", "System": "system", "Tool": "tool", "Function": "tool"}
_ITEMS = frozenset({"message", "function_call", "function_call_output", "reasoning"})
_CALLED = frozenset({"function_call", "reasoning"})


def read_messages(value: Any, role: str, *, is_sure: bool = True) -> list[Message] | None:
    """The messages in an attribute (an array, or the JSON text of one), or None. `role` is the default.

    `is_sure`: the attribute can hold nothing else, so whatever is in it is a message; otherwise each item must look
    like one.
    """
    found = loads(value) if isinstance(value, str) else value
    try:
        items = _unwrap(found)
        if items is None or not (is_sure or all(_looks_like_message(item) for item in items)):
            return None
        return _read(items, role) or None
    except RecursionError:
        return None


def read_instructions(value: Any) -> str:
    """System instructions (parts, messages or plain text) as one text."""
    found = parsed(value)
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        return ""
    return "\n".join(filter(None, (_text_of(item) for item in found)))


def request_instructions(value: Any) -> str:
    """The instructions beside the messages of a provider's request: `system`, `instructions`, `systemInstruction`."""
    found = loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        return ""
    keys = ("system", "instructions", "systemInstruction", "system_instruction")
    given = next((found[key] for key in keys if found.get(key)), None)
    return "" if given is None else read_instructions(given)


def system_text(messages: list[Message]) -> str:
    """The text of the system and developer messages."""
    return "\n".join(filter(None, (_text_of(message) for message in messages if message["role"] in _SYSTEM_ROLES)))


def tool_calls(messages: list[Message]) -> list[dict[str, Any]]:
    """`[{id, name, arguments}]` of every tool call in the messages."""
    return [
        {"id": part.get("id"), "name": part.get("name"), "arguments": part.get("arguments")}
        for message in messages
        for part in message["parts"]
        if part.get("type") == "tool_call"
    ]


def finish_reasons(messages: list[Message]) -> list[str]:
    """The finish reasons that are told on output messages."""
    return [reason for message in messages if isinstance(reason := message.get("finish_reason"), str) and reason]


def tool_names(value: Any) -> list[str]:
    """Names in a list of tool definitions: the conventions', OpenAI's, or JSON texts of either."""
    found = parsed(value)
    if not isinstance(found, list):
        return []
    names: list[str] = []
    for item in map(_definition, found):
        if isinstance(item, dict):
            function = item.get("function")
            name = item.get("name") or (function.get("name") if isinstance(function, dict) else None)
            if isinstance(name, str):
                names.append(name)
    return names


def _definition(item: Any) -> Any:
    found = parsed(item)
    if isinstance(found, dict) and isinstance(tool := found.get("tool"), dict):  # OpenInference: tool.json_schema
        return parsed(tool.get("json_schema"))
    return found


# -- where the messages are --------------------------------------------------------------------------------------------
def _unwrap(found: Any) -> list[Any] | None:
    """The list of messages in a request, a response or a list; None where there is none."""
    if isinstance(found, list):
        while len(found) == 1 and isinstance(found[0], list):  # LangChain: a batch of conversations
            found = found[0]
        return found or None
    if not isinstance(found, dict):
        return None
    for key in ("messages", "contents"):
        if isinstance(inner := found.get(key), list):
            return _unwrap(inner)
    if isinstance(choices := found.get("choices"), list):
        return [_choice(choice) for choice in choices if isinstance(choice, dict)] or None
    if isinstance(candidates := found.get("candidates"), list):
        return [_candidate(candidate) for candidate in candidates if isinstance(candidate, dict)] or None
    if isinstance(generations := found.get("generations"), list):
        return _generations(generations)
    if isinstance(items := found.get("output"), list) and found.get("object") == "response":
        return [{"type": "message", "status": found.get("status"), "items": items}]
    if asked := _asked(found):
        return asked
    if isinstance(inner := found.get("message"), dict) and ("done" in found or "done_reason" in found):
        return [{**inner, "finish_reason": found.get("done_reason")}]
    return [found]


def _asked(found: dict[str, Any]) -> list[Any] | None:
    """The input of OpenAI's responses API, or the prompt of Vercel's functions."""
    given = found.get("input") if "model" in found or "instructions" in found else None
    if given is None and found.keys() <= {"prompt", "system"}:
        given = found.get("prompt")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return given if isinstance(given, list) else None


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    inner = choice.get("message")
    message = inner if isinstance(inner, dict) else {"content": choice.get("text")}
    return {"role": "assistant", **message, "finish_reason": choice.get("finish_reason")}


def _candidate(candidate: dict[str, Any]) -> dict[str, Any]:
    inner = candidate.get("content")
    message = inner if isinstance(inner, dict) else {"parts": []}
    return {**message, "finish_reason": candidate.get("finishReason") or candidate.get("finish_reason")}


def _generations(generations: list[Any]) -> list[Any] | None:
    """LangChain's result: lists of `{text, message, generation_info}`."""
    flat = [item for group in generations for item in (group if isinstance(group, list) else [group])]
    found: list[Any] = []
    for item in flat:
        if isinstance(item, dict):
            info = item.get("generation_info")
            reason = info.get("finish_reason") if isinstance(info, dict) else None
            message = item.get("message")
            body = message if isinstance(message, dict) else {"role": "assistant", "content": item.get("text")}
            found.append({**body, "finish_reason": reason})
    return found or None


def _looks_like_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("role"), str) or isinstance(item.get("parts"), list) or "items" in item:
        return True
    if isinstance(item.get("message"), dict) or _class_role(item):
        return True
    kind = _kind(item)
    return kind in _ITEMS or (kind in _ROLES and "content" in item)


# -- one message -------------------------------------------------------------------------------------------------------
def _read(items: list[Any], role: str) -> list[Message]:
    found: list[Message] = []
    for item in items:
        message = _message(item, role)
        if found and isinstance(item, dict) and _kind(item) in _ITEMS and found[-1]["role"] == message["role"]:
            found[-1]["parts"] += message["parts"]  # the pieces of one turn in OpenAI's responses API
        else:
            found.append(message)
    return found


def _message(item: Any, role: str) -> Message:
    if not isinstance(item, dict):
        return {"role": role, "parts": [read_part(item)]}
    if tuple(item) in _PLAIN_KEYS and _is_plain(item):
        return {**item, "parts": [*item["parts"]]}
    if isinstance(inner := item.get("message"), dict):  # OpenInference
        item = {**inner, **({"finish_reason": item["finish_reason"]} if item.get("finish_reason") else {})}
    told = _class_role(item)
    if told:
        inner = item.get("kwargs", item.get("data"))
        item = {
            **(inner if isinstance(inner, dict) else item),
            "role": told,
            "finish_reason": item.get("finish_reason"),
        }
    if isinstance(items := item.get("items"), list):
        return _response(item, items)
    given = item.get("role") or _item_role(item) or role
    message: Message = {"role": _ROLES.get(str(given), str(given))}
    parts = item.get("parts")
    message["parts"] = _from_parts(item, parts) if isinstance(parts, list) else _from_content(item)
    if item.get("name") is not None and _kind(item) not in _ITEMS:
        message["name"] = item["name"]
    reason = item.get("finish_reason") or item.get("stop_reason")
    if reason is not None:
        message["finish_reason"] = reason
    return message


_PLAIN_KEYS = {("role", "parts"), ("role", "parts", "finish_reason")}


def _is_plain(item: dict[str, Any]) -> bool:
    """Whether a message of the conventions' own keys is one of theirs through and through: nothing but texts."""
    role, parts = item["role"], item["parts"]
    if not isinstance(role, str) or not role or role in _ROLES or not isinstance(parts, list):
        return False
    if "finish_reason" in item and not (isinstance(item["finish_reason"], str) and item["finish_reason"]):
        return False
    return all(
        isinstance(part, dict)
        and tuple(part) == ("type", "content")
        and part["type"] == "text"
        and isinstance(part["content"], str)
        for part in parts
    )


def _class_role(item: dict[str, Any]) -> str | None:
    """The role in a LangChain message: its class (`id: [… "HumanMessage"]`) or its `type`."""
    path = item.get("id")
    if isinstance(path, list) and path and isinstance(item.get("kwargs"), dict):
        name = str(path[-1]).partition("Message")[0]
        return _MESSAGE_CLASSES.get(name)
    kind = item.get("type")
    if "role" in item or not isinstance(kind, str) or not ("content" in item or "data" in item):
        return None
    return {**_ROLES, "system": "system", "tool": "tool"}.get(kind)


def _kind(item: dict[str, Any]) -> str:
    """What an item says it is; "" where it does not say it in a word."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else ""


def _item_role(item: dict[str, Any]) -> str | None:
    kind = _kind(item)
    return "assistant" if kind in _CALLED else "tool" if kind == "function_call_output" else None


def _response(item: dict[str, Any], items: list[Any]) -> Message:
    """The items of OpenAI's responses API as one answer."""
    parts = [part for inner in items for part in _message(inner, "assistant")["parts"]]
    message: Message = {"role": "assistant", "parts": parts}
    if item.get("status") is not None:
        message["finish_reason"] = item["status"]
    return message


def _from_parts(item: dict[str, Any], parts: list[Any]) -> list[Part]:
    """The parts as they are; LiteLLM tells tool calls, and whose answer it is, beside them."""
    found = [read_part(part) for part in parts]
    if item.get("tool_call_id") is not None:
        return [tool_response(item["tool_call_id"], _text_of({"parts": found}))]
    if isinstance(calls := item.get("tool_calls"), list):
        said = [part for part in found if part != {"type": "text", "content": ""}]
        return _without_twins(said + [_called(call) for call in calls if isinstance(call, dict)])
    return found


def _from_content(item: dict[str, Any]) -> list[Part]:
    if _kind(item) in _ITEMS - {"message"}:
        return [read_part(item)]
    content = item.get("content")
    call_id = item.get("tool_call_id") or (item.get("tool_name") if item.get("role") == "tool" else None)
    if call_id is not None or _is_answer(item, content):
        return [tool_response(call_id, content)]
    thoughts = (item.get(key) for key in ("reasoning_content", "thinking"))
    parts: list[Part] = [{"type": "reasoning", "content": text} for text in thoughts if isinstance(text, str) and text]
    parts += [read_part(part) for part in _pieces(item, content)]
    calls = item.get("tool_calls")
    parts += [_called(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if isinstance(function := item.get("function_call"), dict):
        parts.append(tool_call(function))
    refusal = item.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append({"type": "refusal", "content": refusal})
    return _without_twins(parts)


def _is_answer(item: dict[str, Any], content: Any) -> bool:
    """Whether this is what a tool answered, though to no call: Ollama's have no id."""
    return item.get("role") == "tool" and isinstance(content, str) and not content.startswith("[{")


def _pieces(item: dict[str, Any], content: Any) -> list[Any]:
    """The parts in `content`; text that is the JSON of parts (Traceloop, Vercel) is read as parts."""
    if isinstance(contents := item.get("contents"), list):  # OpenInference
        return [_content_piece(piece) for piece in contents]
    if isinstance(content, str) and content.startswith("[{"):
        listed = loads(content)
        if isinstance(listed, list) and all(isinstance(part, dict) and "type" in part for part in listed):
            return listed
    return content if isinstance(content, list) else [content] if content not in (None, "") else []


def _content_piece(piece: Any) -> Any:
    if not isinstance(piece, dict):
        return piece
    if isinstance(call := piece.get("tool_call"), dict):  # Anthropic's tool_use
        return _called(call)
    inner = piece.get("message_content")
    if not isinstance(inner, dict):
        return piece
    image = inner.get("image")
    if isinstance(image, dict):
        nested = image.get("image")
        return {"type": "image_url", "image_url": (nested if isinstance(nested, dict) else image).get("url")}
    return inner


def _called(call: dict[str, Any]) -> Part:
    inner = call.get("tool_call")
    return tool_call(inner if isinstance(inner, dict) else call)


def _without_twins(parts: list[Part]) -> list[Part]:
    """Each tool call once: LangChain tells it in the content and beside it."""
    seen: set[str] = set()
    kept: list[Part] = []
    for part in parts:
        call_id = part.get("id") if part.get("type") == "tool_call" else None
        if isinstance(call_id, str):
            if call_id in seen:
                continue
            seen.add(call_id)
        kept.append(part)
    return kept


def _text_of(item: Any) -> str:
    """Text of a part, or of a message's text parts."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return ""
    if isinstance(item.get("parts"), list):
        return "\n".join(filter(None, map(_text_of, item["parts"])))
    content = item.get("content", item.get("text"))
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of, content)))
    return content if isinstance(content, str) and item.get("type", "text") == "text" else ""
