"""The chunks of OpenAI's streams: what they add up to, whole or cut short."""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.content import field
from limelight.providers import openai_answers as answers
from limelight.providers.openai_messages import tool_call_part


class _Choice:
    """One choice as far as it has arrived."""

    __slots__ = ("finish_reason", "reasoning", "refusal", "role", "text", "tools")

    def __init__(self) -> None:
        self.role = "assistant"
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None

    def message(self) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for kind, pieces in (("reasoning", self.reasoning), ("text", self.text), ("refusal", self.refusal)):
            if pieces:
                parts.append({"type": kind, "content": "".join(pieces)})
        for _, tool in sorted(self.tools.items()):
            parts.append(tool_call_part(tool["id"], tool["name"], "".join(tool["arguments"])))
        return {"role": self.role, "parts": parts, "finish_reason": self.finish_reason or ""}


class ChatChunks:
    """Chunks of a streamed chat completion."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._choices: dict[int, _Choice] = {}
        self._head: Any = None
        self._tier: Any = None
        self._usage: Any = None
        self._timings: Any = None
        self._index = 0
        self._text_of: list[str] | None = None
        """Where the text of choice `_index` goes; a list nobody reads where content is not kept."""

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries text, reasoning, a refusal or a piece of a tool call."""
        choices: Any = chunk.choices
        # nearly every chunk: one choice, the same as before, with text and nothing else
        if self._text_of is not None and len(choices) == 1 and choices[0].index == self._index and chunk.usage is None:
            delta = choices[0].delta
            text = delta.content
            if text and not (choices[0].finish_reason or delta.tool_calls or delta.refusal or delta.__pydantic_extra__):
                self._text_of.append(text)
                return True
        return self._add(chunk)

    def _add(self, chunk: Any) -> bool:
        if self._head is None or not field(self._head, "id"):
            self._head = chunk
        self._usage = field(chunk, "usage") or self._usage
        self._tier = field(chunk, "service_tier") or self._tier
        self._timings = field(chunk, "timings") or self._timings
        content = False
        for choice in chunk.choices or ():
            seen = self._choices.get(choice.index)
            if seen is None:
                seen = self._choices[choice.index] = _Choice()
            seen.finish_reason = choice.finish_reason or seen.finish_reason
            if choice.delta is not None and self._delta(seen, choice.delta):
                content = True
            self._index, self._text_of = choice.index, seen.text if self._keep else []
        return content

    def _delta(self, seen: _Choice, delta: Any) -> bool:
        text = delta.content
        reasoning = field(delta, "reasoning_content") or field(delta, "reasoning")
        refusal = field(delta, "refusal")
        seen.role = field(delta, "role") or seen.role
        if self._keep:
            for piece, pieces in ((text, seen.text), (reasoning, seen.reasoning), (refusal, seen.refusal)):
                if piece and isinstance(piece, str):
                    pieces.append(piece)
        for tool in field(delta, "tool_calls") or ():
            self._tool(seen, tool)
        return bool(text or reasoning or refusal or field(delta, "tool_calls"))

    def _tool(self, seen: _Choice, tool: Any) -> None:
        if not self._keep:
            return
        known = seen.tools.setdefault(tool.index or 0, {"id": None, "name": None, "arguments": []})
        function = tool.function
        known["id"] = tool.id or known["id"]
        known["name"] = field(function, "name") or known["name"]
        if piece := field(function, "arguments"):
            known["arguments"].append(piece)

    def fill(self, call: Call) -> None:
        """Write what has arrived; without the last chunk, usage stays unknown."""
        answers.read_head(call, self._head)
        call.set(semconv.OPENAI_RESPONSE_SERVICE_TIER, self._tier)
        answers.read_usage(call, self._usage)
        answers.read_timings(call, self._timings)
        choices = [choice for _, choice in sorted(self._choices.items())]
        call.set(semconv.RESPONSE_FINISH_REASONS, [c.finish_reason for c in choices if c.finish_reason] or None)
        if self._keep:
            call.set_messages(semconv.OUTPUT_MESSAGES, [choice.message() for choice in choices])


_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.audio.delta",
    }
)


class ResponseEvents:
    """Events of a streamed response: the last one carries the whole; before it, what the deltas add up to."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._text: list[str] = []
        self._head: Any = None
        self._whole: Any = None
        self._error: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it is a delta of content."""
        kind = chunk.type
        if kind in _DELTAS:
            if self._keep and kind == "response.output_text.delta":
                self._text.append(chunk.delta)
            return True
        if kind in {"response.completed", "response.incomplete", "response.failed"}:
            self._whole = chunk.response
        elif kind == "response.created":
            self._head = chunk.response
        elif kind == "error":
            self._error = chunk
        return False

    def fill(self, call: Call) -> None:
        """Write the whole response, or what has arrived of it."""
        if self._whole is not None:
            answers.read_response(call, self._whole)
            return
        answers.read_head(call, self._head)
        if self._text:
            part = {"type": "text", "content": "".join(self._text)}
            call.set_messages(semconv.OUTPUT_MESSAGES, [{"role": "assistant", "parts": [part], "finish_reason": ""}])
        if self._error is not None:
            call.refuse(str(field(self._error, "code") or "error"), str(field(self._error, "message") or ""))
