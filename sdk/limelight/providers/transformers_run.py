"""One run of `generate`: what it was asked, when its first token came, what it made; whole, and prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limelight import semconv
from limelight.call import Call, Recorder
from limelight.guard import quiet
from limelight.providers.transformers_tokens import Counted, count, shape
from limelight.values import field, number, word

_POSITIONS = {
    "inputs": 0,
    "generation_config": 1,
    "logits_processor": 2,
    "stopping_criteria": 3,
}
_STREAMER = 7


def described(model: Any) -> tuple[str | None, dict[str, Any]]:
    """(name, attributes) of a model: the name or path it was loaded by, where its weights are and of which type."""
    device, dtype = getattr(model, "device", None), getattr(model, "dtype", None)  # properties of the library's
    kind, index = word(field(device, "type")), field(device, "index")
    name = word(field(field(model, "config"), "_name_or_path")) or word(field(model, "name_or_path"))
    return name, {
        semconv.PROVIDER_NAME: "transformers",
        semconv.LIMELIGHT_DEVICE: f"{kind}:{index}" if kind and isinstance(index, int) else kind,
        semconv.LIMELIGHT_DTYPE: str(dtype).removeprefix("torch.") if type(dtype).__module__ == "torch" else None,
    }


class Run:
    """One `generate`. Stands as its call's `on_stop`, where `finish` finds it."""

    def __init__(self, recorder: Recorder, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._wall_ns = recorder.wall_ns
        self._model = model
        self._given = {**kwargs, **{name: args[at] for name, at in _POSITIONS.items() if len(args) > at}}
        self._released: list[Callable[[], None]] = []
        self._texts: list[Any] = []
        self._counted: Counted | None = None
        self.streamer: Any = args[_STREAMER] if len(args) > _STREAMER else kwargs.get("streamer")
        self.model, self._description = described(model)
        self.start_ns = self.end_ns = self._wall_ns()
        self._settle_inputs()

    def _settle_inputs(self) -> None:
        """`inputs` are ids where they are whole numbers in two dimensions, else sound, pictures or embeddings."""
        given = self._given
        inputs = given.pop("inputs", None)
        if given.get("input_ids") is None and len(shape(inputs)) == 2 and not _is_floating(inputs):
            given["input_ids"] = inputs

    def __call__(self, _call: Call) -> None:
        """The call is over, well or not."""
        self.release()

    def setting(self, name: str) -> Any:
        """What the run goes by: the keyword, else the configuration given, else the model's own."""
        for source in (self._given, self._given.get("generation_config"), field(self._model, "generation_config")):
            value = field(source, name)
            if value is not None:
                return value
        return None

    def attributes(self) -> dict[str, Any]:
        """What was asked; sampling parameters only where the run samples: greedy search ignores them."""
        samples = self.setting("do_sample") is True
        beams, choices = number(self.setting("num_beams")), number(self.setting("num_return_sequences"))
        top_k = number(self.setting("top_k")) if samples else None
        rows = self._rows()
        return {
            **self._description,
            semconv.REQUEST_MAX_TOKENS: number(self.setting("max_new_tokens")),
            semconv.REQUEST_TEMPERATURE: number(self.setting("temperature")) if samples else None,
            semconv.REQUEST_TOP_P: number(self.setting("top_p")) if samples else None,
            semconv.REQUEST_TOP_K: top_k or None,
            semconv.LIMELIGHT_NUM_BEAMS: None if beams == 1 else beams,
            semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
            semconv.REQUEST_STREAM: None if self.streamer is None else True,
            semconv.LIMELIGHT_BATCH_SIZE: rows if rows > 1 else None,
        }

    def _rows(self) -> int:
        size = shape(self._given.get("input_ids")) or shape(self._given.get("inputs_embeds"))
        return size[0] if size else 1

    # -- the user's streamer: its own methods, observed from the instance while the run lasts --------------------------
    def attend(self, call: Call | None) -> None:
        """Time the first token by the streamer: its first `put` is the prompt, the next the first token."""
        if self.streamer is None:
            return
        seen = 0

        def put() -> None:
            nonlocal seen
            seen += 1
            if call is not None and seen > 1:
                call.touch()
                if seen == 2:
                    call.first_chunk()

        self._observe("put", lambda _value: put())
        if call is not None and call.records_content and field(self.streamer, "skip_prompt") is True:
            self._observe("on_finalized_text", self._texts.append)

    def _observe(self, name: str, note: Callable[[Any], None]) -> None:
        with quiet("observing a streamer"):
            streamer: Any = self.streamer
            original, own = getattr(streamer, name), getattr(streamer, "__dict__", None)
            if not isinstance(own, dict) or name in own:
                return  # slots; or the user's own method, or another run's

            def observed(*args: Any, **kwargs: Any) -> Any:
                with quiet("reading a chunk"):
                    note(args[0] if args else None)
                return original(*args, **kwargs)

            own[name] = observed
            self._released.append(lambda: own.pop(name, None) and None)

    def release(self) -> None:
        """Give the streamer its own methods back."""
        while self._released:
            self._released.pop()()

    # -- the result ----------------------------------------------------------------------------------------------------
    def end(self, result: Any) -> None:
        """Read what came out."""
        self.end_ns = self._wall_ns()
        self._counted = count(self._model, self._given, self.setting, result)

    def reasons(self) -> list[str]:
        """Why each sequence ended."""
        return [] if self._counted is None else self._counted.reasons

    def write(self, call: Call) -> None:
        """The whole run as one request."""
        counted = self._counted
        if counted is not None:
            _write(call, counted.inputs, counted.outputs, counted.reasons)
        if self._texts and self._rows() == 1:
            part = {"type": "text", "content": "".join(filter(None, map(word, self._texts)))}
            reason = (self.reasons() or [""])[0]
            call.set_messages(
                semconv.OUTPUT_MESSAGES, [{"role": "assistant", "parts": [part], "finish_reason": reason}]
            )

    def shares(self) -> list[Share]:
        """The run, prompt by prompt."""
        return [Share(self, index) for index in range(self._rows())]

    def write_share(self, call: Call, index: int) -> None:
        """The part of one prompt: its own row, and the sequences made from it."""
        counted, rows = self._counted, self._rows()
        if counted is None:
            return
        each = len(counted.outputs) // rows
        mine = slice(index * each, (index + 1) * each)
        inputs = None if counted.inputs is None else counted.inputs[index : index + 1]
        _write(call, inputs, counted.outputs[mine], counted.reasons[mine])


@dataclass(frozen=True, slots=True)
class Share:
    """One prompt of a run."""

    run: Run
    index: int

    def write(self, call: Call) -> None:
        """Its counts, and what the run was asked."""
        for name, value in self.run.attributes().items():
            call.set(name, value)
        self.run.write_share(call, self.index)


def _write(call: Call, inputs: list[int] | None, outputs: list[int | None], reasons: list[str]) -> None:
    known = [number for number in outputs if number is not None]
    call.set(semconv.USAGE_INPUT_TOKENS, None if inputs is None else sum(inputs))
    call.set(semconv.USAGE_OUTPUT_TOKENS, sum(known) if len(known) == len(outputs) else None)
    call.set(semconv.RESPONSE_FINISH_REASONS, reasons or None)


def _is_floating(tensor: Any) -> bool:
    return bool(tensor.is_floating_point()) if hasattr(tensor, "is_floating_point") else False
