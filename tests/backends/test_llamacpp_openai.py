"""The `openai` client against a real llama.cpp server: our counts are its counts, answer by answer and in total."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request

import openai
import pytest

from limelight.testing import Recorded

pytestmark = pytest.mark.backend

QUESTIONS = ["Name a colour.", "Name a colour and a city in France.", "Count to five."]


def _counter(base: str, name: str) -> int:
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        return round(float(re.search(rf"^llamacpp:{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1]))


def _messages(question: str) -> list:
    return [{"role": "system", "content": "You answer in one short sentence."}, {"role": "user", "content": question}]


def _plain(client, question: str):
    return client.chat.completions.create(model="smollm2", messages=_messages(question), max_tokens=12, seed=1).usage


def _streamed(client, question: str):
    usage = {"include_usage": True}
    stream = client.chat.completions.create(
        model="smollm2", messages=_messages(question), max_tokens=12, stream=True, stream_options=usage
    )
    return list(stream)[-1].usage


def _streamed_without_asking(client, question: str) -> None:
    chunks = list(
        client.chat.completions.create(model="smollm2", messages=_messages(question), max_tokens=12, stream=True)
    )
    assert all(chunk.choices for chunk in chunks)


async def _asynchronous(base: str, question: str):
    async with openai.AsyncOpenAI(api_key="none", base_url=f"{base}/v1") as client:
        answer = await client.chat.completions.create(model="smollm2", messages=_messages(question), max_tokens=12)
    return answer.usage


def test_token_counts_equal_each_answer_and_the_servers_own_counters(llamacpp: str, spans: Recorded) -> None:
    usages = []
    with openai.OpenAI(api_key="none", base_url=f"{llamacpp}/v1") as client:
        for question in QUESTIONS:
            usages += [_plain(client, question), _streamed(client, question)]
            usages.append(asyncio.run(_asynchronous(llamacpp, question)))
        said = [span.attributes for span in spans.spans()]
        for usage, seen in zip(usages, said, strict=True):
            assert seen["gen_ai.usage.input_tokens"] == usage.prompt_tokens
            assert seen["gen_ai.usage.output_tokens"] == usage.completion_tokens
            assert seen["gen_ai.usage.cache_read.input_tokens"] == usage.prompt_tokens_details.cached_tokens
        _streamed_without_asking(client, QUESTIONS[0])
    said = [span.attributes for span in spans.spans()]
    read = sum(seen["gen_ai.usage.cache_read.input_tokens"] for seen in said)
    assert read > 0  # the same prompts again: the server reuses what it has
    # the counter has only what was evaluated; `prompt_tokens` includes what was reused
    evaluated = sum(seen["gen_ai.usage.input_tokens"] for seen in said) - read
    assert evaluated == _counter(llamacpp, "prompt_tokens_total")
    assert sum(seen["gen_ai.usage.output_tokens"] for seen in said) == _counter(llamacpp, "tokens_predicted_total")
    for seen in said:
        assert seen["gen_ai.latency.time_in_model_prefill"] > 0
        assert seen["gen_ai.latency.time_in_model_decode"] > 0
        assert json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"]


def test_a_stream_left_early_has_a_first_chunk_and_no_invented_counts(llamacpp: str, spans: Recorded) -> None:
    with (
        openai.OpenAI(api_key="none", base_url=f"{llamacpp}/v1") as client,
        client.chat.completions.create(
            model="smollm2", messages=_messages("Tell a long story."), max_tokens=60, stream=True
        ) as stream,
    ):
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    seen = spans.only().attributes
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert "gen_ai.usage.output_tokens" not in seen


def test_a_real_error_is_recorded_as_the_client_raises_it(llamacpp: str, spans: Recorded) -> None:
    with (
        openai.OpenAI(api_key="none", base_url=f"{llamacpp}/v1", max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="smollm2", messages=_messages("word " * 4000), max_tokens=4)
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "openai.BadRequestError")
    assert span.status_message == str(caught.value)
