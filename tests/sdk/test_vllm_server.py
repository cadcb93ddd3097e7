"""The real `openai` client against answers as vLLM's server writes them (recorded from 0.32)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from limelight.testing import Recorded
from sdk.server import Peer, json_reply, sse_reply

openai = pytest.importorskip("openai")

from limelight.providers import vllm_server  # noqa: E402

MESSAGES: Any = [{"role": "user", "content": "hi"}]
FINGERPRINT = "vllm-0.32.0-1a2b3c4d"
METRICS = {"time_to_first_token_ms": 25.0, "generation_time_ms": 50.0, "queue_time_ms": 2.0, "mean_itl_ms": 25.0}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 3,
    "total_tokens": 23,
    "prompt_tokens_details": {"cached_tokens": 16, "created_cache_tokens": 4, "multimodal_tokens": None},
    "completion_tokens_details": None,
}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "tiny"}
ANSWER = {
    **HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "reasoning": None},
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": FINGERPRINT,
    "usage": USAGE,
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "kv_transfer_params": None,
    "metrics": METRICS,
}


def _chunk(text: str, *, index: int = 0, usage: int | None = None, **last: Any) -> dict[str, Any]:
    made = {"usage": {"prompt_tokens": 20, "completion_tokens": usage, "total_tokens": 20 + usage}} if usage else {}
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None, **last}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **made}


LAST = {
    **HEAD,
    "object": "chat.completion.chunk",
    "choices": [],
    "usage": USAGE,
    "system_fingerprint": FINGERPRINT,
    "metrics": METRICS,
}
CONTINUOUS = [_chunk("Hel", usage=1), _chunk("lo", usage=2), _chunk("!", usage=3, finish_reason="length")]


@pytest.fixture(autouse=True)
def nobody_known() -> Iterator[None]:
    vllm_server._known.clear()
    yield
    vllm_server._known.clear()


def _client(peer: Peer) -> Any:
    return openai.OpenAI(api_key="k", base_url=f"{peer.url}/v1", max_retries=0)


def _create(peer: Peer, **options: Any) -> Any:
    return _client(peer).chat.completions.create(model="tiny", messages=MESSAGES, **options)


def _assert_served_by_vllm(attributes: dict[str, Any]) -> None:
    expected = {
        "gen_ai.provider.name": "vllm",
        "openai.response.system_fingerprint": FINGERPRINT,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.usage.cache_write.input_tokens": 4,
        "gen_ai.latency.time_in_queue": 0.002,
        "gen_ai.latency.time_in_model_prefill": 0.025,
        "gen_ai.latency.time_in_model_decode": 0.05,
        "gen_ai.response.finish_reasons": ["length"],
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert "gen_ai.usage.reasoning.output_tokens" not in attributes


def test_a_whole_answer(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    _create(peer)
    _assert_served_by_vllm(spans.only().attributes)


def test_a_server_without_fingerprint_is_known_by_its_other_fields(peer: Peer, spans: Recorded) -> None:
    older = {name: value for name, value in ANSWER.items() if name not in {"system_fingerprint", "metrics"}}
    peer.says(json_reply(older))
    _create(peer)
    seen = spans.only().attributes
    assert seen["gen_ai.provider.name"] == "vllm"
    assert "gen_ai.latency.time_in_queue" not in seen


def test_an_embedding(peer: Peer, spans: Recorded) -> None:
    vector = {"index": 0, "object": "embedding", "embedding": [0.1, 0.2]}
    usage = {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": None}
    peer.says(json_reply({"id": "embd-1", "object": "list", "model": "tiny", "data": [vector], "usage": usage}))
    _client(peer).embeddings.create(model="tiny", input="hi", encoding_format="float")
    seen = spans.only().attributes
    assert (seen["gen_ai.provider.name"], seen["gen_ai.usage.input_tokens"]) == ("vllm", 4)


def test_a_stream_tells_at_its_end(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply([_chunk("Hel"), _chunk("lo", finish_reason="length"), LAST]))
    assert [chunk.choices[0].delta.content for chunk in _create(peer, stream=True)] == ["Hel", "lo"]
    _assert_served_by_vllm(spans.only().attributes)


def test_what_was_recognised_once_is_known_when_a_request_fails(peer: Peer, spans: Recorded) -> None:
    failed = json_reply({"error": {"message": "no", "type": "BadRequestError", "code": 400}}, 400)
    peer.says(failed, json_reply(ANSWER), failed, failed)
    for model in ("tiny", "tiny", "tiny", "other"):
        try:
            _client(peer).chat.completions.create(model=model, messages=MESSAGES)
        except openai.BadRequestError:
            continue
    found = [span.attributes["gen_ai.provider.name"] for span in spans.spans()]
    assert found == ["openai", "vllm", "vllm", "openai"]


def test_continuous_usage_the_user_asked_for(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply([*CONTINUOUS, LAST]))
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(_create(peer, stream=True, stream_options=options))
    assert [chunk.usage.completion_tokens for chunk in chunks] == [1, 2, 3, 3]
    assert peer.asked[0].json()["stream_options"] == options
    _assert_served_by_vllm(spans.only().attributes)


def test_continuous_usage_alone_is_sent_as_it_is(peer: Peer, spans: Recorded) -> None:
    """The server heeds it only beside `include_usage`: to add that would change every chunk the user sees."""
    peer.says(sse_reply([_chunk("Hel"), _chunk("lo", finish_reason="length", usage=None)]))
    list(_create(peer, stream=True, stream_options={"continuous_usage_stats": True}))
    assert peer.asked[0].json()["stream_options"] == {"continuous_usage_stats": True}
    assert "gen_ai.usage.output_tokens" not in spans.only().attributes


def test_a_server_that_sends_usage_to_everyone_keeps_its_last_chunk(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply([*CONTINUOUS, LAST]))
    chunks = list(_create(peer, stream=True))
    assert [len(chunk.choices) for chunk in chunks] == [1, 1, 1, 0]
    _assert_served_by_vllm(spans.only().attributes)


def test_a_cut_stream_counts_what_its_last_chunk_said(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CONTINUOUS[:2], done=False, cut=True))
    with pytest.raises(Exception, match=r"(?i)connection error|peer closed"):
        list(_create(peer, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
    seen = spans.only().attributes
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (20, 2)


def test_a_cut_stream_of_two_choices_counts_nothing(peer: Peer, spans: Recorded) -> None:
    """A chunk's usage is that of its own choice: no sum is told before the end."""
    peer.says(sse_reply([_chunk("a", usage=1), _chunk("b", index=1, usage=1)], done=False, cut=True))
    with pytest.raises(Exception, match=r"(?i)connection error|peer closed"):
        list(_create(peer, n=2, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
    assert "gen_ai.usage.output_tokens" not in spans.only().attributes


def test_openai_stays_openai(peer: Peer, spans: Recorded) -> None:
    """By its own name a host is believed, whatever stands behind it answers."""
    httpx = pytest.importorskip("httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx")

    def elsewhere(request: Any) -> Any:
        return httpx.Response(200, json=ANSWER, request=request)

    http = httpx.Client(transport=httpx.MockTransport(elsewhere))
    with openai.OpenAI(api_key="k", http_client=http) as client:
        client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert spans.only().attributes["gen_ai.provider.name"] == "openai"


def test_what_is_known_is_bounded(peer: Peer, spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_server, "_MAX_KNOWN", 2)
    peer.says(json_reply(ANSWER))
    for model in ("a", "b", "c"):
        _client(peer).chat.completions.create(model=model, messages=MESSAGES)
    assert [model for _, _, model in vllm_server._known] == ["b", "c"]
