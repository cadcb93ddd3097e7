"""Mistral's library (1.0 to 3.x): chat, agents, fill in the middle, embeddings; its Azure and Google clients too.

The library imports its parts when a client first uses them, so each part is waited for by itself. Where it makes spans
of its own for the same provider as ours (`telemetry=`), they are silent inside our calls.
"""

from __future__ import annotations

import functools
import inspect
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NoOpTracer

from limelight import call as calls
from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, model_call, muted
from limelight.guard import quiet
from limelight.providers import openai_answers as answers
from limelight.providers import openai_messages as messages
from limelight.providers.hosts import of_address
from limelight.providers.openai_streams import ChatChunks
from limelight.stream import follow, follow_async, relay, relay_async
from limelight.values import count, field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_CLOUDS = {"azure": "azure.ai.inference", "gcp": "gcp.vertex_ai"}
"""The word in a module's name that tells whose client it is, and who answers there."""


def _server(resource: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Provider and address: of this request where it names a server, else of the client."""
    module = type(resource).__module__
    provider = next((name for word_of, name in _CLOUDS.items() if word_of in module), None)
    address = word(kwargs.get("server_url")) or resource.sdk_configuration.get_server_details()[0]
    return of_address(address, provider, otherwise="mistral_ai")


def _given(value: Any) -> Any:
    """The value, or None for the library's "not given" mark."""
    return None if type(value).__name__ == "Unset" else value


def _start(recorder: Recorder, resource: Any, operation: str, kwargs: dict[str, Any], is_stream: bool = False) -> Call:
    choices = count(kwargs.get("n"))
    attributes = {
        **_server(resource, kwargs),
        semconv.REQUEST_STREAM: True if is_stream else None,
        semconv.REQUEST_MAX_TOKENS: count(kwargs.get("max_tokens")),
        semconv.REQUEST_TEMPERATURE: number(kwargs.get("temperature")),
        semconv.REQUEST_TOP_P: number(kwargs.get("top_p")),
        semconv.REQUEST_TOP_K: count(kwargs.get("top_k")),
        semconv.REQUEST_SEED: count(kwargs.get("random_seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: number(kwargs.get("frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: number(kwargs.get("presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: words(kwargs.get("stop")),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.REQUEST_REASONING_LEVEL: word(kwargs.get("reasoning_effort")),
        semconv.AGENT_ID: word(kwargs.get("agent_id")),
        semconv.OUTPUT_TYPE: messages.output_type(_given(kwargs.get("response_format"))),
    }
    return model_call(recorder, operation, word(kwargs.get("model")), attributes)


def _start_chat(
    is_stream: bool, recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    call = _start(recorder, resource, "chat", kwargs, is_stream)
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_chat(kwargs.get("messages")))
        call.set_value(semconv.TOOL_DEFINITIONS, items(kwargs.get("tools")) or None, as_json=True)
    return call


def _start_fim(
    is_stream: bool, recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    call = _start(recorder, resource, "text_completion", kwargs, is_stream)
    if call.records_content:
        parts = [messages.text_part(word(kwargs.get("prompt")) or "")]
        suffix = word(kwargs.get("suffix"))
        if suffix:
            parts.append({"type": "suffix", "content": suffix})
        call.set_messages(semconv.INPUT_MESSAGES, [{"role": "user", "parts": parts}])
    return call


def _start_embedding(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, resource, "embeddings", kwargs)
    call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, count(kwargs.get("output_dimension")))
    call.set(semconv.REQUEST_ENCODING_FORMATS, words(kwargs.get("encoding_format")))
    given = kwargs.get("inputs")
    call.set_value(semconv.LIMELIGHT_INPUT, word(given) or items(given) or None)
    return call


def _plain(answer: Any) -> dict[str, Any]:
    """An answer or chunk for the readers of OpenAI's shape. Usage has what was sent alone: absent counts are 0."""
    usage = field(answer, "usage")
    sent: Any = getattr(usage, "__pydantic_fields_set__", None)
    counts = usage if sent is None else {name: field(usage, name) for name in sent}
    return {name: field(answer, name) for name in ("id", "model", "choices", "data")} | {"usage": counts}


def _read_chat(call: Call, answer: Any) -> None:
    answers.read_chat(call, _plain(answer))


def _read_embedding(call: Call, answer: Any) -> None:
    """An embedding has no output: its count of it says nothing."""
    whole = _plain(answer)
    answers.read_embedding(call, {**whole, "usage": {"prompt_tokens": field(whole["usage"], "prompt_tokens")}})


class Events(ChatChunks):
    """The events of a stream: OpenAI's chunks but for content in parts, tool arguments as objects and ids `"null"`."""

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it carries text, reasoning or a piece of a tool call."""
        return self._add(_plain(field(chunk, "data")))

    def _delta(self, seen: Any, delta: Any) -> bool:
        carries = False
        for part in items(field(delta, "content")):
            for piece in items(field(part, "thinking")):
                carries |= self._text(seen.reasoning, word(field(piece, "text")))
            carries |= self._text(seen.text, word(field(part, "text")))
        return super()._delta(seen, delta) or carries

    def _text(self, pieces: list[str], piece: Any) -> bool:
        return super()._text(pieces, word(piece))

    def _tool(self, seen: Any, index: int, tool: Any, called: Any) -> None:
        call_id = word(field(tool, "id"))
        call_id = None if call_id == "null" else call_id
        while call_id and index in seen.tools and seen.tools[index]["id"] not in {None, call_id}:
            index += 1  # a server that leaves the index out: the library then says 0 of each
        arguments = field(called, "arguments")
        text = word(arguments)
        text = json.dumps(arguments) if text is None else text
        super()._tool(seen, index, {"id": call_id}, {"name": field(called, "name"), "arguments": text})


def _finish(read: Any, call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> Any:
    """Read the answer; follow a stream, which is an object since 1.2 and was a plain generator before."""
    if inspect.isgenerator(result):
        return relay(result, call, Events(call.records_content))
    if inspect.isasyncgen(result):
        return relay_async(result, call, Events(call.records_content))
    if hasattr(type(result), "__next__"):
        follow(result, result.response, call, Events(call.records_content), attribute="generator")
    elif hasattr(type(result), "__anext__"):
        follow_async(result, result.response, call, Events(call.records_content), attribute="generator")
    else:
        read(call, result)
        call.stop()
    return None


def _operation(start: Any, read: Any = _read_chat) -> Operation:
    return Operation("mistralai", start, functools.partial(_finish, read), mutes=HTTP | {"mistralai"})


_PARTS = {"Chat": _start_chat, "Agents": _start_chat, "Fim": _start_fim}
_SPANLESS = NoOpTracer()


def _sends_with_us(tracer: Any) -> bool:
    """Whether the library's spans would go where ours go."""
    recorder = calls.installed()
    ours = None if recorder is None else getattr(recorder.tracer, "span_processor", None)
    return ours is not None and getattr(tracer, "span_processor", None) is ours


def _hushed(original: Any) -> Any:
    """What starts the library's own span, told to use no tracer inside a call of ours: it then passes our span on."""

    @functools.wraps(original)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with quiet("silencing the library's own spans"):
            if "mistralai" in muted() and _sends_with_us(kwargs.get("tracer")):
                kwargs = {**kwargs, "tracer": _SPANLESS}
        return original(*args, **kwargs)

    return traced


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap what one part of the library has: its resource's methods, or the start of the library's own spans."""
    for owner, start in _PARTS.items():
        resource = vars(module).get(owner)
        if resource is None:
            continue
        for name in ("complete", "stream"):
            operation = _operation(functools.partial(start, name == "stream"))
            for method in (name, f"{name}_async"):
                patches.replace(resource, method, functools.partial(wrap, operation=operation))
    embeddings = vars(module).get("Embeddings")
    if embeddings is not None:
        operation = _operation(_start_embedding, _read_embedding)
        for method in ("create", "create_async"):
            patches.replace(embeddings, method, functools.partial(wrap, operation=operation))
    if hasattr(module, "TracingHook"):
        patches.replace(module, "get_traced_request_and_span", _hushed)
