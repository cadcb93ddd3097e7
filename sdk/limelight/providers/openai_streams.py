"""The chunks of OpenAI's streams, objects or parsed JSON: what they add up to, whole or cut short."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.content import blob
from limelight.providers import openai_answers as answers
from limelight.providers import openai_messages as messages
from limelight.providers import vllm_server
from limelight.values import count, field, is_model, items, reader, word


class _Choice:
    """One choice as far as it has arrived."""

    __slots__ = ("finish_reason", "function", "reasoning", "refusal", "role", "sound", "text", "tools")

    def __init__(self) -> None:
        self.role = "assistant"
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.sound: list[bytes] = []
        self.tools: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None

    def message(self) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for kind, pieces in (("reasoning", self.reasoning), ("text", self.text), ("refusal", self.refusal)):
            if pieces:
                parts.append({"type": kind, "content": "".join(pieces)})
        if self.sound:
            parts.append({**blob("audio", b"".join(self.sound)), "modality": "audio"})
        for _, tool in sorted(self.tools.items()):
            parts.append(messages.tool_call_part(tool["id"], tool["name"], "".join(tool["arguments"])))
        return {"role": self.role, "parts": parts, "finish_reason": self.finish_reason or ""}


def _is_text_alone(delta: Any) -> bool:
    """Whether a delta has nothing beside its content."""
    return not (delta.tool_calls or delta.refusal or delta.__pydantic_extra__)


class ChatChunks:
    """Chunks of a streamed chat completion, or of a completion, whose choices have text instead of deltas."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._choices: dict[int, _Choice] = {}
        self._head: Any = None
        self._tier: Any = None
        self._fingerprint: str | None = None
        self._usage: Any = None
        self._partial = 0
        """Chunks that carried content and usage: the usage so far, of one choice (vLLM)."""
        self._timings: Any = None
        self._metrics: Any = None
        self.keeps_usage = False
        """Whether the server sends usage to everyone (vLLM's `--enable-force-include-usage`): not ours to hide."""
        self._error: Any = None
        self._index = 0
        self._kind: type | None = None
        """The model that chunks are of, once a choice has begun."""
        self._text_of: list[str] = []
        """Where the text of choice `_index` goes; a list nobody reads where content is not kept."""

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries text, reasoning, a refusal, sound or a piece of a tool call."""
        # nearly every chunk: a model with one choice, the same as before, with text and nothing else
        if type(chunk) is self._kind:
            try:
                told = chunk.__dict__  # a model's attributes are slow, and this is the first to ask for them
                (choice,) = told["choices"]
                said = choice.__dict__
                delta = said["delta"]
                text = delta.__dict__["content"]
                goes_on = text and type(text) is str and said["index"] == self._index and said["finish_reason"] is None
                is_alone = len(delta.__pydantic_fields_set__) == 1 or _is_text_alone(delta)
                if goes_on and is_alone and told["usage"] is None:
                    self._text_of.append(text)
                    return True
            except (AttributeError, LookupError, TypeError, ValueError):  # an odd chunk, built without validation
                pass
        return self._add(chunk)

    def _add(self, chunk: Any) -> bool:
        told = reader(chunk)
        if self._head is None or not field(self._head, "id"):
            self._head = chunk
        self._fingerprint = word(told("system_fingerprint")) or self._fingerprint
        choices = items(told("choices"))
        usage = told("usage") or field(told("x_groq"), "usage")
        if usage is not None:
            self._usage = usage
            is_last = not choices
            self.keeps_usage = is_last and self._partial > 1 and (self._fingerprint or "").startswith("vllm-")
            self._partial = 0 if is_last else self._partial + 1
        self._tier = word(told("service_tier")) or self._tier
        self._timings = told("timings") or self._timings
        self._metrics = told("metrics") or self._metrics
        self._error = told("error") or self._error
        content = False
        for choice in choices:
            index = count(field(choice, "index")) or 0
            seen = self._choices.get(index)
            if seen is None:
                seen = self._choices[index] = _Choice()
            seen.finish_reason = word(field(choice, "finish_reason")) or seen.finish_reason
            delta = field(choice, "delta")
            if delta is None:
                content = self._text(seen.text, field(choice, "text")) or content
                continue
            content = self._delta(seen, delta) or content
            self._index, self._text_of = index, seen.text if self._keep else []
            self._kind = type(chunk) if is_model(chunk) else None
        return content

    def _text(self, pieces: list[str], piece: Any) -> bool:
        if self._keep and piece and type(piece) is str:
            pieces.append(piece)
        return bool(piece)

    def _delta(self, seen: _Choice, delta: Any) -> bool:
        told = reader(delta)
        seen.role = word(told("role")) or seen.role
        carries = self._text(seen.text, told("content"))
        carries |= self._text(seen.reasoning, told("reasoning_content") or told("reasoning"))
        carries |= self._text(seen.refusal, told("refusal"))
        carries |= self._sound(seen, told("audio"))
        for tool in items(told("tool_calls")):
            self._tool(seen, count(field(tool, "index")) or 0, tool, field(tool, "function") or field(tool, "custom"))
            carries = True
        function = told("function_call")
        if function is not None:
            self._tool(seen, 0, None, function)
        return carries or function is not None

    def _sound(self, seen: _Choice, audio: Any) -> bool:
        """What is said, and the sound itself: each piece is base64 of its own."""
        if audio is None:
            return False
        data = word(field(audio, "data"))
        if self._keep and data:
            with contextlib.suppress(ValueError):  # what is no base64 is no sound
                seen.sound.append(base64.b64decode(data))
        return self._text(seen.text, field(audio, "transcript")) or bool(data)

    def _tool(self, seen: _Choice, index: int, tool: Any, called: Any) -> None:
        if not self._keep:
            return
        known = seen.tools.setdefault(index, {"id": None, "name": None, "arguments": []})
        known["id"] = word(field(tool, "id")) or known["id"]
        known["name"] = word(field(called, "name")) or known["name"]
        if piece := word(field(called, "arguments")) or word(field(called, "input")):
            known["arguments"].append(piece)

    def fill(self, call: Call) -> None:
        """Write what has arrived; without the last chunk, usage stays unknown."""
        answers.read_head(call, self._head)
        call.set(semconv.OPENAI_RESPONSE_SERVICE_TIER, self._tier)
        call.set(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, self._fingerprint)
        vllm_server.recognise(call, {"system_fingerprint": self._fingerprint})
        if self._partial <= 1 or len(self._choices) == 1:
            answers.read_usage(call, self._usage)
        answers.read_timings(call, self._timings)
        vllm_server.read_metrics(call, self._metrics)
        choices = [choice for _, choice in sorted(self._choices.items())]
        call.set(semconv.RESPONSE_FINISH_REASONS, [c.finish_reason for c in choices if c.finish_reason] or None)
        if self._keep:
            call.set_messages(semconv.OUTPUT_MESSAGES, [choice.message() for choice in choices])
        if self._error is not None:
            answers.read_error(call, self._error)


_TEXTS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool_call",
    "response.custom_tool_call_input.delta": "tool_call",
    "response.audio.transcript.delta": "text",
}
"""Deltas of text, and the kind of part they build."""
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_OTHER_CONTENT = frozenset(
    {
        "response.audio.delta",
        "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
        "response.image_generation_call.partial_image",
    }
)


class ResponseEvents:
    """Events of a streamed response: the last one carries the whole; before it, what the others add up to."""

    def __init__(self, keep_content: bool, *, fetched: bool = False) -> None:
        self._keep = keep_content
        self._read = answers.read_fetched if fetched else answers.read_response
        self._head: Any = None
        self._whole: Any = None
        self._error: Any = None
        self._items: dict[int, Any] = {}
        """Output items as they began; the finished ones as they ended."""
        self._finished: set[int] = set()
        self._pieces: dict[tuple[int, str], list[str]] = {}
        """(output index, kind of part) -> text that has arrived."""

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it is a delta of content."""
        kind = word(field(chunk, "type")) or ""
        part = _TEXTS.get(kind)
        if part is not None:
            if self._keep:
                delta = word(field(chunk, "delta")) or ""
                self._pieces.setdefault((count(field(chunk, "output_index")) or 0, part), []).append(delta)
            return True
        if kind in _ENDS:
            self._whole = field(chunk, "response")
        elif kind == "response.created":
            self._head = field(chunk, "response")
        elif kind in {"response.output_item.added", "response.output_item.done"}:
            index = count(field(chunk, "output_index")) or 0
            self._items[index] = field(chunk, "item")
            if kind.endswith("done"):
                self._finished.add(index)
        elif kind == "error":
            self._error = field(chunk, "error") or chunk
        return kind in _OTHER_CONTENT

    def fill(self, call: Call) -> None:
        """Write the whole response, or what has arrived of it."""
        if self._whole is not None:
            self._read(call, self._whole)
            return
        answers.read_head(call, self._head)
        if self._keep:
            indexes = sorted({*self._finished, *(index for index, _ in self._pieces)})
            parts = [part for index in indexes for part in self._parts(index)]
            call.set_messages(semconv.OUTPUT_MESSAGES, messages.of_output(parts, None))
        if self._error is not None:
            answers.read_error(call, self._error)

    def _parts(self, index: int) -> list[dict[str, Any]]:
        item = self._items.get(index)
        if index in self._finished:
            return messages.parts_of_item(item)
        parts: list[dict[str, Any]] = []
        for (of_index, kind), pieces in self._pieces.items():
            text = "".join(pieces)
            if of_index == index and kind == "tool_call":
                parts.append(messages.tool_call_part(field(item, "call_id"), field(item, "name"), text))
            elif of_index == index:
                parts.append({"type": kind, "content": text})
        return parts
