"""Anthropic's answers, whole, streamed or parsed from raw bytes, to fields: usage, ids, stop reason, content.

Anthropic counts uncached, read and written input apart; ours is their sum. A stream's counts are running totals: each
event replaces what the one before said.
"""

from __future__ import annotations

from typing import Any

from limelight import semconv, wire
from limelight.call import Call
from limelight.providers import anthropic_messages as messages
from limelight.values import count, field, items, stored_fields, word

_WORDS = (
    ("service_tier", semconv.ANTHROPIC_RESPONSE_SERVICE_TIER),
    ("speed", semconv.LIMELIGHT_RESPONSE_SPEED),
    ("inference_geo", semconv.LIMELIGHT_INFERENCE_GEO),
)
_SERVER_TOOLS = (
    ("web_search_requests", semconv.LIMELIGHT_WEB_SEARCH_REQUESTS),
    ("web_fetch_requests", semconv.LIMELIGHT_WEB_FETCH_REQUESTS),
)
_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_FINAL = frozenset({"output_tokens", "output_tokens_details"})
"""What a stream knows only at its end; its start has a placeholder."""


def read_message(call: Call, message: Any) -> None:
    """Fields of a whole message (object or parsed JSON)."""
    _read_head(call, message)
    read_usage(call, field(message, "usage"))
    stop_reason = word(field(message, "stop_reason"))
    call.set(semconv.RESPONSE_FINISH_REASONS, [stop_reason] if stop_reason else None)
    if call.records_content:
        call.set_messages(semconv.OUTPUT_MESSAGES, messages.of_answer(field(message, "content"), stop_reason))


def _read_head(call: Call, message: Any) -> None:
    call.set(semconv.RESPONSE_ID, word(field(message, "id")) or None)
    call.set(semconv.RESPONSE_MODEL, word(field(message, "model")) or None)


def read_usage(call: Call, usage: Any) -> None:
    """Counts of a message; one that is absent stays unknown."""
    if usage is None:
        return
    read, written = count(field(usage, "cache_read_input_tokens")), count(field(usage, "cache_creation_input_tokens"))
    call.set(semconv.USAGE_INPUT_TOKENS, _input(usage))
    call.set(semconv.USAGE_OUTPUT_TOKENS, count(field(usage, "output_tokens")))
    call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, read)
    call.set(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, written)
    _read_cache_writes(call, field(usage, "cache_creation"), written)
    thinking = field(field(usage, "output_tokens_details"), "thinking_tokens")
    call.set(semconv.USAGE_REASONING_OUTPUT_TOKENS, count(thinking))
    for name, attribute in _SERVER_TOOLS:
        call.set(attribute, count(field(field(usage, "server_tool_use"), name)))
    for name, attribute in _WORDS:
        call.set(attribute, word(field(usage, name)))
    iterations = items(field(usage, "iterations"))
    compactions = [entry for entry in iterations if word(field(entry, "type")) == "compaction"]
    if compactions:
        call.set(semconv.ANTHROPIC_COMPACTION_INPUT_TOKENS, sum(_input(entry) or 0 for entry in compactions))
        outputs = (count(field(entry, "output_tokens")) or 0 for entry in compactions)
        call.set(semconv.ANTHROPIC_COMPACTION_OUTPUT_TOKENS, sum(outputs))


def _input(usage: Any) -> int | None:
    uncached, read, written = (count(field(usage, name)) for name in _INPUTS)
    return None if uncached is None else uncached + (read or 0) + (written or 0)


def _read_cache_writes(call: Call, split: Any, written: int | None) -> None:
    """The writes by lifetime; a stream's end may correct their sum without the split, which then says nothing."""
    short, long = (count(field(split, f"ephemeral_{name}_input_tokens")) for name in ("5m", "1h"))
    if written is None or (short or 0) + (long or 0) == written:
        call.set(semconv.ANTHROPIC_CACHE_WRITE_5M_INPUT_TOKENS, short)
        call.set(semconv.ANTHROPIC_CACHE_WRITE_1H_INPUT_TOKENS, long)


_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}
"""Deltas of content, and where theirs is."""
_STARTS_EMPTY = frozenset({"text", "thinking"})


class _Block:
    """One content block as far as it has arrived."""

    __slots__ = ("citations", "pieces", "start")

    def __init__(self, start: Any) -> None:
        self.start = start
        self.pieces: list[str] = []
        self.citations: list[Any] = []

    def block(self) -> Any:
        """The block that its pieces amount to."""
        kind = word(field(self.start, "type")) or "custom"
        text = "".join(self.pieces)
        if kind in _STARTS_EMPTY:
            return {"type": kind, kind: (word(field(self.start, kind)) or "") + text, "citations": self.citations}
        if not text:
            return self.start
        if not kind.endswith("tool_use"):
            return {"type": kind, "content": text}
        known = {name: field(self.start, name) for name in ("type", "id", "name", "server_name")}
        parsed = wire.parse(text)
        return {**known, "input": text if parsed is None else parsed}


class MessageEvents:
    """Events of a streamed message, objects or parsed JSON."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._head: Any = None
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._is_final = False
        self._error: Any = None
        self._blocks: dict[int, _Block] = {}

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it carries content: a piece of text, thinking or arguments, a tool's name."""
        kind = word(field(chunk, "type"))
        if kind == "content_block_delta":
            return self._delta(count(field(chunk, "index")) or 0, field(chunk, "delta"))
        if kind == "content_block_start":
            return self._start(count(field(chunk, "index")) or 0, field(chunk, "content_block"))
        if kind == "message_start":
            self._head = field(chunk, "message")
            self._count(field(self._head, "usage"))
        elif kind == "message_delta":
            self._is_final = True
            self._stop_reason = word(field(field(chunk, "delta"), "stop_reason")) or self._stop_reason
            self._count(field(chunk, "usage"))
        elif kind == "error":
            self._error = field(chunk, "error")
        return False

    def _start(self, index: int, start: Any) -> bool:
        if self._keep:
            self._blocks[index] = _Block(start)
        kind = word(field(start, "type")) or ""
        return kind not in _STARTS_EMPTY or bool(field(start, kind))

    def _delta(self, index: int, delta: Any) -> bool:
        kind = word(field(delta, "type")) or ""
        piece = field(delta, _DELTAS.get(kind, ""))
        block = self._blocks.get(index)
        if block is not None and type(piece) is str:
            block.pieces.append(piece)
        elif block is not None and kind == "citations_delta":
            block.citations.append(field(delta, "citation"))
        return bool(piece)

    def _count(self, usage: Any) -> None:
        known = usage if type(usage) is dict else stored_fields(usage) or {}
        self._usage.update({name: value for name, value in known.items() if value is not None})

    def fill(self, call: Call) -> None:
        """Write what has arrived; the output's count is known only from the last events."""
        _read_head(call, self._head)
        known = self._usage.items()
        read_usage(call, {name: value for name, value in known if self._is_final or name not in _FINAL} or None)
        call.set(semconv.RESPONSE_FINISH_REASONS, [self._stop_reason] if self._stop_reason else None)
        blocks = [block.block() for _, block in sorted(self._blocks.items())]
        call.set_messages(semconv.OUTPUT_MESSAGES, messages.of_answer(blocks, self._stop_reason))
        if self._error is not None:
            kind = word(field(self._error, "type")) or "error"
            call.refuse(kind, word(field(self._error, "message")) or "")
