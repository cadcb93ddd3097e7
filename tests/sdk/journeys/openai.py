"""OpenAI's library: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import openai

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES, RESPONSE, _events, _stream_reply

LIBRARY = "openai"
EMBEDDING = {
    "object": "list",
    "model": "e-1",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
TEXT_HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m-1"}
TEXT_CHOICE = {"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}
TEXT_COMPLETION = {
    **TEXT_HEAD,
    "choices": [TEXT_CHOICE],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
TEXT_CHUNKS = [
    {**TEXT_HEAD, "choices": [{**TEXT_CHOICE, "text": text, "finish_reason": None}]} for text in ("Hel", "lo")
]
COMPLETED = {"type": "response.completed", "sequence_number": 3, "response": RESPONSE}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        options = {"api_key": "k", "base_url": f"{peer.url}/v1", "max_retries": 0}
        self.client, self.aclient = openai.OpenAI(**options), openai.AsyncOpenAI(**options)

    def close(self) -> None:
        self.client.close()
        self.loop.run_until_complete(self.aclient.close())


def plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True)


def _chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return plain(desk.client.chat.completions.create(model="m", messages=MESSAGES))


def _async_chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return plain(desk.loop.run_until_complete(desk.aclient.chat.completions.create(model="m", messages=MESSAGES)))


def _response(desk: Desk) -> Any:
    desk.peer.says(json_reply(RESPONSE))
    return plain(desk.client.responses.create(model="m", input="hi", instructions="be brief"))


def _embedding(desk: Desk) -> Any:
    desk.peer.says(json_reply(EMBEDDING))
    return plain(desk.client.embeddings.create(model="e", input="hi", encoding_format="float"))


def _raw(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return plain(desk.client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES).parse())


def _streaming(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    with desk.client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES) as response:
        return response.json()


def _completion(desk: Desk) -> Any:
    desk.peer.says(json_reply(TEXT_COMPLETION))
    return plain(desk.client.completions.create(model="m", prompt="hi"))


def _fetched(desk: Desk) -> Any:
    desk.peer.says(json_reply(RESPONSE))
    return plain(desk.client.responses.retrieve("resp_1"))


def _helper(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    with desk.client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        return [event.type for event in stream], plain(stream.get_final_completion())


def _async_helper(desk: Desk) -> Any:
    async def run() -> Any:
        async with desk.aclient.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            return [event.type async for event in stream], plain(await stream.get_final_completion())

    desk.peer.says(_stream_reply)
    return desk.loop.run_until_complete(run())


def _response_helper(desk: Desk) -> Any:
    desk.peer.says(sse_reply(_events(COMPLETED), named=True))
    with desk.client.responses.stream(model="m", input="hi") as stream:
        return [event.type for event in stream]


def _raw_stream(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    options: Any = {"model": "m", "messages": MESSAGES, "stream": True}
    with desk.client.chat.completions.with_streaming_response.create(**options) as response:
        return list(response.iter_lines())


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"message": "slow down"}}, 429))
    return desk.client.chat.completions.create(model="m", messages=MESSAGES)


def _wrongly_called(desk: Desk) -> Any:
    return desk.client.chat.completions.create(model="m")


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    received = []
    try:
        for chunk in desk.client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            received.append(plain(chunk))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open_chat(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    return desk.client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def _open_async_chat(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    return await desk.aclient.chat.completions.create(model="m", messages=MESSAGES, stream=True)


def _open_response(desk: Desk) -> Any:
    desk.peer.says(sse_reply(_events(COMPLETED), named=True))
    return desk.client.responses.create(model="m", input="hi", stream=True)


async def _open_async_response(desk: Desk) -> Any:
    desk.peer.says(sse_reply(_events(COMPLETED), named=True))
    return await desk.aclient.responses.create(model="m", input="hi", stream=True)


def _open_completion(desk: Desk) -> Any:
    desk.peer.says(sse_reply(TEXT_CHUNKS))
    return desk.client.completions.create(model="m", prompt="hi", stream=True)


def _open_raw(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    create = desk.client.chat.completions.with_raw_response.create
    return create(model="m", messages=MESSAGES, stream=True).parse()


async def _open_async_raw(desk: Desk) -> Any:
    desk.peer.says(_stream_reply)
    create = desk.aclient.chat.completions.with_raw_response.create
    return (await create(model="m", messages=MESSAGES, stream=True)).parse()


JOURNEYS = [
    Journey("chat", _chat),
    Journey("async chat", _async_chat),
    Journey("response", _response),
    Journey("embedding", _embedding),
    Journey("raw response", _raw),
    Journey("streaming response", _streaming),
    Journey("completion", _completion),
    Journey("fetched response", _fetched),
    Journey("stream helper", _helper),
    Journey("async stream helper", _async_helper),
    Journey("response stream helper", _response_helper),
    Journey("lines of a streaming response", _raw_stream),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("chat", _open_chat, plain),
    Stream("async chat", _open_async_chat, plain, is_async=True),
    Stream("response", _open_response, plain),
    Stream("async response", _open_async_response, plain, is_async=True),
    Stream("completion", _open_completion, plain),
    Stream("raw", _open_raw, plain),
    Stream("async raw", _open_async_raw, plain, is_async=True),
]


def _arguments() -> dict[str, Any]:
    return {
        "model": "m",
        "messages": copy.deepcopy(MESSAGES),
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "temperature": 0.5,
        "max_tokens": 9,
        "n": 1,
        "stop": ["a", "b"],
        "response_format": {"type": "json_object"},
        "metadata": {"k": "v"},
        "extra_body": {"x": 1},
        "extra_headers": {"x-mine": "1"},
    }


def _response_arguments() -> dict[str, Any]:
    content = [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "data:image/png;base64,aGk="}]
    return {
        "model": "m",
        "input": [
            {"role": "user", "content": content},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
        ],
        "instructions": "be brief",
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}},
    }


ASKS = [
    Ask("chat", lambda desk, asked: desk.client.chat.completions.create(**asked), _arguments, json_reply(COMPLETION)),
    Ask(
        "streamed chat",
        lambda desk, asked: list(desk.client.chat.completions.create(stream=True, **asked)),
        lambda: {"model": "m", "messages": copy.deepcopy(MESSAGES), "stream_options": {"include_usage": True}},
        sse_reply(CHUNKS),
    ),
    Ask(
        "response", lambda desk, asked: desk.client.responses.create(**asked), _response_arguments, json_reply(RESPONSE)
    ),
    Ask(
        "streamed response",
        lambda desk, asked: list(desk.client.responses.create(stream=True, **asked)),
        lambda: {"model": "m", "input": "hi"},
        sse_reply(_events(COMPLETED), named=True),
    ),
    Ask(
        "completion",
        lambda desk, asked: desk.client.completions.create(**asked),
        lambda: {"model": "m", "prompt": ["hi", "ho"], "stop": "a"},
        json_reply(TEXT_COMPLETION),
    ),
    Ask(
        "embedding",
        lambda desk, asked: desk.client.embeddings.create(encoding_format="float", **asked),
        lambda: {"model": "m", "input": ["hi", "ho"], "dimensions": 2},
        json_reply(EMBEDDING),
    ),
]
