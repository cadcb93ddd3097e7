"""vLLM in process (0.9 to 0.32): `LLM.generate`, `chat` and `embed`, and the generators of `AsyncLLM`.

One span for each request. A call of `LLM` with several prompts is a batch: one span for the call, which is no model
call and costs nothing, and below it one for each request with its own times. All counts are the engine's own.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, model_call
from limelight.guard import quiet
from limelight.providers.batches import inside, start_batch
from limelight.providers.openai_messages import of_chat
from limelight.providers.vllm_outputs import Completions, Pooled
from limelight.stream import relay_async
from limelight.values import field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_MUTES = HTTP | {"vllm"}  # `chat` and `beam_search` of older versions call `generate`
_EMBEDS = frozenset({None, "embed", "token_embed"})


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return kwargs.get(name, args[position] if len(args) > position else None)


def _model(engine: Any) -> str | None:
    """The name the model is served under, which is the path or id it was loaded by unless another was given."""
    config = field(engine, "model_config") or field(field(engine, "vllm_config"), "model_config")
    return word(field(config, "served_model_name")) or word(field(config, "model"))


def _sampling(params: Any, lora: Any) -> dict[str, Any]:
    """Attributes of `SamplingParams`; what is switched off (0, or -1 for `top_k`) is left out."""
    top_k, choices = number(field(params, "top_k")), number(field(params, "n"))
    return {
        semconv.REQUEST_MAX_TOKENS: number(field(params, "max_tokens")),
        semconv.REQUEST_TEMPERATURE: number(field(params, "temperature")),
        semconv.REQUEST_TOP_P: number(field(params, "top_p")),
        semconv.REQUEST_TOP_K: top_k if top_k is not None and top_k > 0 else None,
        semconv.REQUEST_SEED: number(field(params, "seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: number(field(params, "frequency_penalty")) or None,
        semconv.REQUEST_PRESENCE_PENALTY: number(field(params, "presence_penalty")) or None,
        semconv.REQUEST_STOP_SEQUENCES: words(field(params, "stop")),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.LIMELIGHT_LORA_NAME: word(field(lora, "lora_name")),
    }


def _request(
    recorder: Recorder, operation: str, model: str | None, params: Any, lora: Any, start_ns: int | None = None
) -> Call:
    attributes = {semconv.PROVIDER_NAME: "vllm", **_sampling(params, lora)}
    return model_call(recorder, operation, model, attributes, remote=False, start_ns=start_ns)


def _set_prompt(call: Call, operation: str, prompt: Any) -> None:
    """A conversation, or the text of a prompt; a prompt of token ids is read as text from the engine's answer."""
    if not call.records_content:
        return
    if operation == "chat":
        call.set_messages(semconv.INPUT_MESSAGES, of_chat(items(prompt)))
        return
    text = word(prompt) or word(field(prompt, "prompt"))
    if operation == "embeddings":
        call.set_value(semconv.LIMELIGHT_INPUT, text)
    elif text:
        call.set_messages(semconv.INPUT_MESSAGES, [{"role": "user", "parts": [{"type": "text", "content": text}]}])


# -- LLM: one call, one or many requests -------------------------------------------------------------------------------
_running: dict[int, _Requests] = {}
"""The call that an engine (by its id) works on: `LLM` runs one at a time."""


class _Requests:
    """The requests of one call of `LLM`. Stands as the call's `on_stop`, where `finish` finds it."""

    def __init__(
        self, recorder: Recorder, operation: str, llm: Any, prompts: tuple[Any, ...], params: Any, lora: Any
    ) -> None:
        self._recorder = recorder
        self._operation = operation
        self._prompts = prompts
        self._params = params
        self._lora = lora
        self._ended_ns: dict[str, int] = {}
        """Request id -> wall time at which the engine handed the request out."""
        self._engine = field(llm, "llm_engine")
        self.model = _model(self._engine)
        _running[id(self._engine)] = self

    def __call__(self, _call: Call) -> None:
        """The call is over."""
        _running.pop(id(self._engine), None)

    def start(self) -> Call:
        """The span of the one request, or of the batch."""
        if len(self._prompts) == 1:
            call = self._start(0)
            _set_prompt(call, self._operation, self._prompts[0])
        else:
            call = start_batch(self._recorder, self.model, len(self._prompts) or None)
        call.on_stop = self
        return call

    def _start(self, index: int, start_ns: int | None = None) -> Call:
        return _request(
            self._recorder,
            self._operation,
            self.model,
            _of_one(self._params, index),
            _of_one(self._lora, index),
            start_ns,
        )

    def note(self, outputs: Any) -> None:
        """Note the requests that one step of the engine has finished."""
        for output in items(outputs):
            if field(output, "finished") is True:
                self._ended_ns[output.request_id] = self._recorder.wall_ns()

    def read(self, call: Call, outputs: Any) -> None:
        """Read what came back: into the one request's span, or into a new span for each request of the batch."""
        if len(self._prompts) == 1:
            for output in items(outputs)[:1]:
                self._answer(call, output)
            return
        with inside(call):
            for index, output in enumerate(items(outputs)):
                self._read_one(call, index, output)

    def _read_one(self, batch: Call, index: int, output: Any) -> None:
        ended_ns = self._ended_ns.get(output.request_id) or self._recorder.wall_ns()
        arrived_ns = int((number(field(field(output, "metrics"), "arrival_time")) or 0) * 1e9)
        is_plausible = batch.start_ns <= arrived_ns <= ended_ns  # the engine's wall clock, not the recorder's
        request = self._start(index, arrived_ns if is_plausible else batch.start_ns)
        try:
            if index < len(self._prompts):
                _set_prompt(request, self._operation, self._prompts[index])
            self._answer(request, output)
        finally:
            request.stop(end_ns=ended_ns)

    def _answer(self, call: Call, output: Any) -> None:
        is_text = self._operation == "text_completion"
        chunks = (
            Pooled() if self._operation == "embeddings" else Completions(call.records_content, wants_prompt=is_text)
        )
        chunks.add(output)
        chunks.fill(call)


def _of_one(value: Any, index: int) -> Any:
    """A setting given once for all prompts, or prompt by prompt."""
    if isinstance(value, (list, tuple)):
        given = items(value)
        return given[index] if index < len(given) else None
    return value


def _prompts(value: Any, one: type) -> tuple[Any, ...]:
    """The prompts of a call; a list whose first item is a `one` is itself a prompt (token ids, a conversation)."""
    given = items(value)
    return (value,) if not given or isinstance(given[0], one) else tuple(given)


def _start_batch(
    operation: str, one: type, recorder: Recorder, llm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    prompts = _argument(args, kwargs, 0, "messages" if operation == "chat" else "prompts")
    params = _argument(args, kwargs, 1, "sampling_params") if operation != "embeddings" else None
    lora = kwargs.get("lora_request")
    return _Requests(recorder, operation, llm, _prompts(prompts, one), params, lora).start()


def _start_beams(recorder: Recorder, llm: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Call:
    """Beam search tells no counts: one span for the call."""
    return _request(recorder, "text_completion", _model(field(llm, "llm_engine")), None, None)


def _start_waiting(recorder: Recorder, llm: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Call:
    """`wait_for_completion` after `enqueue`: a batch whose requests are known when they are done."""
    return _Requests(recorder, "text_completion", llm, (), None, None).start()


def _finish_batch(call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    requests = call.on_stop
    try:
        if isinstance(requests, _Requests):
            requests.read(call, result)
    finally:
        call.stop()


def _observe_step(original: Any) -> Any:
    """`LLMEngine.step`, which hands out finished requests long before `LLM` returns the last of a batch."""

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        with quiet("noting finished requests"):
            requests = _running.get(id(self))
            if requests is not None:
                requests.note(outputs)
        return outputs

    return step


# -- AsyncLLM: one generator, one request ------------------------------------------------------------------------------
def _start_generate(recorder: Recorder, engine: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    params = _argument(args, kwargs, 1, "sampling_params")
    call = _request(recorder, "text_completion", _model(engine), params, kwargs.get("lora_request"))
    call.set(semconv.REQUEST_STREAM, None if _output_kind(params) == "FINAL_ONLY" else True)
    call.set(semconv.REQUEST_ID, word(_argument(args, kwargs, 2, "request_id")))
    _set_prompt(call, "text_completion", _argument(args, kwargs, 0, "prompt"))
    call.on_stop = Completions(
        call.records_content, is_delta=_output_kind(params) == "DELTA", is_stream=_output_kind(params) != "FINAL_ONLY"
    ).fill
    return call


def _output_kind(params: Any) -> str | None:
    return word(getattr(field(params, "output_kind"), "name", None))


def _start_encode(recorder: Recorder, engine: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    params = _argument(args, kwargs, 1, "pooling_params")
    if word(field(params, "task")) not in _EMBEDS:
        return None  # classes and scores are no model call that the conventions know
    call = _request(recorder, "embeddings", _model(engine), None, _argument(args, kwargs, 3, "lora_request"))
    call.set(semconv.REQUEST_ID, word(_argument(args, kwargs, 2, "request_id")))
    _set_prompt(call, "embeddings", _argument(args, kwargs, 0, "prompt"))
    call.on_stop = Pooled().fill
    return call


def _finish_stream(call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> Any:
    chunks: Any = getattr(call.on_stop, "__self__", None)  # made by `start`, which knows how the outputs will come
    return relay_async(result, call, chunks)


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap what a module has: `LLM`, the `LLMEngine` below it, or `AsyncLLM`."""

    def observe(owner: Any, name: str, start: Any, finish: Any) -> None:
        operation = Operation("vllm", start, finish, mutes=_MUTES)
        patches.replace(owner, name, functools.partial(wrap, operation=operation))

    llm, engine, asynchronous = (getattr(module, name, None) for name in ("LLM", "LLMEngine", "AsyncLLM"))
    if module.__name__ == "vllm.entrypoints.llm" and llm is not None:
        for name, operation, one in (("generate", "text_completion", int), ("chat", "chat", dict)):
            observe(llm, name, functools.partial(_start_batch, operation, one), _finish_batch)
        observe(llm, "embed", functools.partial(_start_batch, "embeddings", int), _finish_batch)
        observe(llm, "wait_for_completion", _start_waiting, _finish_batch)
        observe(llm, "beam_search", _start_beams, _finish_batch)
    elif module.__name__ == "vllm.v1.engine.llm_engine" and engine is not None:
        patches.replace(engine, "step", _observe_step)
    elif asynchronous is not None:
        observe(asynchronous, "generate", _start_generate, _finish_stream)
        observe(asynchronous, "encode", _start_encode, _finish_stream)
