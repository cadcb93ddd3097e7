"""The cardinal rule: break every function of ours in turn, and the user's calls give the same results."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from limelight import call, content, stream
from limelight.testing import recording
from sdk.server import Peer, json_reply, ndjson_reply
from sdk.test_ollama import ANSWER, STREAM
from sdk.test_ollama import MESSAGES as OLLAMA_MESSAGES
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES, RESPONSE, _async_client, _client, _stream_reply

openai = pytest.importorskip("openai")
ollama = pytest.importorskip("ollama")

from limelight.providers import ollama as our_ollama  # noqa: E402
from limelight.providers import openai as our_openai  # noqa: E402
from limelight.providers import openai_answers, openai_messages, openai_streams  # noqa: E402

# the iterators that stand in for a vendor's are the one place chunks pass through; their steps cannot be taken away
_STEPS = {stream.Steps, stream.AsyncSteps, stream._Followed}
# generator bodies: a fault in them is a fault at their first step, which `relay` (broken below) stands for
_BODIES = {"_relay", "_relay_async"}


def _functions() -> Iterator[tuple[Any, str]]:
    modules: list[ModuleType] = [
        call,
        content,
        stream,
        our_openai,
        our_ollama,
        openai_answers,
        openai_messages,
        openai_streams,
    ]
    for module in modules:
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__ or name in _BODIES:
                continue
            if inspect.isfunction(value):
                yield module, name
            elif inspect.isclass(value) and value not in _STEPS and not issubclass(value, Exception):
                for method, body in vars(value).items():
                    if inspect.isfunction(body) and (method == "__init__" or not method.startswith("__")):
                        yield value, method


def _ids(target: tuple[Any, str]) -> str:
    return f"{target[0].__name__.rpartition('.')[2]}.{target[1]}"


class Session:
    """One server and one client of each kind for all faults: clients are slow to make."""

    def __init__(self, peer: Peer) -> None:
        self.says = peer.says
        self.openai, self.async_openai = _client(peer), _async_client(peer)
        self.ollama = ollama.Client(peer.url)
        self.loop = asyncio.new_event_loop()

    def run(self, operation: Any) -> Any:
        return self.loop.run_until_complete(operation)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Peer() as peer:
        session = Session(peer)
        yield session
        session.run(session.async_openai.close())
        session.loop.close()


def _plain(session: Session) -> Any:
    session.says(json_reply(COMPLETION))
    return session.openai.chat.completions.create(model="m", messages=MESSAGES).model_dump(exclude_unset=True)


def _streamed(session: Session) -> Any:
    session.says(_stream_reply)
    with session.openai.chat.completions.create(model="m", messages=MESSAGES, stream=True) as chunks:
        return [chunk.model_dump(exclude_unset=True) for chunk in chunks]


async def _asynchronous(session: Session) -> Any:
    client = session.async_openai
    session.says(json_reply(RESPONSE))
    answer = await client.responses.create(model="m", input="hi")
    session.says(_stream_reply)
    chunks = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return answer.output_text, [chunk.model_dump(exclude_unset=True) async for chunk in chunks]


def _ollama_calls(session: Session) -> Any:
    session.says(json_reply(ANSWER), ndjson_reply(STREAM))
    whole = session.ollama.chat("m", OLLAMA_MESSAGES).message.content
    return whole, [chunk.message.content for chunk in session.ollama.chat("m", OLLAMA_MESSAGES, stream=True)]


def _failing(session: Session) -> Any:
    session.says(json_reply({"error": {"message": "no"}}, 400))
    try:
        return session.openai.chat.completions.create(model="m", messages=MESSAGES)
    except openai.BadRequestError as error:
        return type(error)


EXPECTED: list[tuple[Callable[[Session], Any], Any]] = [
    (_plain, COMPLETION),
    (_streamed, CHUNKS),
    (lambda session: session.run(_asynchronous(session)), ("Hello", CHUNKS)),
    (_ollama_calls, ("Hello", ["", "Hel", "lo", ""])),
    (_failing, openai.BadRequestError),
]


@pytest.mark.swallows
@pytest.mark.parametrize("target", [*_functions()], ids=_ids)
def test_a_fault_of_ours_never_reaches_the_user(
    target: tuple[Any, str], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = target

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError(f"injected into {name}")

    with recording():
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, broken)
            for operation, expected in EXPECTED:
                assert operation(session) == expected
        call.forget_all()  # what broke half-way stays open
