"""What models answer besides plain text, and servers other than OpenAI's, through the real `openai` client."""

from __future__ import annotations

import base64
import json

import pytest

from limelight.testing import Recorded
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import (
    CHUNKS,
    COMPLETION,
    HEAD,
    MESSAGES,
    RESPONSE,
    _assert_usage,
    _async_client,
    _client,
    _stream_reply,
)
from sdk.test_openai import _chunk as chunk

openai = pytest.importorskip("openai")

SOUND = base64.b64encode(b"sound").decode()


def _answer(*messages: dict, finish: str = "stop", **more) -> dict:
    choices = [
        {"index": n, "finish_reason": finish, "message": {"role": "assistant", "content": None, **message}}
        for n, message in enumerate(messages)
    ]
    return {**COMPLETION, "choices": choices, **more}


def _asked(peer: Peer, answer: dict, **asked):
    peer.says(json_reply(answer))
    return _client(peer).chat.completions.create(**{"model": "m", "messages": MESSAGES, **asked})


def _outputs(attributes: dict) -> list[dict]:
    return json.loads(attributes["gen_ai.output.messages"])


def test_several_choices_a_refusal_and_a_custom_tool(peer: Peer, spans: Recorded) -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    _asked(peer, _answer({"content": "a"}, {"refusal": "no"}, {"tool_calls": [custom]}), n=3, logprobs=True)
    seen = spans.only().attributes
    assert seen["gen_ai.request.choice.count"] == 3
    assert seen["gen_ai.response.finish_reasons"] == ["stop", "stop", "stop"]
    assert [message["parts"] for message in _outputs(seen)] == [
        [{"type": "text", "content": "a"}],
        [{"type": "refusal", "content": "no"}],
        [{"type": "tool_call", "id": "c1", "name": "shell", "arguments": "ls"}],
    ]


def test_several_streamed_choices(peer: Peer, spans: Recorded) -> None:
    def of(index: int, delta: dict, finish: str | None = None) -> dict:
        return {**chunk({}), "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}

    logprob = {"content": [{"token": "b", "logprob": -0.1, "bytes": None, "top_logprobs": []}], "refusal": None}
    with_logprobs = of(0, {"content": "b"})
    with_logprobs["choices"][0]["logprobs"] = logprob
    call = {"name": "f", "arguments": '{"a":'}
    events = [
        of(0, {"role": "assistant", "content": "a"}),
        of(1, {"refusal": "n"}),
        with_logprobs,
        of(1, {"refusal": "o"}),
        of(2, {"function_call": call}),
        of(2, {"function_call": {"arguments": "1}"}}),
        *(of(index, {}, finish) for index, finish in enumerate(("stop", "content_filter", "function_call"))),
    ]
    peer.says(sse_reply(events))
    list(_client(peer).chat.completions.create(model="m", messages=[], stream=True, n=3))
    seen = spans.only().attributes
    assert seen["gen_ai.response.finish_reasons"] == ["stop", "content_filter", "function_call"]
    assert [message["parts"] for message in _outputs(seen)] == [
        [{"type": "text", "content": "ab"}],
        [{"type": "refusal", "content": "no"}],
        [{"type": "tool_call", "name": "f", "arguments": '{"a":1}'}],
    ]


def test_sound_in_and_out(peer: Peer, spans: Recorded) -> None:
    spoken = {"id": "a1", "data": SOUND, "expires_at": 1, "transcript": "hey"}
    heard = {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}
    again = {"role": "assistant", "audio": {"id": "a0"}}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "total_tokens": 17,
        "prompt_tokens_details": {"audio_tokens": 5, "text_tokens": 4},
        "completion_tokens_details": {"audio_tokens": 6, "text_tokens": 2},
    }
    messages = [{"role": "user", "content": [heard]}, again]
    asked = {"messages": messages, "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    _asked(peer, _answer({"audio": spoken}, usage=usage), **asked)
    peer.says(
        sse_reply(
            [
                chunk({"role": "assistant", "audio": {"id": "a1", "transcript": "he"}}),
                chunk({"audio": {"id": "a1", "data": base64.b64encode(b"so").decode()}}),
                chunk({"audio": {"id": "a1", "transcript": "y", "data": base64.b64encode(b"und").decode()}}),
                chunk({}, "stop"),
            ]
        )
    )
    list(_client(peer).chat.completions.create(model="m", stream=True, **asked))
    whole, streamed = (span.attributes for span in spans.spans())
    for seen in (whole, streamed):
        text, sound = _outputs(seen)[0]["parts"]
        assert text == {"type": "text", "content": "hey"}
        assert (sound["type"], sound["modality"], sound["size"]) == ("blob", "audio", 5)
        assert seen["gen_ai.output.type"] == "speech"
    assert _outputs(whole)[0]["parts"][1]["sha256"] == _outputs(streamed)[0]["parts"][1]["sha256"]
    user, assistant = json.loads(whole["gen_ai.input.messages"])
    assert (user["parts"][0]["mime_type"], user["parts"][0]["size"]) == ("audio/wav", 5)
    assert assistant["parts"] == [{"type": "file", "file_id": "a0", "modality": "audio"}]
    counts = {
        "gen_ai.usage.audio.input_tokens": 5,
        "gen_ai.usage.audio.output_tokens": 6,
        "gen_ai.usage.text.input_tokens": 4,
        "gen_ai.usage.text.output_tokens": 2,
    }
    assert {name: whole.get(name) for name in counts} == counts
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0


def test_predictions_and_tiers(peer: Peer, spans: Recorded) -> None:
    details = {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 2, "reasoning_tokens": 0}
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "completion_tokens_details": details}
    _asked(
        peer,
        _answer({"content": "x"}, usage=usage, service_tier="flex"),
        prediction={"type": "content", "content": "x"},
        service_tier="flex",
        max_completion_tokens=7,
        reasoning_effort="low",
    )
    seen = spans.only().attributes
    expected = {
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "limelight.usage.accepted_prediction_tokens": 3,
        "limelight.usage.rejected_prediction_tokens": 2,
        "openai.request.service_tier": "flex",
        "openai.response.service_tier": "flex",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.reasoning.level": "low",
    }
    assert {name: seen.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(  # xAI counts reasoning beside the completion
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 235,
                "completion_tokens_details": {"reasoning_tokens": 194},
            },
            {"input": 32, "output": 203, "reasoning.output": 194},
            id="xai",
        ),
        pytest.param(
            {
                "prompt_tokens": 20,
                "completion_tokens": 7,
                "total_tokens": 27,
                "prompt_cache_hit_tokens": 8,
                "prompt_cache_miss_tokens": 12,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            {"input": 20, "output": 7, "cache_read.input": 8, "reasoning.output": 3},
            id="deepseek",
        ),
        pytest.param(
            {
                "prompt_tokens": 20,
                "completion_tokens": 7,
                "total_tokens": 27,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            {"input": 20, "output": 7, "cache_read.input": 8, "reasoning.output": 3},
            id="mistral",
        ),
    ],
)
def test_what_other_servers_count(peer: Peer, spans: Recorded, usage: dict, expected: dict) -> None:
    _asked(peer, _answer({"content": "x", "reasoning_content": "hm"}, usage=usage))
    seen = spans.only().attributes
    counts = {name.removeprefix("gen_ai.usage."): seen[name] for name in seen if name.startswith("gen_ai.usage.")}
    assert counts == {f"{name}_tokens": count for name, count in expected.items()}
    assert _outputs(seen)[0]["parts"][0] == {"type": "reasoning", "content": "hm"}


def test_groq_tells_its_times_and_its_usage_unasked(peer: Peer, spans: Recorded) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    times = {"queue_time": 0.25, "prompt_time": 0.5, "completion_time": 1.5, "total_time": 2.0}
    _asked(peer, _answer({"content": "x"}, usage={**usage, **times}, timings=None))
    peer.says(sse_reply([*CHUNKS[:3], {**CHUNKS[-1], "x_groq": {"id": "r", "usage": {**usage, **times}}}]))
    list(_client(peer).chat.completions.create(model="m", messages=[], stream=True))
    for span in spans.spans():
        seen = span.attributes
        assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (5, 2)
        assert seen["gen_ai.latency.time_in_queue"] == 0.25
        assert seen["gen_ai.latency.time_in_model_prefill"] == 0.5
        assert seen["gen_ai.latency.time_in_model_decode"] == 1.5
        assert seen["gen_ai.latency.time_in_model_inference"] == 2.0


TEXT_HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m-1"}


def _text(text: str, finish: str | None = None, index: int = 0) -> dict:
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}


async def test_completions(peer: Peer, spans: Recorded) -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    peer.says(json_reply({**TEXT_HEAD, "choices": [_text("Hello", "stop")], "usage": usage}))
    asked = {"model": "m", "prompt": ["hi", "ho"], "max_tokens": 3, "stop": ["x"]}
    _client(peer).completions.create(**asked)
    streamed = [{**TEXT_HEAD, "choices": [_text("Hel")]}, {**TEXT_HEAD, "choices": [_text("lo", "stop")]}]
    last = {**TEXT_HEAD, "choices": [], "usage": usage}
    peer.says(lambda asked: sse_reply([*streamed, last] if "stream_options" in asked.json() else streamed))
    assert len(list(_client(peer).completions.create(**asked, stream=True))) == 2
    async with _async_client(peer) as client:
        stream = await client.completions.create(**asked, stream=True)
        assert len([chunk async for chunk in stream]) == 2
    assert [("gen_ai.request.stream" in span.attributes) for span in spans.spans()] == [False, True, True]
    for span in spans.spans():
        seen = span.attributes
        assert span.name == "text_completion m"
        assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (2, 1)
        assert seen["gen_ai.response.finish_reasons"] == ["stop"]
        assert seen["gen_ai.request.max_tokens"] == 3
        assert [message["parts"][0]["content"] for message in json.loads(seen["gen_ai.input.messages"])] == ["hi", "ho"]
        assert _outputs(seen)[0]["parts"] == [{"type": "text", "content": "Hello"}]


def _azure(peer: Peer, **options):
    asked = {"azure_endpoint": peer.url, "api_version": "2025-01-01-preview", "api_key": "k", "max_retries": 0}
    return openai.AzureOpenAI(**{**asked, **options})


def test_azure(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    _azure(peer).chat.completions.create(model="my-deployment", messages=MESSAGES)
    _azure(peer, azure_deployment="fixed").chat.completions.create(model="ignored", messages=MESSAGES)
    assert [asked.path.partition("?")[0] for asked in peer.asked] == [
        "/openai/deployments/my-deployment/chat/completions",
        "/openai/deployments/fixed/chat/completions",
    ]
    assert [span.name for span in spans.spans()] == ["chat my-deployment", "chat fixed"]
    for span in spans.spans():
        assert span.attributes["gen_ai.provider.name"] == "azure.ai.openai"
        assert span.attributes["gen_ai.response.model"] == "gpt-4o-2024"


@pytest.mark.parametrize(
    ("version", "more", "asks"),
    [
        ("2025-01-01-preview", {}, True),
        ("2024-09-01-preview", {}, True),
        ("2024-06-01", {}, False),
        ("2025-01-01-preview", {"extra_body": {"data_sources": []}}, False),
    ],
)
def test_azure_is_asked_for_usage_only_where_it_knows_the_option(
    peer: Peer, spans: Recorded, version: str, more: dict, asks: bool
) -> None:
    peer.says(_stream_reply)
    create = _azure(peer, api_version=version).chat.completions.create
    assert len(list(create(model="m", messages=[], stream=True, **more))) == len(CHUNKS)
    assert ("stream_options" in peer.asked[0].json()) is asks
    assert ("gen_ai.usage.input_tokens" in spans.only().attributes) is asks


def test_a_call_is_one_span_with_all_its_attempts(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({"error": {"message": "busy"}}, 500, **{"retry-after-ms": "1"}), json_reply(COMPLETION))
    client = openai.OpenAI(api_key="k", base_url=peer.url, max_retries=1)
    client.chat.completions.create(model="m", messages=MESSAGES)
    assert len(peer.asked) == 2
    assert spans.only().status == "unset"
    _assert_usage(spans.only().attributes)


def test_iterators_are_the_users(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    messages, tools = (message for message in MESSAGES), iter([{"type": "function", "function": {"name": "f"}}])
    _client(peer).chat.completions.create(model="m", messages=messages, tools=tools)
    sent = peer.asked[0].json()
    assert (len(sent["messages"]), len(sent["tools"])) == (4, 1)
    assert not {"gen_ai.input.messages", "gen_ai.tool.definitions"} & spans.only().attributes.keys()
    _assert_usage(spans.only().attributes)


def test_a_whole_answer_of_unknown_shape(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({**HEAD, "object": "chat.completion", "choices": None, "usage": {"prompt_tokens": "many"}}))
    _client(peer).chat.completions.create(model="m", messages=MESSAGES)
    seen = spans.only().attributes
    assert seen["gen_ai.response.id"] == "chatcmpl-1"
    assert not {"gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons"} & seen.keys()


def test_the_tools_of_the_responses_api(peer: Peer, spans: Recorded) -> None:
    image = base64.b64encode(b"image").decode()
    output = [
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "image_generation_call", "id": "ig", "status": "completed", "result": image},
        {"type": "mcp_call", "id": "mc", "name": "look", "arguments": "{}", "server_label": "s", "output": "1"},
        {"type": "custom_tool_call", "id": "ct", "call_id": "c1", "name": "shell", "input": "ls"},
    ]
    peer.says(json_reply({**RESPONSE, "output": output}))
    computer = {"type": "computer_call_output", "call_id": "c0"}
    shot = {"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8="}
    given = [{**computer, "output": shot}, {"type": "function_call_output", "call_id": "c9", "output": [shot]}]
    _client(peer).responses.create(model="m", input=given)
    seen = spans.only().attributes
    search, picture, mcp, custom = _outputs(seen)[0]["parts"]
    assert (search["type"], search["id"], search["name"]) == ("server_tool_call", "ws", "web_search")
    assert search["server_tool_call"]["action"]["query"] == "q"
    assert (picture["type"], picture["modality"], picture["size"]) == ("blob", "image", 5)
    assert (mcp["type"], mcp["name"], mcp["server_tool_call"]["output"]) == ("server_tool_call", "look", "1")
    assert custom == {"type": "tool_call", "id": "c1", "name": "shell", "arguments": "ls"}
    assert seen["gen_ai.response.finish_reasons"] == ["tool_call"]
    shown = json.loads(seen["gen_ai.input.messages"])[1]["parts"][0]["response"][0]
    assert (shown["type"], shown["size"]) == ("blob", 5)
