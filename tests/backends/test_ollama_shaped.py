"""The real `ollama` client against an Ollama-shaped peer over real llama.cpp: counts and durations are the server's."""

from __future__ import annotations

import asyncio
import json

import ollama
import pytest

from limelight.testing import Recorded

pytestmark = pytest.mark.backend

MESSAGES = [{"role": "user", "content": "Name a colour."}]
OPTIONS = {"num_predict": 8, "seed": 1}


def _assert_equal(attributes: dict, last) -> None:
    assert attributes["gen_ai.provider.name"] == "ollama"
    assert attributes["gen_ai.usage.input_tokens"] == last.prompt_eval_count > 0
    assert attributes["gen_ai.usage.output_tokens"] == last.eval_count > 0
    assert attributes["gen_ai.latency.time_in_model_prefill"] == last.prompt_eval_duration / 1e9
    assert attributes["gen_ai.latency.time_in_model_decode"] == last.eval_duration / 1e9
    assert attributes["gen_ai.latency.e2e"] == last.total_duration / 1e9
    assert attributes["gen_ai.response.finish_reasons"] == [last.done_reason]
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]


def test_every_way_to_call_says_what_the_server_said(ollama_shaped: str, spans: Recorded) -> None:
    client = ollama.Client(ollama_shaped)
    answers = [client.chat("smollm2", MESSAGES, options=OPTIONS)]
    answers.append(list(client.chat("smollm2", MESSAGES, options=OPTIONS, stream=True))[-1])
    answers.append(client.generate("smollm2", "Name a city.", system="Be brief.", options=OPTIONS))
    answers.append(list(client.generate("smollm2", "Name a city.", options=OPTIONS, stream=True))[-1])

    async def asynchronous() -> list:
        peer = ollama.AsyncClient(ollama_shaped)
        whole = await peer.chat("smollm2", MESSAGES, options=OPTIONS)
        streamed = [chunk async for chunk in await peer.chat("smollm2", MESSAGES, options=OPTIONS, stream=True)]
        await peer.close()
        return [whole, streamed[-1]]

    answers += asyncio.run(asynchronous())
    recorded = spans.spans()
    for span, answer in zip(recorded, answers, strict=True):
        _assert_equal(span.attributes, answer)
    streamed = [span for span in recorded if span.attributes.get("gen_ai.request.stream")]
    assert len(streamed) == 3
    assert all(span.attributes["gen_ai.response.time_to_first_chunk"] > 0 for span in streamed)


def test_an_unknown_model_fails_as_the_client_raises_it(ollama_shaped: str, spans: Recorded) -> None:
    with pytest.raises(ollama.ResponseError, match="not found"):
        ollama.Client(ollama_shaped).chat("llama9", MESSAGES)
    assert spans.only().attributes["error.type"] == "ollama.ResponseError"
