"""What language models on Triton name their tensors, and what the values mean: request fields, messages, counts, times.

One reader for every way in: the clients' tensors and the JSON of `/generate` come here as `Values`, flat lists by name.
Names: TensorRT-LLM's models, the vLLM backend, and Python backends that follow them; `triton_tensors` adds others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.content import blob_of_base64
from limelight.guard import warn_once
from limelight.values import count, number, words
from limelight.wire import parse

Values = dict[str, list[Any]]
"""The elements of each tensor, flat; strings are `str`, where they are UTF-8."""
PROVIDER = "triton"
OPERATION = "text_completion"
INFERENCE = "inference"
"""The `limelight.kind` of a request in which nothing is text: a model, but not one of language."""

_NAMES: dict[str, tuple[str, ...]] = {
    "input_text": ("text_input", "input_text", "INPUT_TEXT", "prompt", "PROMPT", "QUERY"),
    "input_ids": ("input_ids", "INPUT_ID"),
    "image": ("image",),
    "image_url": ("image_url_input",),
    "sampling_parameters": ("sampling_parameters", "SAMPLING_PARAMETERS"),
    "max_tokens": ("max_tokens", "request_output_len", "REQUEST_OUTPUT_LEN", "max_new_tokens"),
    "temperature": ("temperature", "TEMPERATURE"),
    "top_p": ("top_p", "runtime_top_p", "TOP_P"),
    "top_k": ("top_k", "runtime_top_k", "TOP_K"),
    "seed": ("random_seed", "seed", "SEED"),
    "stop": ("stop_words", "stop", "STOP_WORDS"),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "choice_count": ("num_return_sequences", "n"),
    "stream": ("stream", "streaming", "STREAM"),
    "exclude_input": ("exclude_input_in_output",),
    "output_text": ("text_output", "output_text", "OUTPUT_TEXT", "generated_text", "GENERATED_TEXT"),
    "finish_reason": ("finish_reason", "FINISH_REASON"),
    "input_tokens": ("num_input_tokens",),
    "output_tokens": ("num_output_tokens", "num_token_ids"),
    "output_tokens_total": (),
    "sequence_length": ("sequence_length",),
    "batch_index": ("batch_index",),
    "sequence_index": ("sequence_index",),
    "arrival_ns": ("arrival_time_ns",),
    "first_scheduled_ns": ("first_scheduled_time_ns",),
    "first_token_ns": ("first_token_time_ns",),
    "last_token_ns": ("last_token_time_ns",),
}
"""Field -> tensor names, the first present one counts. `output_tokens` are new since the response before (so both known
backends count); `output_tokens_total`, for a model that counts from the start, is taken as it was last."""


_TIMES = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "last_token_ns")
_SHORT_FLOATS = frozenset({"FP16", "BF16", "FP32"})


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """The tensor names in force."""

    of: Mapping[str, tuple[str, ...]]
    wanted: frozenset[str]
    """All of them: no other tensor is read."""
    stamps: frozenset[str]
    """Those of times since 1970 in nanoseconds, which a float of 32 bits cannot hold."""

    def wants(self, name: str, datatype: str) -> bool:
        """Whether to read a tensor."""
        return name in self.wanted and not (name in self.stamps and datatype in _SHORT_FLOATS)

    def find(self, values: Values, field: str) -> list[Any]:
        """The values of a field, or none."""
        for name in self.of[field]:
            if values.get(name):
                return values[name]
        return []

    def one(self, values: Values, field: str) -> Any:
        """The value of a field that is the same in every row of the batch, or None."""
        found = self.find(values, field)
        return found[0] if found and all(value == found[0] for value in found) else None


@functools.lru_cache(maxsize=8)
def names_of(given: tuple[tuple[str, tuple[str, ...]], ...] = ()) -> Names:
    """The known names with those of the setting `triton_tensors` before them."""
    of = dict(_NAMES)
    for field, tensors in given:
        if field in of:
            of[field] = (*tensors, *of[field])
        else:
            warn_once(f"triton_tensors {field}", "triton_tensors: %r is none of %s", field, ", ".join(_NAMES))
    stamps = frozenset(name for field in _TIMES for name in of[field])
    return Names(of, frozenset(name for tensors in of.values() for name in tensors), stamps)


def text(value: Any) -> str | None:
    """A string element; bytes as UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


def texts(values: list[Any]) -> list[str]:
    """The string elements of a tensor."""
    return [found for value in values if (found := text(value)) is not None]


def flat(values: Mapping[Any, Any], names: Names) -> Values:
    """The wanted ones of plain JSON values, each as a list."""
    return {
        key: value if isinstance(value, list) else [value]
        for key, value in values.items()
        if key in names.wanted and value is not None
    }


def with_sampling(values: Values, names: Names) -> Values:
    """The vLLM backend's one JSON string of sampling parameters taken apart; tensors of their own come before it."""
    given = text(names.one(values, "sampling_parameters"))
    inner = parse(given) if given is not None else None
    return {**flat(inner, names), **values} if isinstance(inner, dict) else values


def is_language(values: Values, names: Names) -> bool:
    """Whether the request is for text: a text tensor, or token ids with a number of tokens to generate."""
    if texts(names.find(values, "input_text")):
        return True
    return bool(names.find(values, "input_ids") and names.find(values, "max_tokens"))


def request_fields(values: Values, names: Names) -> dict[str, Any]:
    """Attributes of the request; what differs between rows of a batch is left out."""
    choices = _number(names.one(values, "choice_count"))
    return {
        semconv.REQUEST_MAX_TOKENS: _number(names.one(values, "max_tokens")),
        semconv.REQUEST_TEMPERATURE: _number(names.one(values, "temperature")),
        semconv.REQUEST_TOP_P: _number(names.one(values, "top_p")),
        semconv.REQUEST_TOP_K: _number(names.one(values, "top_k")),
        semconv.REQUEST_SEED: _number(names.one(values, "seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: _number(names.one(values, "frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: _number(names.one(values, "presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: words(texts(names.find(values, "stop"))),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.REQUEST_STREAM: True if names.one(values, "stream") is True else None,
    }


def _number(value: Any) -> int | float | None:
    """A number; also of a string, as request parameters may be (the vLLM backend takes `{"temperature": "0"}`)."""
    if isinstance(value, (str, bytes)):
        try:
            value = float(value)
        except ValueError:
            return None
    return None if isinstance(value, float) and not math.isfinite(value) else number(value)


def input_messages(values: Values, names: Names) -> list[dict[str, Any]]:
    """One user message a prompt; images belong to the last."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "parts": [{"type": "text", "content": prompt}]}
        for prompt in texts(names.find(values, "input_text"))
    ]
    images: list[dict[str, Any]] = [
        {**blob_of_base64("image", image), "modality": "image"} for image in texts(names.find(values, "image"))
    ]
    images += [{"type": "uri", "uri": uri, "modality": "image"} for uri in texts(names.find(values, "image_url"))]
    if images and messages:
        messages[-1]["parts"] += images
    return messages


class Answers:
    """The responses to one request: one, or many of a decoupled model."""

    def __init__(self, names: Names, keep_content: bool, request: Values, model: str | None, *, language: bool) -> None:
        self.names = names
        self._keep = keep_content
        self._model = model
        self._is_language = self._was_language = language
        self._input_excluded = names.one(request, "exclude_input") is True
        self._text: dict[tuple[Any, ...], list[str]] = {}
        self._reasons: dict[tuple[Any, ...], str] = {}
        self._input: dict[Any, int] = {}
        self._output: int | None = None
        self._total: int | None = None
        self._length: int | None = None
        self._times: dict[str, int] = {}
        self._head: tuple[str | None, str | None] = (None, None)

    @property
    def is_finished(self) -> bool:
        """Whether the model said why it ended."""
        return bool(self._reasons)

    def head(self, model: str | None, version: str | None) -> None:
        """Note which model answered; "" (a final flag alone carries no version) leaves what is known."""
        self._head = (model or self._head[0], version or self._head[1])

    def take(self, values: Values, *, has_outputs: bool) -> bool:
        """Take one response; True where it carries content: text that is not empty, else any output."""
        find = self.names.find
        row = (self.names.one(values, "batch_index"), self.names.one(values, "sequence_index"))
        answer = texts(find(values, "output_text"))
        for index, piece in enumerate(answer):
            pieces = self._text.setdefault((*row, index), [])
            if self._keep and piece:
                pieces.append(piece)
        for index, reason in enumerate(texts(find(values, "finish_reason"))):
            if reason not in {"", "None"}:  # what the vLLM backend writes while it goes on
                self._reasons[(*row, index)] = reason
        self._count(values, row[0])
        for field in _TIMES:
            stamp = self.names.one(values, field)
            if isinstance(stamp, (int, float)) and stamp > 0:
                self._times[field] = int(stamp)
        self._is_language = self._is_language or bool(answer) or self._output is not None
        return any(answer) if answer else has_outputs

    def _count(self, values: Values, batch: Any) -> None:
        """Counts of the prompt come with every response of a row; of the answer, those since the one before."""
        find = self.names.find
        given = _sum(find(values, "input_tokens"))
        if given is not None:
            self._input[batch] = given
        self._output = _plus(self._output, _sum(find(values, "output_tokens")))
        self._length = _plus(self._length, _sum(find(values, "sequence_length")))
        total = _sum(find(values, "output_tokens_total"))
        self._total = self._total if total is None else total

    def fill(self, call: Call) -> None:
        """Write what has come."""
        model, version = self._head
        call.set(semconv.RESPONSE_MODEL, model)
        call.set(semconv.TRITON_MODEL_VERSION, version)
        if not self._is_language:
            call.set(semconv.LIMELIGHT_KIND, INFERENCE)
            return
        if not self._was_language:  # only the answer told
            call.set(semconv.OPERATION_NAME, OPERATION)
            call.span.update_name(f"{OPERATION} {self._model or model}")
        call.set(semconv.USAGE_INPUT_TOKENS, sum(self._input.values()) if self._input else None)
        call.set(semconv.USAGE_OUTPUT_TOKENS, self._output_tokens())
        reasons = [self._reasons[key] for key in sorted(self._reasons, key=_row)]
        call.set(semconv.RESPONSE_FINISH_REASONS, reasons or None)
        for attribute, first, last in _SPANS_OF_TIME:
            self._time(call, attribute, first, last)
        if self._keep:
            call.set_messages(semconv.OUTPUT_MESSAGES, [self._message(key) for key in sorted(self._text, key=_row)])

    def _output_tokens(self) -> int | None:
        if self._total is not None:
            return self._total
        # TensorRT-LLM's length counts the prompt too, unless the request excluded it
        return self._length if self._output is None and self._input_excluded else self._output

    def _time(self, call: Call, attribute: str, first: str, last: str) -> None:
        start, end = self._times.get(first), self._times.get(last)
        if start is not None and end is not None and end >= start:
            call.set(attribute, (end - start) / 1e9)

    def _message(self, key: tuple[Any, ...]) -> dict[str, Any]:
        part = {"type": "text", "content": "".join(self._text[key])}
        return {"role": "assistant", "parts": [part], "finish_reason": self._reasons.get(key, "")}


_SPANS_OF_TIME = (
    (semconv.LATENCY_TIME_IN_QUEUE, "arrival_ns", "first_scheduled_ns"),
    (semconv.LATENCY_TIME_IN_PREFILL, "first_scheduled_ns", "first_token_ns"),
    (semconv.LATENCY_TIME_TO_FIRST_TOKEN, "arrival_ns", "first_token_ns"),
    (semconv.LATENCY_TIME_IN_DECODE, "first_token_ns", "last_token_ns"),
    (semconv.LATENCY_TIME_IN_INFERENCE, "first_scheduled_ns", "last_token_ns"),
    (semconv.LATENCY_E2E, "arrival_ns", "last_token_ns"),
)
"""TensorRT-LLM's stamps (ns) as the times between them."""


def _row(key: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(part if isinstance(part, int) else 0 for part in key)


def _sum(values: list[Any]) -> int | None:
    """The counts of all rows together; None where there is none."""
    counts = [known for value in values if (known := count(value)) is not None]
    return sum(counts) if counts else None


def _plus(sofar: int | None, more: int | None) -> int | None:
    return sofar if more is None else more + (sofar or 0)
