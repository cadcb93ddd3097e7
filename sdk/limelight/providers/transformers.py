"""Transformers (4.40 to 5.x): `generate` of every model, and the text generation pipeline.

`generate` is one span, whatever its batch: the rows share one run. The pipeline is one span for each prompt, with the
counts of its own rows. Tokens are counted from the tensors after the run; nothing is decoded.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from limelight import call as calls
from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, model_call
from limelight.guard import quiet
from limelight.providers.batches import inside, start_batch
from limelight.providers.transformers_run import Run, described
from limelight.providers.transformers_texts import Prompt, answers_of, prompts_of
from limelight.values import field, items, word

if TYPE_CHECKING:
    from limelight.patch import Patches

_MUTES = HTTP | {"transformers"}  # assisted generation calls `generate` of the smaller model
_born: weakref.WeakKeyDictionary[Any, contextvars.Context] = weakref.WeakKeyDictionary()
"""Streamer -> the context it was made in: `generate` then runs in a thread of its own, which has none."""


# -- generate ----------------------------------------------------------------------------------------------------------
def _start_generate(recorder: Recorder, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    run = Run(recorder, model, args, kwargs)
    context = _context_of(run.streamer)
    start = functools.partial(model_call, recorder, "text_completion", run.model, run.attributes(), remote=False)
    call = start() if context is None else context.run(start)
    run.attend(call)
    call.on_stop = run
    return call


def _context_of(streamer: Any) -> contextvars.Context | None:
    if streamer is None or trace.get_current_span().get_span_context().is_valid:
        return None
    context = _born.get(streamer)
    return None if context is None else context.copy()  # a context runs one thing at a time


def _finish_generate(call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    run = call.on_stop
    try:
        if isinstance(run, Run):
            run.end(result)
            run.write(call)
    finally:
        call.stop()


_GENERATE = Operation("transformers", _start_generate, _finish_generate, mutes=_MUTES)


def _wrap_generate(original: Any) -> Any:
    """`generate`: a span of its own; inside a pipeline of ours, a run that the pipeline's spans are filled from."""
    observed = wrap(original, _GENERATE)

    @functools.wraps(original)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        prompts = run = None
        with quiet("looking for a pipeline"):
            prompts = _prompts_here()
        if prompts is None:
            return observed(self, *args, **kwargs)
        with quiet("reading a request"):
            run = prompts.begin(self, args, kwargs)
        try:
            result = original(self, *args, **kwargs)
        finally:
            with quiet("leaving a run"):
                prompts.leave(run)
        with quiet("reading a response"):
            if run is not None:
                run.end(result)
        return result

    return generate


# -- the pipeline ------------------------------------------------------------------------------------------------------
_running: dict[int, _Prompts] = {}
"""Span id -> the pipeline call it stands for."""


def _prompts_here() -> _Prompts | None:
    if not _running:
        return None
    span = trace.get_current_span()
    prompts = _running.get(span.get_span_context().span_id)
    return prompts if prompts is not None and prompts.is_of(span) else None


class _Prompts:
    """The prompts of one call of the pipeline, and the runs they led to. Stands as the call's `on_stop`."""

    def __init__(self, recorder: Recorder, pipe: Any, prompts: list[Prompt]) -> None:
        self._recorder = recorder
        self._model = field(pipe, "model")
        self._prompts = prompts
        self._runs: list[Run] = []
        self._is_busy = False
        self._call: Call | None = None

    def __call__(self, call: Call) -> None:
        """The call is over."""
        _running.pop(call.span.get_span_context().span_id, None)

    def is_of(self, span: Any) -> bool:
        """Whether this is the call that a span stands for; ids alone may come again after a new `init`."""
        return self._call is not None and self._call.span is span

    def start(self) -> Call:
        """The span of the one prompt, or of the batch."""
        name, attributes = described(self._model)
        if len(self._prompts) == 1:
            call = self._start(self._prompts[0], attributes)
        else:
            call = start_batch(self._recorder, name, len(self._prompts))
        call.on_stop = self
        self._call = call
        _running[call.span.get_span_context().span_id] = self
        return call

    def _start(self, prompt: Prompt, attributes: dict[str, Any], start_ns: int | None = None) -> Call:
        name, _ = described(self._model)
        call = model_call(self._recorder, prompt.operation, name, attributes, remote=False, start_ns=start_ns)
        if call.records_content:
            call.set_messages(semconv.INPUT_MESSAGES, prompt.messages())
        return call

    def begin(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run | None:
        """A `generate` starts; None for one inside another (a smaller model that assists)."""
        if self._is_busy:
            return None
        self._is_busy = True
        run = Run(self._recorder, model, args, kwargs)
        run.attend(self._call if len(self._prompts) == 1 else None)
        self._runs.append(run)
        return run

    def leave(self, run: Run | None) -> None:
        """A `generate` is over, well or not."""
        if run is not None:
            self._is_busy = False
            run.release()

    def read(self, call: Call, result: Any) -> None:
        """Fill the one prompt's span, or a new one for each prompt of the batch."""
        shares = [share for run in self._runs for share in run.shares()]
        if len(self._prompts) == 1:
            if len(shares) == 1:
                shares[0].write(call)
            self._answer(call, self._prompts[0], result)
            return
        if len(shares) != len(self._prompts):
            return  # a pipeline that made something else of its prompts
        with inside(call):
            answers = [*items(result), *[None] * len(shares)]
            for prompt, share, answer in zip(self._prompts, shares, answers, strict=False):
                request = self._start(prompt, share.run.attributes(), share.run.start_ns)
                try:
                    share.write(request)
                    self._answer(request, prompt, answer)
                finally:
                    request.stop(end_ns=share.run.end_ns)

    def _answer(self, call: Call, prompt: Prompt, answer: Any) -> None:
        if call.records_content:
            reasons = self._runs[0].reasons() if len(self._prompts) == 1 and self._runs else []
            call.set_messages(semconv.OUTPUT_MESSAGES, answers_of(prompt, answer, reasons))


def _start_pipeline(recorder: Recorder, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Texts and chats, one or a list; a data set or a generator is read later, so each `generate` speaks for itself."""
    prompts = prompts_of(kwargs.get("text_inputs", args[0] if args else None))
    return _Prompts(recorder, pipe, prompts).start() if prompts else None


def _finish_pipeline(call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    prompts = call.on_stop
    try:
        if isinstance(prompts, _Prompts):
            prompts.read(call, result)
    finally:
        call.stop()


_PIPELINE = Operation("transformers", _start_pipeline, _finish_pipeline, mutes=_MUTES)


def _wrap_streamer(original: Any) -> Any:
    """`TextStreamer.__init__`, to know where a streamer was made."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        with quiet("noting a streamer's context"):
            if calls.installed() is not None:
                _born[self] = contextvars.copy_context()

    return __init__


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap what a module has: `generate`, the pipeline's call, or the streamers' constructor."""
    for owner, name, make in (
        ("GenerationMixin", "generate", _wrap_generate),
        ("TextGenerationPipeline", "__call__", functools.partial(wrap, operation=_PIPELINE)),
        ("TextStreamer", "__init__", _wrap_streamer),
    ):
        found = vars(module).get(owner)
        if found is not None and word(found.__module__) == module.__name__:
            patches.replace(found, name, make)
