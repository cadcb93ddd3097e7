"""LiteLLM: what its users do."""

from __future__ import annotations

import asyncio
import copy
import os
import warnings
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or its import looks for a newer price list
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import litellm

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES, USAGE_CHUNK

LIBRARY = "litellm"
EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
REFUSED = {"error": {"message": "slow down"}}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.keys = {"api_key": "k", "api_base": f"{peer.url}/v1", "max_retries": 0}
        litellm.suppress_debug_info = True
        litellm.disable_streaming_logging = True  # it hands each chunk to a thread, which then holds the stream
        warnings.simplefilter("ignore")  # of its objects, and of what it leaves open

    def close(self) -> None:
        litellm.disable_streaming_logging = False


def plain(value: Any) -> Any:
    """Without what LiteLLM makes up anew: the time, and its cost in another place each time."""
    return value.model_dump(exclude_unset=True, exclude={"created"})


def _completion(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return plain(litellm.completion("openai/gpt-4o", MESSAGES, temperature=0, **desk.keys))


def _acompletion(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return plain(desk.loop.run_until_complete(litellm.acompletion("openai/gpt-4o", MESSAGES, **desk.keys)))


def _embedding(desk: Desk) -> Any:
    desk.peer.says(json_reply(EMBEDDING))
    return plain(litellm.embedding("openai/text-embedding-3-small", ["a"], **desk.keys))


def _fallback(desk: Desk) -> Any:
    desk.peer.says(json_reply(REFUSED, 429), json_reply(COMPLETION))
    return plain(litellm.completion("openai/gpt-4.1", MESSAGES, fallbacks=["openai/gpt-4o"], **desk.keys))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply(REFUSED, 429))
    return litellm.completion("openai/gpt-4o", MESSAGES, **desk.keys)


def _wrongly_called(desk: Desk) -> Any:
    return litellm.completion("nobody/knows", MESSAGES)


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    received = []
    try:
        for chunk in litellm.completion("openai/gpt-4o", MESSAGES, stream=True, **desk.keys):
            received.append(plain(chunk))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open(desk: Desk) -> Any:
    desk.peer.says(sse_reply([*CHUNKS, USAGE_CHUNK]))
    return litellm.completion("openai/gpt-4o", MESSAGES, stream=True, **desk.keys)


async def _open_async(desk: Desk) -> Any:
    desk.peer.says(sse_reply([*CHUNKS, USAGE_CHUNK]))
    return await litellm.acompletion("openai/gpt-4o", MESSAGES, stream=True, **desk.keys)


JOURNEYS = [
    Journey("completion", _completion),
    Journey("async completion", _acompletion),
    Journey("embedding", _embedding),
    Journey("fallback", _fallback),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("completion", _open, plain, close=None),
    Stream("async completion", _open_async, plain, is_async=True, close="aclose"),
]


def _arguments() -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    return {
        "model": "openai/gpt-4o",
        "messages": copy.deepcopy(MESSAGES),
        "tools": tools,
        "stop": ["a"],
        "temperature": 0.5,
        "metadata": {"k": "v"},
    }


ASKS = [
    Ask(
        "completion",
        lambda desk, asked: plain(litellm.completion(**asked, **desk.keys)),
        _arguments,
        json_reply(COMPLETION),
    ),
    Ask(
        "embedding",
        lambda desk, asked: plain(litellm.embedding(**asked, **desk.keys)),
        lambda: {"model": "openai/text-embedding-3-small", "input": ["a", "b"]},
        json_reply(EMBEDDING),
    ),
]
