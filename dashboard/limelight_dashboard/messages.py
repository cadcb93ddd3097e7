"""What was said: messages as text, never as Markdown or HTML, because prompts and answers are untrusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from limelight_dashboard.format import UNKNOWN, compact, cost, label, nanoseconds
from limelight_dashboard.trace_math import Node

_LONG = 20_000
_MOST_CALLS = 60
Message = Mapping[str, Any]


def conversation(nodes: Sequence[Node]) -> None:
    """Every span of a trace that carries words, in order of the tree."""
    speaking = [node for node in nodes if has_content(node.row)]
    if not speaking:
        st.markdown(":material/speaker_notes_off: No span of this trace carries messages; capture may be off.")
    for node in speaking[:_MOST_CALLS]:
        row = node.row
        with st.container(border=True):
            st.markdown(
                f"**{label(node.name)}** :gray[{label(_numbers(node))}]" + (" · :red[⨯ error]" if node.is_error else "")
            )
            of_span(row)
    if len(speaking) > _MOST_CALLS:
        st.caption(f"The first {_MOST_CALLS} of {len(speaking)} spans with messages; choose a span for the others.")


def _numbers(node: Node) -> str:
    words = [node.kind, nanoseconds(node.duration_ns)]
    if node.row.get("input_tokens") is not None or node.row.get("output_tokens") is not None:
        tokens_in, tokens_out = compact(node.row.get("input_tokens")), compact(node.row.get("output_tokens"))
        words += [f"{tokens_in} in", f"{tokens_out} out", cost(node.row.get("cost_usd"))]
    return " · ".join(words)


def has_content(row: Mapping[str, Any]) -> bool:
    """Whether a span carries any words to show."""
    names = (
        "system_instructions",
        "input_messages",
        "output_messages",
        "input_text",
        "output_text",
        "tool_args",
        "tool_result",
        "retrieval_query",
    )
    return any(row.get(name) for name in names)


def of_span(row: Mapping[str, Any]) -> None:
    """One span's words: system, input, output; then tool and retrieval fields."""
    asked: Sequence[Message] = row.get("input_messages") or []
    # The column also gathers system messages of the input, which are shown in their place.
    if row.get("system_instructions") and not any(said.get("role") in {"system", "developer"} for said in asked):
        _say("system", row["system_instructions"])
    for message in asked:
        _message(message)
    for message in row.get("output_messages") or []:
        _message(message, is_output=True)
    for name, title in (
        ("tool_args", "tool arguments"),
        ("tool_result", "tool result"),
        ("retrieval_query", "retrieval query"),
    ):
        if row.get(name):
            _say(title, row[name])
    for place, document in enumerate(row.get("retrieval_documents") or [], 1):
        score = document.get("score") if isinstance(document, dict) else None
        _say(f"document {place}" + (f" · score {score:.3g}" if isinstance(score, int | float) else ""), document)
    if not row.get("input_messages") and row.get("input_text"):
        _say("input", row["input_text"])
    if not row.get("output_messages") and row.get("output_text"):
        _say("output", row["output_text"])


def _message(message: Message, *, is_output: bool = False) -> None:
    role = str(message.get("role") or ("assistant" if is_output else "user"))
    reason = message.get("finish_reason")
    cut = " · cut off at the token limit" if reason in {"length", "max_tokens"} else ""
    parts = message.get("parts")
    if parts is None:
        parts = [{"type": "text", "content": message.get("content")}]
    for part in parts if isinstance(parts, list) else [parts]:
        kind, body = _part(part)
        _say(f"{role}{f' · {kind}' if kind else ''}{cut}", body)


def _part(part: Any) -> tuple[str, Any]:
    """(what it is beyond text, its words) of one message part of the GenAI conventions."""
    if not isinstance(part, dict):
        return "", part
    kind = str(part.get("type") or "")
    if kind == "text":
        return "", part.get("content")
    if kind == "tool_call":
        return f"calls {part.get('name') or 'a tool'}", part.get("arguments")
    if kind == "tool_call_response":
        return "tool result", part.get("response", part.get("result"))
    return kind, part.get("content", {key: value for key, value in part.items() if key != "type"})


def _say(who: str, body: Any) -> None:
    st.caption(label(who))
    if body is None or body == "":
        st.text(UNKNOWN)
        return
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=1, default=str)
    st.code(text[:_LONG], language=None, wrap_lines=True)
    if len(text) > _LONG:
        st.caption(f"{len(text) - _LONG:,} more characters: see Raw")
