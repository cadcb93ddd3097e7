"""Ollama's client (0.4+): chat, generate, embed, embeddings, systemone; of both clients and the module itself.

Durations come in nanoseconds and leave in seconds. A count that the server left out stays unknown: older servers omit
the prompt's count when it was cached.
"""

from __future__ import annotations

import functools
import inspect
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import Call, Recorder, model_call
from limelight.content import blob, blob_of_base64
from limelight.providers.functions import described
from limelight.providers.hosts import Server, server_of
from limelight.stream import relay, relay_async
from limelight.values import count, field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_NS = 1e9
_DEFAULT_PORT = 11434


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return kwargs.get(name, args[position] if len(args) > position else None)


def _start(recorder: Recorder, client: Any, operation: str, model: Any, kwargs: dict[str, Any]) -> Call:
    host, port = server_of(client if isinstance(client, Server) else client._client)  # noqa: SLF001  no public way
    options = kwargs.get("options")
    name = word(model) or None
    shape = kwargs.get("format")
    attributes: dict[str, Any] = {
        semconv.PROVIDER_NAME: "ollama",
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port or _DEFAULT_PORT,
        semconv.REQUEST_STREAM: True if kwargs.get("stream") is True else None,
        semconv.REQUEST_MAX_TOKENS: number(field(options, "num_predict")),
        semconv.REQUEST_TEMPERATURE: number(field(options, "temperature")),
        semconv.REQUEST_TOP_P: number(field(options, "top_p")),
        semconv.REQUEST_TOP_K: number(field(options, "top_k")),
        semconv.REQUEST_SEED: number(field(options, "seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: number(field(options, "frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: number(field(options, "presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: words(field(options, "stop")),
        semconv.REQUEST_REASONING_LEVEL: word(kwargs.get("think")),
        semconv.OUTPUT_TYPE: None if shape is None or word(shape) == "" else "json",
    }
    return model_call(recorder, operation, name, attributes)


def _start_chat(recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, client, "chat", _argument(args, kwargs, 0, "model"), kwargs)
    if call.records_content:
        messages = items(_argument(args, kwargs, 1, "messages"))
        call.set_messages(semconv.INPUT_MESSAGES, [_message(message) for message in messages])
        tools = items(kwargs.get("tools"))
        call.set_value(semconv.TOOL_DEFINITIONS, [_tool(tool) for tool in tools] or None, as_json=True)
    return call


def _start_generate(recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, client, "text_completion", _argument(args, kwargs, 0, "model"), kwargs)
    if call.records_content:
        system = word(kwargs.get("system"))
        if system:
            call.set_messages(semconv.SYSTEM_INSTRUCTIONS, [{"type": "text", "content": system}])
        prompt = {"role": "user", "content": _argument(args, kwargs, 1, "prompt"), "images": kwargs.get("images")}
        call.set_messages(semconv.INPUT_MESSAGES, [_message(prompt)])
    return call


def _start_embed(recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, client, "embeddings", _argument(args, kwargs, 0, "model"), kwargs)
    text = _argument(args, kwargs, 1, "input")
    call.set_value(semconv.LIMELIGHT_INPUT, _argument(args, kwargs, 1, "prompt") if text is None else text)
    return call


def _start_system_one(recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, client, "generate_content", _argument(args, kwargs, 0, "model"), kwargs)
    asked = {"state": _argument(args, kwargs, 1, "state"), "questions": _argument(args, kwargs, 2, "questions")}
    call.set_value(semconv.LIMELIGHT_INPUT, asked)
    return call


def _tool(tool: Any) -> Any:
    """A definition as it is; of a Python function its name and docstring."""
    function = described(tool)
    return tool if function is None else {"type": "function", "function": function}


def _message(message: Any) -> dict[str, Any]:
    role = word(field(message, "role")) or "assistant"
    content = field(message, "content")
    if role == "tool":
        name = word(field(message, "tool_name")) or word(field(message, "name"))
        return {"role": role, "parts": [{"type": "tool_call_response", "name": name, "response": content}]}
    parts: list[dict[str, Any]] = []
    for kind, text in (("reasoning", word(field(message, "thinking"))), ("text", word(content))):
        if text:
            parts.append({"type": kind, "content": text})
    parts += [_image(image) for image in items(field(message, "images"))]
    for tool_call in items(field(message, "tool_calls")):
        function = field(tool_call, "function")
        arguments = field(function, "arguments")
        parts.append({"type": "tool_call", "name": field(function, "name"), "arguments": arguments})
    return {"role": role, "parts": parts}


def _image(image: Any) -> dict[str, Any]:
    value = field(image, "value")
    value = image if value is None else value
    if type(value) is bytes:
        return {**blob("image", value), "modality": "image"}
    text = word(value) or ""
    if len(text) > 1024:  # base64; anything shorter is a path
        return {**blob_of_base64("image", text), "modality": "image"}
    return {"type": "uri", "uri": value, "modality": "image"}


def _read_counts(call: Call, answer: Any) -> None:
    call.set(semconv.RESPONSE_MODEL, word(field(answer, "model")) or None)
    call.set(semconv.USAGE_INPUT_TOKENS, count(field(answer, "prompt_eval_count")))
    call.set(semconv.USAGE_OUTPUT_TOKENS, count(field(answer, "eval_count")))
    call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, count(_extra(answer, "prompt_eval_cached_count")))
    for name, attribute in (
        ("load_duration", semconv.LIMELIGHT_LOAD_DURATION),
        ("prompt_eval_duration", semconv.LATENCY_TIME_IN_PREFILL),
        ("eval_duration", semconv.LATENCY_TIME_IN_DECODE),
        ("total_duration", semconv.LATENCY_E2E),
    ):
        duration_ns = number(field(answer, name))
        call.set(attribute, None if duration_ns is None else duration_ns / _NS)


def _extra(answer: Any, name: str) -> Any:
    """A field that newer servers send and the client's types may not know."""
    return field(answer, name) if field(answer, name) is not None else field(field(answer, "model_extra"), name)


def _read_answer(call: Call, answer: Any, message: dict[str, Any]) -> None:
    _read_counts(call, answer)
    reason = word(field(answer, "done_reason"))
    call.set(semconv.RESPONSE_FINISH_REASONS, [reason] if reason else None)
    if message["parts"]:
        call.set_messages(semconv.OUTPUT_MESSAGES, [{**message, "finish_reason": reason or ""}])


def _read_chat(call: Call, answer: Any) -> None:
    _read_answer(call, answer, _message(field(answer, "message")))


def _read_generate(call: Call, answer: Any) -> None:
    _read_answer(call, answer, _message(_as_message(answer)))


def _as_message(answer: Any) -> dict[str, Any]:
    """The text of a generate answer as the message it amounts to."""
    return {"content": field(answer, "response"), "thinking": field(answer, "thinking")}


def _read_embed(call: Call, answer: Any) -> None:
    _read_counts(call, answer)
    vectors = items(field(answer, "embeddings"))
    vector = items(vectors[0] if vectors else field(answer, "embedding"))
    call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(vector) or None)


def _read_system_one(call: Call, answer: Any) -> None:
    usage = field(answer, "usage")
    call.set(semconv.RESPONSE_MODEL, word(field(answer, "model")) or None)
    call.set(semconv.USAGE_INPUT_TOKENS, count(field(usage, "input_tokens")))
    call.set(semconv.USAGE_OUTPUT_TOKENS, count(field(usage, "output_tokens")))
    call.set_value(semconv.LIMELIGHT_OUTPUT, field(answer, "answers"), as_json=True)


class Chunks:
    """Chunks of a streamed chat or generate answer; the last has counts and durations."""

    def __init__(self, keep_content: bool) -> None:
        self._keep = keep_content
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._tool_calls: list[Any] = []
        self._last: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one chunk; True where it carries text, thinking or a tool call."""
        self._last = chunk
        message = field(chunk, "message") or _as_message(chunk)
        text, thinking = word(field(message, "content")), word(field(message, "thinking"))
        tools = items(field(message, "tool_calls"))
        if self._keep:
            self._text.append(text or "")
            self._thinking.append(thinking or "")
            self._tool_calls.extend(tools)
        return bool(text or thinking or tools)

    def fill(self, call: Call) -> None:
        """Write what has arrived; without the last chunk, counts stay unknown."""
        whole = {"content": "".join(self._text), "thinking": "".join(self._thinking), "tool_calls": self._tool_calls}
        _read_answer(call, self._last, _message(whole))


def _finish(read: Any, call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> Any:
    """Read the answer; a stream, which the client makes as a plain generator, is wrapped by one."""
    if inspect.isgenerator(result):
        return relay(result, call, Chunks(call.records_content))
    if inspect.isasyncgen(result):
        return relay_async(result, call, Chunks(call.records_content))
    read(call, result)
    call.stop()
    return None


OVER_HTTP = {
    "chat": (_start_chat, _read_chat, Chunks),
    "generate": (_start_generate, _read_generate, Chunks),
    "embed": (_start_embed, _read_embed, None),
}
"""The same over plain HTTP: what starts the call (of a `Server` and a body), reads the answer, takes chunks."""


def instrument(patches: Patches, ollama: ModuleType) -> None:
    """Wrap the generating methods of both clients and, bound to the default client, the module's functions."""
    for name, start, read in (
        ("chat", _start_chat, _read_chat),
        ("generate", _start_generate, _read_generate),
        ("embed", _start_embed, _read_embed),
        ("embeddings", _start_embed, _read_embed),
        ("systemone", _start_system_one, _read_system_one),
    ):
        observed = functools.partial(wrap, operation=Operation("ollama", start, functools.partial(_finish, read)))
        for client in (ollama.Client, ollama.AsyncClient):
            patches.replace(client, name, observed)
        patches.replace(ollama, name, functools.partial(_rebound, observed))


def _rebound(observed: Any, method: Any) -> Any:
    """The module's functions are methods bound before we came: bind the observed one to the same client."""
    return MethodType(observed(method.__func__), method.__self__)
