"""Google's library (google-genai 1.0 to 3.x) on the Gemini API and Vertex AI: content, streams, chats, embeddings.

Wrapped are the private methods that make one request each. The public ones around them call the user's own functions
between requests (automatic function calling) and follow continuations: those must not run inside a span of one request.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight import semconv, wire
from limelight.around import Operation, wrap
from limelight.call import Call, Recorder, model_call
from limelight.providers import google_genai_parts as parts
from limelight.providers.google_genai_parts import named
from limelight.providers.hosts import of_address
from limelight.stream import relay, relay_async
from limelight.values import count, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches


def _server(models: Any, config: Any) -> dict[str, Any]:
    """Provider and address: of this request where it names a base address, else of the client."""
    client = models._api_client  # noqa: SLF001  the library has no public way from here to the client
    asked = word(named(named(config, "http_options"), "base_url"))
    address = asked or named(client._http_options, "base_url")  # noqa: SLF001
    return of_address(address, "gcp.vertex_ai" if client.vertexai else "gcp.gemini")


def _bare(model: Any) -> str | None:
    """`gemini-2.5-flash` of `models/…`, `google/…` and of a Vertex resource name; tuned models stay as they are."""
    name = word(model)
    if name is None:
        return None
    return name.rpartition("/models/")[2].removeprefix("models/").removeprefix("google/")


def _output_type(config: Any) -> str | None:
    kind = word(named(config, "response_mime_type"))
    if kind is not None:
        return "json" if kind == "application/json" else "text"
    wanted = words(named(config, "response_modalities")) or []
    return wanted[0].lower() if len(wanted) == 1 else None


def _start_generate(
    is_stream: bool, recorder: Recorder, models: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    config = kwargs.get("config")
    choices = count(named(config, "candidate_count"))
    attributes = {
        **_server(models, config),
        semconv.REQUEST_STREAM: True if is_stream else None,
        semconv.REQUEST_MAX_TOKENS: count(named(config, "max_output_tokens")),
        semconv.REQUEST_TEMPERATURE: number(named(config, "temperature")),
        semconv.REQUEST_TOP_P: number(named(config, "top_p")),
        semconv.REQUEST_TOP_K: count(named(config, "top_k")),
        semconv.REQUEST_SEED: count(named(config, "seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: number(named(config, "frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: number(named(config, "presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: words(named(config, "stop_sequences")),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.REQUEST_REASONING_LEVEL: parts.value_of(named(named(config, "thinking_config"), "thinking_level")),
        semconv.OUTPUT_TYPE: _output_type(config),
    }
    call = model_call(recorder, "generate_content", _bare(kwargs.get("model")), attributes)
    if call.records_content:
        call.set_messages(semconv.SYSTEM_INSTRUCTIONS, parts.of_instruction(named(config, "system_instruction")))
        call.set_messages(semconv.INPUT_MESSAGES, parts.of_contents(kwargs.get("contents")))
        call.set_value(semconv.TOOL_DEFINITIONS, parts.of_tools(named(config, "tools")) or None, as_json=True)
    return call


def _start_embed(recorder: Recorder, models: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    config = kwargs.get("config")
    attributes = {
        **_server(models, config),
        semconv.EMBEDDINGS_DIMENSION_COUNT: count(named(config, "output_dimensionality")),
    }
    call = model_call(recorder, "embeddings", _bare(kwargs.get("model")), attributes)
    names = ("contents", "content", "batch_contents")
    given = next((found for name in names if (found := kwargs.get(name)) is not None), None)
    if call.records_content:
        call.set_value(semconv.LIMELIGHT_INPUT, parts.of_embedded(given))
    return call


def _modality(usage: Any, names: tuple[str, ...], modality: str) -> int | None:
    """How many tokens of a modality the lists `names` count; None where none of them mentions it."""
    counts = [
        count(named(entry, "token_count"))
        for name in names
        for entry in items(named(usage, name))
        if parts.value_of(named(entry, "modality")) == modality
    ]
    known = [found for found in counts if found is not None]
    return sum(known) if known else None


_PROMPT_DETAILS = ("prompt_tokens_details", "tool_use_prompt_tokens_details")
_ANSWER_DETAILS = ("candidates_tokens_details",)
_MODALITIES = (
    ("TEXT", _PROMPT_DETAILS, semconv.USAGE_TEXT_INPUT_TOKENS),
    ("IMAGE", _PROMPT_DETAILS, semconv.USAGE_IMAGE_INPUT_TOKENS),
    ("AUDIO", _PROMPT_DETAILS, semconv.USAGE_AUDIO_INPUT_TOKENS),
    ("TEXT", _ANSWER_DETAILS, semconv.USAGE_TEXT_OUTPUT_TOKENS),
    ("IMAGE", _ANSWER_DETAILS, semconv.USAGE_IMAGE_OUTPUT_TOKENS),
    ("AUDIO", _ANSWER_DETAILS, semconv.USAGE_AUDIO_OUTPUT_TOKENS),
)


def _sum(usage: Any, *names: str) -> int | None:
    """The sum of the counts that are there; None where none is."""
    known = [found for name in names if (found := count(named(usage, name))) is not None]
    return sum(known) if known else None


def _read_usage(call: Call, usage: Any) -> None:
    """Google counts tool results apart from the prompt and thoughts apart from the answer; a prompt includes caches."""
    call.set(semconv.USAGE_INPUT_TOKENS, _sum(usage, "prompt_token_count", "tool_use_prompt_token_count"))
    call.set(semconv.USAGE_OUTPUT_TOKENS, _sum(usage, "candidates_token_count", "thoughts_token_count"))
    call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, count(named(usage, "cached_content_token_count")))
    call.set(semconv.USAGE_REASONING_OUTPUT_TOKENS, count(named(usage, "thoughts_token_count")))
    for modality, names, attribute in _MODALITIES:
        call.set(attribute, _modality(usage, names, modality))


def _read_answer(call: Call, answer: Any) -> None:
    """Fields of a whole answer: an object, or JSON as it came over the wire."""
    chunks = AnswerChunks(call.records_content)
    chunks.add(answer)
    chunks.fill(call)


def _read_embedding(call: Call, answer: Any) -> None:
    found = items(named(answer, "embeddings"))
    vector = named(found[0], "values") if found else None
    call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(items(vector)) or None)
    usage = named(answer, "usage_metadata")
    counted = [_sum(named(entry, "statistics"), "token_count") for entry in found]  # Vertex counts text by text
    known = [found for found in counted if found is not None]
    call.set(semconv.USAGE_INPUT_TOKENS, sum(known) if known else _sum(usage, "prompt_token_count"))


class AnswerChunks:
    """Chunks of a streamed answer, each shaped like a whole one; a whole one is a stream of one chunk."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._id: str | None = None
        self._model: str | None = None
        self._usage: Any = None
        self._blocked: str | None = None
        self._parts: dict[int, list[Any]] = {}
        self._reasons: dict[int, str] = {}

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries a part with content. Counts are of the whole so far: the last wins."""
        self._id = word(named(chunk, "response_id")) or self._id
        self._model = word(named(chunk, "model_version")) or self._model
        self._usage = named(chunk, "usage_metadata") or self._usage
        self._blocked = parts.value_of(named(named(chunk, "prompt_feedback"), "block_reason")) or self._blocked
        carries = False
        for position, candidate in enumerate(items(named(chunk, "candidates"))):
            index = count(named(candidate, "index"))
            index = position if index is None else index
            found = [part for part in items(named(named(candidate, "content"), "parts")) if parts.is_content(part)]
            carries = carries or bool(found)
            self._parts.setdefault(index, []).extend(found if self._keep else ())
            reason = parts.value_of(named(candidate, "finish_reason"))
            if reason is not None:
                self._reasons[index] = reason
        return carries

    def fill(self, call: Call) -> None:
        """Write what has arrived; a prompt that was refused has no candidates, and the refusal is the reason."""
        call.set(semconv.RESPONSE_ID, self._id)
        call.set(semconv.RESPONSE_MODEL, _bare(self._model))
        _read_usage(call, self._usage)
        reasons = [reason for _, reason in sorted(self._reasons.items())]
        call.set(semconv.RESPONSE_FINISH_REASONS, reasons or ([self._blocked] if self._blocked else None))
        if self._keep:
            messages = [
                parts.answer(found, self._reasons.get(index, ""))
                for index, found in sorted(self._parts.items())
                if found
            ]
            call.set_messages(semconv.OUTPUT_MESSAGES, messages)


def _finish(read: Any, call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> Any:
    """Read the answer, from its bytes where the user asked for those; a stream is wrapped by one of its own kind."""
    if inspect.isgenerator(result):
        return relay(result, call, AnswerChunks(call.records_content))
    if inspect.isasyncgen(result):
        return relay_async(result, call, AnswerChunks(call.records_content))
    body = word(named(named(result, "sdk_http_response"), "body"))
    read(call, result if body is None else wire.parse(body))
    call.stop()
    return None


def instrument(patches: Patches, models: ModuleType) -> None:
    """Wrap what makes one request each, in both classes of `google.genai.models`."""
    generate = Operation(
        "google_genai", functools.partial(_start_generate, False), functools.partial(_finish, _read_answer)
    )
    stream = Operation(
        "google_genai", functools.partial(_start_generate, True), functools.partial(_finish, _read_answer)
    )
    embed = Operation("google_genai", _start_embed, functools.partial(_finish, _read_embedding))
    for owner in (models.Models, models.AsyncModels):
        patches.replace(owner, "_generate_content", functools.partial(wrap, operation=generate))
        patches.replace(owner, "_generate_content_stream", functools.partial(wrap, operation=stream))
        one = "_embed_content" if hasattr(owner, "_embed_content") else "embed_content"  # the former is newer
        patches.replace(owner, one, functools.partial(wrap, operation=embed))
