"""LiteLLM (1.60 and newer): completions, text completions, embeddings and responses, one span for each of its calls.

It calls other providers' libraries or plain HTTP, also while a stream is read: all of them are silent inside. Who
answers is LiteLLM's own resolution; usage is in OpenAI's shape, and Anthropic's counts are summed already.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import Call, Recorder, model_call, muted
from limelight.guard import quiet
from limelight.providers import litellm_answers as answers
from limelight.providers import litellm_names as names
from limelight.providers import openai_messages as messages
from limelight.providers.hosts import of_address
from limelight.providers.litellm_streams import MUTES, STREAMS, ResponseStream, TextStream, observe_steps, watch
from limelight.values import count, field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_REQUEST: tuple[tuple[str, Callable[[Any], Any], tuple[str, ...]], ...] = (
    (semconv.REQUEST_MAX_TOKENS, count, ("max_completion_tokens", "max_tokens", "max_output_tokens")),
    (semconv.REQUEST_TEMPERATURE, number, ("temperature",)),
    (semconv.REQUEST_TOP_P, number, ("top_p",)),
    (semconv.REQUEST_TOP_K, count, ("top_k",)),
    (semconv.REQUEST_SEED, count, ("seed",)),
    (semconv.REQUEST_FREQUENCY_PENALTY, number, ("frequency_penalty",)),
    (semconv.REQUEST_PRESENCE_PENALTY, number, ("presence_penalty",)),
    (semconv.REQUEST_STOP_SEQUENCES, words, ("stop",)),
    (semconv.REQUEST_REASONING_LEVEL, word, ("reasoning_effort",)),
    (semconv.REQUEST_PREVIOUS_RESPONSE_ID, word, ("previous_response_id",)),
    (semconv.EMBEDDINGS_DIMENSION_COUNT, count, ("dimensions",)),
    (semconv.REQUEST_ENCODING_FORMATS, words, ("encoding_format",)),
    (semconv.OPENAI_REQUEST_SERVICE_TIER, word, ("service_tier",)),
)
"""Attribute, how it is read, and what the argument is called; the first that is given counts."""


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute, read, called in _REQUEST:
        found[attribute] = next((value for name in called if (value := read(given.get(name))) is not None), None)
    choices = count(given.get("n"))
    found[semconv.REQUEST_CHOICE_COUNT] = None if choices == 1 else choices
    found[semconv.REQUEST_STREAM] = True if given.get("stream") is True else None
    if found[semconv.OPENAI_REQUEST_SERVICE_TIER] == "auto":
        found[semconv.OPENAI_REQUEST_SERVICE_TIER] = None
    return found


def _start(
    operation: str,
    parameters: tuple[str, ...],
    recorder: Recorder,
    _owner: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Call:
    """Start a call; `parameters` are the function's names for what comes without one."""
    given = {**dict(zip(parameters, args, strict=False)), **kwargs}
    provider, model = names.resolve(word(given.get("model")), word(given.get("custom_llm_provider")))
    where = of_address(word(given.get("api_base")) or word(given.get("base_url")), provider, otherwise="")
    shape = given.get("response_format")
    shape = field(given.get("text"), "format") if shape is None else shape
    output_type = messages.output_type(shape, given.get("modalities"))
    attributes = {name: value or None for name, value in where.items()} | _asked(given)
    call = model_call(recorder, operation, model, {**attributes, semconv.OUTPUT_TYPE: output_type})
    call.asked = provider
    if call.records_content:
        _set_content(call, given)
    return call


def _set_content(call: Call, given: dict[str, Any]) -> None:
    if "messages" in given:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_chat(given["messages"]))
    elif "prompt" in given:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_prompt(given["prompt"]))
    call.set_value(semconv.TOOL_DEFINITIONS, items(given.get("tools")) or None, as_json=True)


def _start_response(
    parameters: tuple[str, ...], recorder: Recorder, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    call = _start("chat", parameters, recorder, owner, args, kwargs)
    if call.records_content:
        given = {**dict(zip(parameters, args, strict=False)), **kwargs}
        instructions = word(given.get("instructions"))
        call.set_messages(semconv.SYSTEM_INSTRUCTIONS, [messages.text_part(instructions)] if instructions else [])
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_items(given.get("input")))
    return call


def _start_embedding(
    parameters: tuple[str, ...], recorder: Recorder, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    call = _start("embeddings", parameters, recorder, owner, args, kwargs)
    given = {**dict(zip(parameters, args, strict=False)), **kwargs}
    asked = given.get("input")
    call.set_value(semconv.LIMELIGHT_INPUT, word(asked) or items(asked) or None)
    return call


def _finish(read: Any, chunks: Any, call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    """Read the answer, or follow the stream, which is LiteLLM's own object and stays it."""
    is_stream = hasattr(type(result), "__next__") or hasattr(type(result), "__anext__")
    answers.read_origin(call, result, is_stream=is_stream)
    if is_stream and chunks is not None:
        watch(result, call, chunks(call.records_content, call.asked))
        return
    if not is_stream:
        read(call, result)
    call.stop()


_FUNCTIONS = (
    ("completion", functools.partial(_start, "chat"), answers.read_chat, TextStream),
    ("text_completion", functools.partial(_start, "text_completion"), answers.read_chat, TextStream),
    ("embedding", _start_embedding, answers.read_embedding, None),
    ("responses", _start_response, answers.read_response, ResponseStream),
)
_OWNERS = ("litellm", "litellm.main", "litellm.responses.main")


_FALLBACKS = "litellm.litellm_core_utils.fallback_utils"


def _carrying(original: Any) -> Any:
    """What runs a synchronous call's fallbacks, in a thread where a loop runs here: the call goes with them."""

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        with quiet("carrying a call into a thread"):
            attempts = kwargs.get("async_function")
            if attempts is not None and "litellm" in muted():
                kwargs = {**kwargs, "async_function": _carried(attempts, otel_context.get_current())}
        return original(*args, **kwargs)

    return run


def _carried(attempts: Any, context: otel_context.Context) -> Any:
    @functools.wraps(attempts)
    async def inside(*args: Any, **kwargs: Any) -> Any:
        with quiet("carrying a call into a thread"):
            otel_context.attach(context)  # it ends with the task, which was made for this alone
        return await attempts(*args, **kwargs)

    return inside


def _parameters(function: Any) -> tuple[str, ...]:
    """The names of what may come without one."""
    found = inspect.signature(function).parameters.values()
    return tuple(each.name for each in found if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap the module's functions, where they are looked up, and the steps of the streams they return."""
    for owner in STREAMS.get(module.__name__, ()):
        kind = getattr(module, owner, None)
        if kind is not None:
            observe_steps(patches, kind)
    if module.__name__ == _FALLBACKS:
        patches.replace(module, "run_async_function", _carrying)
    if module.__name__ != "litellm":
        return
    for name, start, read, chunks in _FUNCTIONS:
        for where in _OWNERS:
            owner = _loaded(where)
            for called in (name, f"a{name}"):
                if not callable(getattr(owner, called, None)):
                    continue
                # the asynchronous ones of some versions take anything and hand it to the other
                parameters = _parameters(getattr(owner, called)) or _parameters(getattr(owner, name))
                operation = Operation(
                    "litellm",
                    functools.partial(start, parameters),
                    functools.partial(_finish, read, chunks),
                    mutes=MUTES,
                    is_method=False,
                )
                patches.replace(owner, called, functools.partial(wrap, operation=operation))


def _loaded(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:  # an older version
        return None
