"""The events of Cohere's streamed chats, of both versions of the API: what they add up to, whole or cut short."""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.providers import cohere_messages as messages
from limelight.providers.openai_messages import text_part, tool_call_part
from limelight.values import count, field, items, word


class ChatEvents:
    """Events of version 2, each about one content part or one tool call by its index."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._id: str | None = None
        self._reason: str | None = None
        self._error: str | None = None
        self._usage: Any = None
        self._message: Any = None
        self._plan: list[str] = []
        self._contents: dict[int, tuple[str, list[str]]] = {}
        self._tools: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it carries text, thinking, a plan or a piece of a tool call."""
        kind = word(field(chunk, "type"))
        delta = field(chunk, "delta")
        message = field(delta, "message")
        index = count(field(chunk, "index")) or 0
        if kind in {"content-start", "content-delta"}:
            return self._content(index, field(message, "content"))
        if kind == "tool-plan-delta":
            self._plan.append(word(field(message, "tool_plan")) or "")
            return True
        if kind in {"tool-call-start", "tool-call-delta"}:
            self._tool(index, field(message, "tool_calls"))
            return True
        if kind == "message-start":
            self._id = word(field(chunk, "id"))
        elif kind == "message-end":
            self._reason = word(field(delta, "finish_reason"))
            self._usage = field(delta, "usage")
            self._error = word(field(delta, "error"))
        return False

    def _content(self, index: int, content: Any) -> bool:
        for kind, name in (("text", "text"), ("reasoning", "thinking")):
            piece = word(field(content, name))
            if piece:
                if self._keep:
                    self._contents.setdefault(index, (kind, []))[1].append(piece)
                return True
        return False

    def _tool(self, index: int, called: Any) -> None:
        if not self._keep:
            return
        function = field(called, "function")
        known = self._tools.setdefault(index, {"id": None, "name": None, "arguments": []})
        known["id"] = word(field(called, "id")) or known["id"]
        known["name"] = word(field(function, "name")) or known["name"]
        known["arguments"].append(word(field(function, "arguments")) or "")

    def whole(self, answer: Any) -> None:
        """Take an answer that is no stream."""
        self._id = word(field(answer, "id"))
        self._reason = word(field(answer, "finish_reason"))
        self._usage = field(answer, "usage")
        self._message = field(answer, "message")

    def _parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if self._plan:
            parts.append({"type": "reasoning", "content": "".join(self._plan)})
        parts += [{"type": kind, "content": "".join(pieces)} for _, (kind, pieces) in sorted(self._contents.items())]
        for _, tool in sorted(self._tools.items()):
            parts.append(tool_call_part(tool["id"], tool["name"], "".join(tool["arguments"])))
        return parts

    def fill(self, call: Call) -> None:
        """Write what has arrived; without the last event, usage stays unknown."""
        call.set(semconv.RESPONSE_ID, self._id)
        call.set(semconv.RESPONSE_FINISH_REASONS, [self._reason] if self._reason else None)
        messages.read_usage(call, self._usage)
        if self._keep and self._message is not None:
            call.set_messages(semconv.OUTPUT_MESSAGES, [messages.of_answer(self._message, self._reason)])
        elif self._keep and (parts := self._parts()):
            said = {"role": "assistant", "parts": parts, "finish_reason": self._reason or ""}
            call.set_messages(semconv.OUTPUT_MESSAGES, [said])
        if self._error:
            call.refuse(self._reason or "ERROR", self._error)


class LegacyChatEvents:
    """Events of version 1: text, then the whole answer."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._id: str | None = None
        self._text: list[str] = []
        self._answer: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it carries text or tool calls."""
        kind = word(field(chunk, "event_type"))
        if kind == "stream-start":
            self._id = word(field(chunk, "generation_id"))
        elif kind == "stream-end":
            self.whole(field(chunk, "response"))
        elif kind == "text-generation":
            if self._keep:
                self._text.append(word(field(chunk, "text")) or "")
            return True
        return kind in {"tool-calls-chunk", "tool-calls-generation"}

    def whole(self, answer: Any) -> None:
        """Take the answer."""
        self._answer = answer
        self._id = word(field(answer, "response_id")) or word(field(answer, "generation_id")) or self._id

    def fill(self, call: Call) -> None:
        """Write the answer, or what has arrived of it."""
        reason = word(field(self._answer, "finish_reason"))
        call.set(semconv.RESPONSE_ID, self._id)
        call.set(semconv.RESPONSE_FINISH_REASONS, [reason] if reason else None)
        messages.read_usage(call, field(self._answer, "meta"))
        if not self._keep:
            return
        text = word(field(self._answer, "text")) or "".join(self._text)
        parts = [text_part(text)] if text else []
        parts += [messages.tool_call(called) for called in items(field(self._answer, "tool_calls"))]
        if parts:
            said = {"role": "assistant", "parts": parts, "finish_reason": reason or ""}
            call.set_messages(semconv.OUTPUT_MESSAGES, [said])
