"""vLLM's outputs: requests in process as far as they have come, and what its OpenAI-compatible server adds to answers.

Times in the engine's statistics are monotonic seconds, except the arrival, which is wall time. 0 means "not reached".
Without statistics (`disable_log_stats`, the default of `LLM`) they stay unknown.
"""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.values import count, field, items, word

_STAGES = (
    (semconv.LATENCY_TIME_IN_QUEUE, "queued_ts", "scheduled_ts"),
    (semconv.LATENCY_TIME_IN_PREFILL, "scheduled_ts", "first_token_ts"),
    (semconv.LATENCY_TIME_IN_DECODE, "first_token_ts", "last_token_ts"),
    (semconv.LATENCY_TIME_IN_INFERENCE, "scheduled_ts", "last_token_ts"),
)


def _read_stats(call: Call, stats: Any) -> None:
    """Engine times of one sequence, in seconds."""
    for attribute, begin, end in _STAGES:
        began_s, ended_s = field(stats, begin), field(stats, end)
        if began_s and ended_s:
            call.set(attribute, ended_s - began_s)
    call.set(semconv.LATENCY_TIME_TO_FIRST_TOKEN, field(stats, "first_token_latency") or None)


def _read_input(call: Call, output: Any, *, is_single: bool) -> None:
    """Id and input counts of a request; the cache is told of one sequence, so it is unknown where there are more."""
    call.set(semconv.REQUEST_ID, word(field(output, "request_id")))
    tokens = field(output, "prompt_token_ids")
    call.set(semconv.USAGE_INPUT_TOKENS, None if tokens is None else len(tokens))
    if is_single:
        call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, count(field(output, "num_cached_tokens")))
        call.set(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count(field(output, "num_cache_creation_tokens")))


class _Sequence:
    """One completion of a request as far as it has come."""

    __slots__ = ("count", "finish_reason", "text")

    def __init__(self) -> None:
        self.count = 0
        self.text: list[str] = []
        self.finish_reason: str | None = None


class Completions:
    """The outputs of one request: `RequestOutput`s that add up (`is_delta`) or each tell the whole so far."""

    def __init__(
        self, keep_content: bool, *, is_delta: bool = False, is_stream: bool = False, wants_prompt: bool = True
    ) -> None:
        self._keep = keep_content
        self._wants_prompt = wants_prompt
        self._is_delta = is_delta
        self._is_stream = is_stream
        self._sequences: dict[int, _Sequence] = {}
        self._last: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one output; True where it brings tokens of a stream."""
        self._last = chunk
        grown = False
        for output in items(field(chunk, "outputs")):
            sequence = self._sequences.get(output.index)
            if sequence is None:
                sequence = self._sequences[output.index] = _Sequence()
            count = len(output.token_ids) + (sequence.count if self._is_delta else 0)
            grown = grown or count > sequence.count
            sequence.count = count
            sequence.finish_reason = output.finish_reason or sequence.finish_reason
            if self._keep:
                if not self._is_delta:
                    sequence.text.clear()
                sequence.text.append(output.text)
        return grown and self._is_stream

    def fill(self, call: Call) -> None:
        """Write what has come; how many tokens an unfinished request has made, only the engine knows."""
        last = self._last
        if last is None:
            return
        sequences = [sequence for _, sequence in sorted(self._sequences.items())]
        is_single = len(sequences) == 1
        _read_input(call, last, is_single=is_single)
        if field(last, "finished") is True:
            call.set(semconv.USAGE_OUTPUT_TOKENS, sum(sequence.count for sequence in sequences))
        if is_single:
            _read_stats(call, field(last, "metrics"))
        call.set(semconv.RESPONSE_FINISH_REASONS, [s.finish_reason for s in sequences if s.finish_reason] or None)
        if self._keep:
            prompt = word(field(last, "prompt"))
            if prompt and self._wants_prompt:
                call.set_messages(semconv.INPUT_MESSAGES, [_message("user", prompt)])
            call.set_messages(semconv.OUTPUT_MESSAGES, [m for s in sequences if (m := _answer(s))])


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _answer(sequence: _Sequence) -> dict[str, Any] | None:
    text = "".join(sequence.text)
    return {**_message("assistant", text), "finish_reason": sequence.finish_reason or ""} if text else None


class Pooled:
    """The output of one embedding request."""

    def __init__(self) -> None:
        self._last: Any = None

    def add(self, chunk: Any) -> bool:
        """Take the output; it is no stream."""
        self._last = chunk
        return False

    def fill(self, call: Call) -> None:
        """Write the counts and the vector's size."""
        if self._last is None:
            return
        _read_input(call, self._last, is_single=True)
        outputs = field(self._last, "outputs")
        vector, shape = field(outputs, "embedding"), field(field(outputs, "data"), "shape")
        if isinstance(vector, list):
            call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(vector))  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(shape, tuple) and len(shape) == 1:  # pyright: ignore[reportUnknownArgumentType]
            call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, int(shape[0]))  # pyright: ignore[reportUnknownArgumentType]
