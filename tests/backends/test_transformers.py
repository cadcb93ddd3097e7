"""Transformers with tiny models: our counts are those of the tensors that went in and came out."""

from __future__ import annotations

import contextvars
import json
import os
import threading
from typing import Any

import pytest

import limelight
from backends.vllm.needs import QUIET, functions, require
from limelight.testing import Recorded, recording

pytestmark = [pytest.mark.backend, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

PROMPTS = ["def main():", "import os\nimport sys\nimport re", "class A:"]


class Tiny:
    """A causal model and an encoder-decoder model, random and small, and their tokenizer."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BartConfig, BartForConditionalGeneration

        from backends.vllm.tiny_model import kept

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.path = str(kept())
        self.tokenizer = AutoTokenizer.from_pretrained(self.path, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(self.path).eval()
        config = BartConfig(
            vocab_size=2048,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=128,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
        self.translator = BartForConditionalGeneration(config).eval()

    def inputs(self, *prompts: str) -> Any:
        return self.tokenizer(list(prompts), return_tensors="pt", padding=True)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    require("torch", "transformers")
    os.environ.update(QUIET)
    return Tiny()


@pytest.fixture
def pipe(tiny: Tiny) -> Any:
    from transformers import pipeline

    return pipeline("text-generation", model=tiny.model, tokenizer=tiny.tokenizer)


def _lengths(tiny: Tiny, *prompts: str) -> list[int]:
    return [len(tiny.tokenizer(prompt)["input_ids"]) for prompt in prompts]


def _ending_at(step: int) -> Any:
    """A processor that makes row `r` write its end of sequence as its token number `step + 2 r`."""
    from transformers import LogitsProcessor

    class Ending(LogitsProcessor):
        def __init__(self) -> None:
            self.seen = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self.seen += 1
            scores[:, 2] = -float("inf")
            for row in range(scores.shape[0]):
                if self.seen >= step + 2 * row:
                    scores[row, :] = -float("inf")
                    scores[row, 2] = 0
            return scores

    return [Ending()]


def test_generate_is_one_span(tiny: Tiny, spans: Recorded) -> None:
    inputs = tiny.inputs(PROMPTS[0])
    options = {"temperature": 0.5, "top_p": 0.9, "top_k": 7}
    result = tiny.model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=True, **options)
    span = spans.only()
    assert (span.name, span.kind, span.status) == (f"text_completion {tiny.path}", "internal", "unset")
    assert span.attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "transformers",
        "gen_ai.request.model": tiny.path,
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 7,
        "limelight.model.device": "cpu",
        "limelight.model.dtype": "float32",
        "gen_ai.usage.input_tokens": inputs["input_ids"].shape[1],
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.response.finish_reasons": ["length"],
    }
    assert result.shape[1] == inputs["input_ids"].shape[1] + 6


def test_a_padded_batch_counts_no_padding(tiny: Tiny, spans: Recorded) -> None:
    inputs = tiny.inputs(*PROMPTS)
    assert inputs["input_ids"].numel() > int(inputs["attention_mask"].sum())
    result = tiny.model.generate(**inputs, max_new_tokens=8, do_sample=False, logits_processor=_ending_at(3))
    seen = spans.only().attributes
    assert seen["limelight.batch.size"] == 3
    assert seen["gen_ai.usage.input_tokens"] == sum(_lengths(tiny, *PROMPTS))
    assert seen["gen_ai.usage.output_tokens"] == 3 + 5 + 7  # each with its end of sequence, none with padding
    assert seen["gen_ai.response.finish_reasons"] == ["stop", "stop", "stop"]
    assert result.shape[1] - inputs["input_ids"].shape[1] == 7


def test_a_mask_that_was_left_out_is_inferred_as_generate_does(tiny: Tiny, spans: Recorded) -> None:
    tiny.model.generate(tiny.inputs(*PROMPTS)["input_ids"], max_new_tokens=2, do_sample=False)
    assert spans.only().attributes["gen_ai.usage.input_tokens"] == sum(_lengths(tiny, *PROMPTS))


def test_padding_that_is_the_end_of_sequence(tiny: Tiny, spans: Recorded) -> None:
    """As many models are used: the first end counts, the rest is padding."""
    inputs = tiny.inputs(*PROMPTS)
    tiny.model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=2, logits_processor=_ending_at(3))
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == 3 + 5 + 7


def test_where_an_end_cannot_be_told_from_padding_the_count_is_unknown(tiny: Tiny, spans: Recorded) -> None:
    from transformers import StoppingCriteria

    class First(StoppingCriteria):
        """Stops the first row after two tokens, the others never."""

        def __init__(self) -> None:
            self.seen = 0

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            import torch

            self.seen += 1
            done = torch.zeros(input_ids.shape[0], dtype=torch.bool)
            done[0] = self.seen >= 2
            return done

    inputs = tiny.inputs(*PROMPTS[:2])
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    tiny.model.generate(**inputs, **options, pad_token_id=2, stopping_criteria=[First()])
    tiny.model.generate(**inputs, **options, pad_token_id=0, stopping_criteria=[First()])
    unknown, known = (span.attributes for span in spans.spans())
    assert "gen_ai.usage.output_tokens" not in unknown
    assert known["gen_ai.usage.output_tokens"] == 2 + 6
    assert known["gen_ai.response.finish_reasons"] == ["stop", "length"]


def test_several_sequences_and_beams(tiny: Tiny, spans: Recorded) -> None:
    inputs = tiny.inputs(*PROMPTS[:2])
    options = {"max_new_tokens": 4, "min_new_tokens": 4}
    tiny.model.generate(**inputs, **options, do_sample=True, num_return_sequences=3)
    result = tiny.model.generate(
        **inputs, **options, num_beams=3, num_return_sequences=2, do_sample=False, return_dict_in_generate=True
    )
    sampled, searched = (span.attributes for span in spans.spans())
    assert (sampled["gen_ai.usage.output_tokens"], sampled["gen_ai.request.choice.count"]) == (2 * 3 * 4, 3)
    assert (searched["gen_ai.usage.output_tokens"], searched["limelight.request.num_beams"]) == (2 * 2 * 4, 3)
    assert searched["gen_ai.usage.input_tokens"] == sum(_lengths(tiny, *PROMPTS[:2]))
    assert result.sequences.shape[0] == 4


def test_embeddings_as_input(tiny: Tiny, spans: Recorded) -> None:
    inputs = tiny.inputs(PROMPTS[0])
    embedded = tiny.model.get_input_embeddings()(inputs["input_ids"]).detach()
    result = tiny.model.generate(
        inputs_embeds=embedded, attention_mask=inputs["attention_mask"], max_new_tokens=3, min_new_tokens=3
    )
    seen = spans.only().attributes
    assert seen["gen_ai.usage.input_tokens"] == inputs["input_ids"].shape[1]
    assert seen["gen_ai.usage.output_tokens"] == 3 == result.shape[1]


def test_an_encoder_decoder_model(tiny: Tiny, spans: Recorded) -> None:
    import torch

    inputs = tiny.inputs(*PROMPTS[:2])
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    result = tiny.translator.generate(**inputs, **options)
    started = torch.tensor([[2, 9], [2, 9]])
    tiny.translator.generate(**inputs, **options, decoder_input_ids=started)
    prepended = tiny.translator.generate(**inputs, **options, decoder_input_ids=started[:, 1:])
    assert (result.shape[1], prepended.shape[1]) == (1 + 5, 2 + 5)
    for span in spans.spans():
        assert span.attributes["gen_ai.usage.input_tokens"] == sum(_lengths(tiny, *PROMPTS[:2]))
        assert span.attributes["gen_ai.usage.output_tokens"] == 2 * 5


def test_assisted_generation_is_one_span(tiny: Tiny, spans: Recorded) -> None:
    result = tiny.model.generate(
        **tiny.inputs(PROMPTS[0]), assistant_model=tiny.model, max_new_tokens=6, min_new_tokens=6, do_sample=False
    )
    made = result.shape[1] - _lengths(tiny, PROMPTS[0])[0]
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == made == 6


def test_the_default_configuration_counts_too(tiny: Tiny, spans: Recorded) -> None:
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=4, min_new_tokens=4, do_sample=True, temperature=0.25)
    tiny.model.generate(**tiny.inputs(PROMPTS[0]), generation_config=config)
    seen = spans.only().attributes
    assert (seen["gen_ai.request.max_tokens"], seen["gen_ai.request.temperature"]) == (4, 0.25)


def test_results_and_arguments_are_the_users_own(tiny: Tiny) -> None:
    import torch

    inputs = tiny.inputs(*PROMPTS)
    before = {name: value.clone() for name, value in inputs.items()}
    options = {"max_new_tokens": 8, "do_sample": False}
    plain = tiny.model.generate(**inputs, **options)
    with recording():
        observed = tiny.model.generate(**inputs, **options)
        sampled = [_sample(tiny, inputs) for _ in range(2)]
    assert type(observed) is type(plain)
    assert torch.equal(observed, plain)
    assert torch.equal(sampled[0], _sample(tiny, inputs))  # the random state is left alone
    assert all(torch.equal(value, before[name]) for name, value in inputs.items())


def _sample(tiny: Tiny, inputs: Any) -> Any:
    import torch

    torch.manual_seed(5)
    return tiny.model.generate(**inputs, max_new_tokens=5, do_sample=True)


def test_an_error_is_the_users_and_the_spans(tiny: Tiny, spans: Recorded) -> None:
    with pytest.raises(ValueError, match="max_new_tokens"):
        tiny.model.generate(**tiny.inputs(PROMPTS[0]), max_new_tokens=-1)
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "ValueError")
    assert "gen_ai.usage.output_tokens" not in span.attributes


# -- streamers ---------------------------------------------------------------------------------------------------------
def _streamer(tiny: Tiny, **options: Any) -> Any:
    from transformers import TextIteratorStreamer

    return TextIteratorStreamer(tiny.tokenizer, timeout=60, **options)


def test_a_streamer_tells_the_first_token(tiny: Tiny, spans: Recorded) -> None:
    streamer = _streamer(tiny, skip_prompt=True)
    methods = dict(vars(streamer))
    result = tiny.model.generate(
        **tiny.inputs(PROMPTS[0]), streamer=streamer, max_new_tokens=6, min_new_tokens=6, do_sample=False
    )
    text = "".join(streamer)
    seen = spans.only().attributes
    assert seen["gen_ai.request.stream"] is True
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert seen["gen_ai.usage.output_tokens"] == 6
    assert json.loads(seen["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "length"}
    ]
    assert "put" not in vars(streamer)
    assert "put" not in methods
    assert result.shape[1] == _lengths(tiny, PROMPTS[0])[0] + 6


def test_a_streamer_in_a_thread_keeps_the_trace_it_was_made_in(tiny: Tiny, spans: Recorded) -> None:
    """The way streaming is done: the reader's span is the parent although the thread has no context."""
    with limelight.context(session_id="s1"), limelight.span("answer") as outer:
        streamer = _streamer(tiny)
        options = {**tiny.inputs(PROMPTS[0]), "streamer": streamer, "max_new_tokens": 4, "min_new_tokens": 4}
        thread = threading.Thread(target=tiny.model.generate, kwargs=options, daemon=True)
        thread.start()
        pieces = list(streamer)
        thread.join(60)
    (call,) = spans.named(f"text_completion {tiny.path}")
    assert (call.trace_id, call.parent_id) == (outer.trace_id, outer.span_id)
    assert call.attributes["session.id"] == "s1"
    assert "gen_ai.output.messages" not in call.attributes  # its text begins with the prompt
    assert len(pieces) > 1


def test_a_thread_with_a_context_of_its_own_keeps_that(tiny: Tiny, spans: Recorded) -> None:
    streamer = _streamer(tiny)
    with limelight.span("other") as outer:
        work = contextvars.copy_context().run
    options = {**tiny.inputs(PROMPTS[0]), "streamer": streamer, "max_new_tokens": 2}
    thread = threading.Thread(target=lambda: work(tiny.model.generate, **options), daemon=True)
    thread.start()
    list(streamer)
    thread.join(60)
    (call,) = spans.named(f"text_completion {tiny.path}")
    assert call.parent_id == outer.span_id


def test_a_streamer_of_the_users_own(tiny: Tiny, spans: Recorded) -> None:
    from transformers.generation.streamers import BaseStreamer

    class Slotted(BaseStreamer):
        def __init__(self) -> None:
            self.taken: list[int] = []

        def put(self, value: Any) -> None:
            self.taken.append(value.numel())

        def end(self) -> None:
            self.taken.append(-1)

    class Failing(Slotted):
        def put(self, value: Any) -> None:
            super().put(value)
            if len(self.taken) == 3:
                raise RuntimeError("full")

    streamer = Slotted()
    tiny.model.generate(**tiny.inputs(PROMPTS[0]), streamer=streamer, max_new_tokens=3, min_new_tokens=3)
    assert streamer.taken == [_lengths(tiny, PROMPTS[0])[0], 1, 1, 1, -1]
    with pytest.raises(RuntimeError, match="full"):
        tiny.model.generate(**tiny.inputs(PROMPTS[0]), streamer=(failing := Failing()), max_new_tokens=9)
    assert vars(failing).keys() == {"taken"}
    whole, broken = (span.attributes for span in spans.spans())
    assert "gen_ai.response.time_to_first_chunk" in whole
    assert broken["error.type"] == "RuntimeError"
    assert "gen_ai.usage.output_tokens" not in broken


# -- the pipeline ------------------------------------------------------------------------------------------------------
def test_a_pipeline_call_is_one_span(tiny: Tiny, pipe: Any, spans: Recorded) -> None:
    (record,) = pipe(PROMPTS[0], max_new_tokens=5, min_new_tokens=5, do_sample=False)
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind) == (f"text_completion {tiny.path}", "internal")
    assert seen["gen_ai.usage.input_tokens"] == _lengths(tiny, PROMPTS[0])[0]
    assert seen["gen_ai.usage.output_tokens"] == seen["gen_ai.request.max_tokens"] == 5
    assert seen["gen_ai.response.finish_reasons"] == ["length"]
    assert json.loads(seen["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": PROMPTS[0]}]
    (answer,) = json.loads(seen["gen_ai.output.messages"])
    assert PROMPTS[0] + answer["parts"][0]["content"] == record["generated_text"]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_list_is_one_span_a_prompt_with_its_own_counts(
    batch_size: int, tiny: Tiny, pipe: Any, spans: Recorded
) -> None:
    results = pipe(
        PROMPTS, batch_size=batch_size, max_new_tokens=4, min_new_tokens=4, num_return_sequences=2, do_sample=True
    )
    *requests, batch = sorted(spans.spans(), key=lambda span: (span.parent_id == "", span.span_id))
    assert batch.attributes == {"limelight.kind": "chain", "limelight.batch.size": 3}
    for span, prompt, records, length in zip(requests, PROMPTS, results, _lengths(tiny, *PROMPTS), strict=True):
        seen = span.attributes
        assert span.parent_id == batch.span_id
        assert batch.start_ns < span.start_ns < span.end_ns < batch.end_ns
        assert seen["gen_ai.usage.input_tokens"] == length
        assert seen["gen_ai.usage.output_tokens"] == 2 * 4
        assert seen["gen_ai.request.choice.count"] == 2
        assert json.loads(seen["gen_ai.input.messages"])[0]["parts"][0]["content"] == prompt
        texts = [message["parts"][0]["content"] for message in json.loads(seen["gen_ai.output.messages"])]
        assert [prompt + text for text in texts] == [record["generated_text"] for record in records]


def test_chats(tiny: Tiny, pipe: Any, spans: Recorded) -> None:
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    (record,) = pipe(chat, max_new_tokens=3)
    results = pipe([chat, chat[1:]], max_new_tokens=3, return_full_text=False)
    one, *others = [span for span in spans.spans() if span.name == f"chat {tiny.path}"]
    said = json.loads(one.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in said] == ["system", "user"]
    rendered = tiny.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    assert one.attributes["gen_ai.usage.input_tokens"] == len(rendered["input_ids"])
    answers = [json.loads(span.attributes["gen_ai.output.messages"])[0] for span in (one, *others)]
    texts = [answer["parts"][0]["content"] for answer in answers]
    assert texts == [record["generated_text"][-1]["content"], *(result[0]["generated_text"] for result in results)]


def test_what_is_read_lazily_stays_lazy(tiny: Tiny, pipe: Any, spans: Recorded) -> None:
    taken: list[str] = []

    def prompts() -> Any:
        for prompt in PROMPTS:
            taken.append(prompt)
            yield prompt

    results = iter(pipe(prompts(), max_new_tokens=2, min_new_tokens=2))
    next(results)
    assert len(taken) < len(PROMPTS)
    assert len(list(results)) == 2
    found = spans.named(f"text_completion {tiny.path}")
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in found] == _lengths(tiny, *PROMPTS)


def test_a_pipeline_that_streams_and_one_that_fails(tiny: Tiny, pipe: Any, spans: Recorded) -> None:
    streamer = _streamer(tiny)
    pipe(PROMPTS[0], streamer=streamer, max_new_tokens=3, min_new_tokens=3)
    with pytest.raises(ValueError, match="max_new_tokens"):
        pipe(PROMPTS, max_new_tokens=-1)
    streamed, failed = spans.spans()
    assert streamed.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert (failed.name, failed.attributes["error.type"]) == (f"batch {tiny.path}", "ValueError")


def test_token_ids_have_no_text(tiny: Tiny, pipe: Any, spans: Recorded) -> None:
    pipe(PROMPTS[0], max_new_tokens=3, min_new_tokens=3, return_tensors=True)
    seen = spans.only().attributes
    assert seen["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.output.messages" not in seen


def test_no_content_where_none_is_wanted(tiny: Tiny, pipe: Any) -> None:
    with recording(capture="none") as spans:
        pipe(PROMPTS, max_new_tokens=2)
        tiny.model.generate(**tiny.inputs(PROMPTS[0]), streamer=_streamer(tiny, skip_prompt=True), max_new_tokens=2)
        assert not [name for span in spans.spans() for name in span.attributes if name.endswith("messages")]


def test_uninstrument_restores_the_identical_methods(tiny: Tiny, pipe: Any) -> None:
    from transformers import GenerationMixin, TextStreamer

    owners = [(GenerationMixin, "generate"), (type(pipe), "__call__"), (TextStreamer, "__init__")]
    before = [vars(owner)[name] for owner, name in owners]
    with recording():
        assert [vars(owner)[name] for owner, name in owners] != before
        assert str(GenerationMixin.generate).startswith("<function GenerationMixin.generate")
    assert [vars(owner)[name] for owner, name in owners] == before


def test_a_fault_of_ours_never_reaches_the_user(tiny: Tiny, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from limelight import call
    from limelight.providers import transformers, transformers_run, transformers_texts, transformers_tokens

    options = {"max_new_tokens": 3, "do_sample": False}
    expected = pipe(PROMPTS, **options), tiny.model.generate(**tiny.inputs(PROMPTS[0]), **options).tolist()
    for module in (transformers, transformers_run, transformers_texts, transformers_tokens):
        for owner, name in functions(module):
            with recording(), monkeypatch.context() as patched:
                patched.setattr(owner, name, _broken)
                streamer = _streamer(tiny)
                got = (
                    pipe(PROMPTS, **options),
                    tiny.model.generate(**tiny.inputs(PROMPTS[0]), streamer=streamer, **options).tolist(),
                )
                assert got == expected, name
                assert len(list(streamer)) > 1
                call.forget_all()


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")
