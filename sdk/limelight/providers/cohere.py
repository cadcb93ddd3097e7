"""Cohere's library (5.0 to 7.x): chat, embed, rerank and generate, of both versions of the API.

Clients bind `chat` to themselves when they are made, so what answers whole is wrapped one level below, in the raw
clients, where the library has them (5.16). Tokens are the billed ones: `usage.tokens` counts what is not paid for too.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, model_call
from limelight.providers import cohere_messages as messages
from limelight.providers import openai_messages
from limelight.providers.cohere_streams import ChatEvents, LegacyChatEvents
from limelight.providers.hosts import of_address
from limelight.stream import relay, relay_async
from limelight.values import count, field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_VECTORS = ("float_", "int8", "uint8")
"""Where an embedding has one value a dimension; bits and base64 are packed."""


def _given(value: Any) -> Any:
    """The value, or None for the library's "not given" mark."""
    return None if value is ... else value


def _start(
    recorder: Recorder, client: Any, operation: str, kwargs: dict[str, Any], attributes: dict[str, Any] | None = None
) -> Call:
    address = client._client_wrapper.get_base_url()  # noqa: SLF001  the client has no public word for its address
    where = of_address(address, otherwise="cohere")
    return model_call(recorder, operation, word(kwargs.get("model")), {**where, **(attributes or {})})


def _start_text(
    recorder: Recorder, client: Any, operation: str, kwargs: dict[str, Any], is_stream: bool = False
) -> Call:
    choices = count(kwargs.get("num_generations"))
    attributes = {
        semconv.REQUEST_STREAM: True if is_stream else None,
        semconv.REQUEST_MAX_TOKENS: count(kwargs.get("max_tokens")),
        semconv.REQUEST_TEMPERATURE: number(kwargs.get("temperature")),
        semconv.REQUEST_TOP_P: number(kwargs.get("p")),
        semconv.REQUEST_TOP_K: count(kwargs.get("k")),
        semconv.REQUEST_SEED: count(kwargs.get("seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: number(kwargs.get("frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: number(kwargs.get("presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: words(kwargs.get("stop_sequences")),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.CONVERSATION_ID: word(kwargs.get("conversation_id")),
        semconv.OUTPUT_TYPE: openai_messages.output_type(_given(kwargs.get("response_format"))),
    }
    return _start(recorder, client, operation, kwargs, attributes)


def _start_chat(
    is_stream: bool, recorder: Recorder, client: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    call = _start_text(recorder, client, "chat", kwargs, is_stream)
    if call.records_content:
        is_legacy = "message" in kwargs
        preamble = word(kwargs.get("preamble"))
        call.set_messages(semconv.SYSTEM_INSTRUCTIONS, [openai_messages.text_part(preamble)] if preamble else [])
        given = messages.of_legacy(kwargs) if is_legacy else messages.of_chat(kwargs.get("messages"))
        call.set_messages(semconv.INPUT_MESSAGES, given)
        call.set_value(semconv.TOOL_DEFINITIONS, items(kwargs.get("tools")) or None, as_json=True)
        documents = messages.of_documents(kwargs.get("documents"))
        call.set_value(semconv.RETRIEVAL_DOCUMENTS, documents or None, as_json=True)
    return call


def _start_generate(recorder: Recorder, client: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start_text(recorder, client, "text_completion", kwargs)
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, openai_messages.of_prompt(kwargs.get("prompt")))
    return call


def _start_embed(recorder: Recorder, client: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    attributes = {
        semconv.EMBEDDINGS_DIMENSION_COUNT: count(kwargs.get("output_dimension")),
        semconv.REQUEST_ENCODING_FORMATS: words(kwargs.get("embedding_types")),
    }
    call = _start(recorder, client, "embeddings", kwargs, attributes)
    if call.records_content:
        given = next((found for name in ("texts", "images", "inputs") if (found := items(kwargs.get(name)))), None)
        call.set_value(semconv.LIMELIGHT_INPUT, given)
    return call


def _start_rerank(recorder: Recorder, client: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, client, "rerank", kwargs, {semconv.RETRIEVAL_TOP_K: count(kwargs.get("top_n"))})
    call.set_value(semconv.RETRIEVAL_QUERY_TEXT, word(kwargs.get("query")))
    return call


def _read_chat(call: Call, answer: Any, _kwargs: dict[str, Any]) -> None:
    events = (
        LegacyChatEvents(call.records_content) if field(answer, "message") is None else ChatEvents(call.records_content)
    )
    events.whole(answer)
    events.fill(call)


def _read_generate(call: Call, answer: Any, _kwargs: dict[str, Any]) -> None:
    call.set(semconv.RESPONSE_ID, word(field(answer, "id")))
    messages.read_usage(call, field(answer, "meta"))
    texts = [word(field(generation, "text")) or "" for generation in items(field(answer, "generations"))]
    reasons = [word(field(generation, "finish_reason")) for generation in items(field(answer, "generations"))]
    call.set(semconv.RESPONSE_FINISH_REASONS, [reason for reason in reasons if reason] or None)
    if call.records_content:
        written = [{"role": "assistant", "parts": [openai_messages.text_part(text)]} for text in texts]
        call.set_messages(semconv.OUTPUT_MESSAGES, written)


def _read_embed(call: Call, answer: Any, _kwargs: dict[str, Any]) -> None:
    messages.read_usage(call, field(answer, "meta"))
    vectors = field(answer, "embeddings")
    for found in (vectors, *(field(vectors, name) for name in _VECTORS)):
        if items(found):
            call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(items(items(found)[0])) or None)
            return


def _read_rerank(call: Call, answer: Any, kwargs: dict[str, Any]) -> None:
    """A rerank is billed in search units, not in tokens."""
    call.set(semconv.RESPONSE_ID, word(field(answer, "id")))
    call.set(semconv.LIMELIGHT_SEARCH_UNITS, count(field(field(field(answer, "meta"), "billed_units"), "search_units")))
    if call.records_content:
        ranked = messages.ranked(field(answer, "results"), kwargs.get("documents"))
        call.set_value(semconv.RETRIEVAL_DOCUMENTS, ranked or None, as_json=True)


def _finish(read: Any, events: Any, call: Call, result: Any, kwargs: dict[str, Any], _asked: bool) -> Any:
    """Read the answer, which raw clients hold in an envelope; a stream is wrapped by a generator of its own kind."""
    if inspect.isgenerator(result):
        return relay(result, call, events(call.records_content))
    if inspect.isasyncgen(result):
        return relay_async(result, call, events(call.records_content))
    read(call, result.data if hasattr(type(result), "data") else result, kwargs)
    call.stop()
    return None


def _observed(start: Any, read: Any, events: Any = None) -> Any:
    finish = functools.partial(_finish, read, events)
    return functools.partial(wrap, operation=Operation("cohere", start, finish, mutes=HTTP | {"cohere"}))


_CHAT = _observed(functools.partial(_start_chat, False), _read_chat)
_CHAT_STREAM = _observed(functools.partial(_start_chat, True), _read_chat, ChatEvents)
_LEGACY_STREAM = _observed(functools.partial(_start_chat, True), _read_chat, LegacyChatEvents)
_EMBED = _observed(_start_embed, _read_embed)
_RERANK = _observed(_start_rerank, _read_rerank)
_GENERATE = _observed(_start_generate, _read_generate)
_OWNERS = (
    (("cohere.raw_base_client", "RawBaseCohere"), {"chat": _CHAT, "generate": _GENERATE, "rerank": _RERANK}),
    (("cohere.base_client", "BaseCohere"), {"chat_stream": _LEGACY_STREAM}),
    # not the base's: the batches it makes run in threads of its own, and the user asked once
    (("cohere.client", "Client"), {"embed": _EMBED}),
    (("cohere.v2.raw_client", "RawV2Client"), {"chat": _CHAT, "embed": _EMBED, "rerank": _RERANK}),
    (("cohere.v2.client", "V2Client"), {"chat_stream": _CHAT_STREAM}),
)
_BEFORE_RAW_CLIENTS = {
    "RawBaseCohere": ("cohere.base_client", "BaseCohere"),
    "RawV2Client": ("cohere.v2.client", "V2Client"),
}


def instrument(patches: Patches, _module: ModuleType) -> None:
    """Wrap both versions' methods, synchronous and asynchronous, where the library has them."""
    for where, methods in _OWNERS:
        module, owner = where if _exists(where[0]) else _BEFORE_RAW_CLIENTS.get(where[1], where)
        if not _exists(module):  # version 2 of the API came with 5.6
            continue
        for prefix in ("", "Async"):
            for name, observed in methods.items():
                patches.replace(getattr(importlib.import_module(module), f"{prefix}{owner}"), name, observed)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor does its package
        return False
