"""Values that nobody should pass, and answers that no server should give: the user gets what they get without us."""

from __future__ import annotations

import copy
import enum
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

import limelight
from limelight import call
from limelight.testing import recording
from sdk.journeys import Desks, libraries
from sdk.server import Reply, json_reply, sse_reply

LIBRARIES = {library.LIBRARY: library for library in libraries()}


class Raising:
    """Answers nothing but an exception."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __str__  # type: ignore[assignment]


class Counting:
    """Counts who asks it to print itself."""

    printed = 0

    def __str__(self) -> str:
        Counting.printed += 1
        return "counted"

    __repr__ = __str__


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Colour(str, enum.Enum):
    RED = "red"


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {"role": "user"}
    cycle["content"] = [cycle]
    return cycle


def _deep(levels: int) -> Any:
    deep: Any = "x"
    for _ in range(levels):
        deep = [deep]
    return deep


def _once() -> Iterator[dict[str, str]]:
    yield {"role": "user", "content": "hi"}


VALUES: dict[str, Callable[[], Any]] = {
    "raising": Raising,
    "counting": Counting,
    "mock": MagicMock,
    "generator": _once,
    "map": lambda: map(dict, [{"role": "user", "content": "hi"}]),
    "cycle": lambda: [_cycle()],
    "deep": lambda: [{"role": "user", "content": _deep(5000)}],
    "wide": lambda: [{"role": "user", "content": "x"}] * 30_000,
    "long": lambda: [{"role": "user", "content": "y" * 5_000_000}],
    "surrogate": lambda: [{"role": "user", "content": "\ud800\x00"}],
    "bytes": lambda: [{"role": "user", "content": b"\xff"}],
    "numbers": lambda: [{"role": "user", "content": [float("nan"), float("inf"), 1 << 20_000]}],
    "words": lambda: [{"role": Word("user"), "content": Colour.RED}],
    "inside": lambda: [{"role": "user", "content": Raising()}, Raising()],
    "none": lambda: None,
    "number": lambda: 7,
}


def _openai(desk: Any, argument: str, value: Any) -> Any:
    arguments = {"model": "m", "messages": [{"role": "user", "content": "hi"}], argument: value}
    return desk.client.chat.completions.create(**arguments).model_dump()


def _anthropic(desk: Any, argument: str, value: Any) -> Any:
    arguments = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], argument: value}
    return desk.client.messages.create(**arguments).model_dump()


def _ollama(desk: Any, argument: str, value: Any) -> Any:
    arguments = {"model": "m", "messages": [{"role": "user", "content": "hi"}], argument: value}
    return desk.client.chat(**arguments).model_dump()


ASKS: dict[str, tuple[Callable[[Any, str, Any], Any], tuple[str, ...]]] = {
    "openai": (_openai, ("messages", "model", "tools", "stop", "temperature", "response_format", "extra_headers")),
    "anthropic": (_anthropic, ("messages", "model", "tools", "system", "temperature", "metadata")),
    "ollama": (_ollama, ("messages", "model", "tools", "options", "format", "think")),
}
CASES = [(name, argument, value) for name, (_, arguments) in ASKS.items() for argument in arguments for value in VALUES]


@pytest.fixture(scope="module")
def desks() -> Iterator[Desks]:
    with Desks() as made:
        yield made


def _answer(library: ModuleType) -> Reply:
    """A whole answer, such as the library's journeys get."""
    module = __import__(f"sdk.test_{library.LIBRARY}", fromlist=["x"])
    names = ("COMPLETION", "MESSAGE", "ANSWER")
    return json_reply(next(getattr(module, name) for name in names if hasattr(module, name)))


def _outcome(ask: Any, desk: Any, argument: str, value: Any) -> tuple[Any, list[bytes]]:
    before = len(desk.peer.asked)
    try:
        told = ask(desk, argument, value)
    except Exception as error:
        # what an exception says may name the value by its address; RecursionError depends on the depth it starts at
        told = type(error).__name__
    return told, [asked.body for asked in desk.peer.asked[before:]]


@pytest.mark.swallows
@pytest.mark.parametrize(("name", "argument", "value"), CASES, ids=lambda part: part)
def test_a_value_reaches_the_library_as_without_us(name: str, argument: str, value: str, desks: Desks) -> None:
    if name not in LIBRARIES:
        pytest.skip(f"{name} is not installed")
    ask, library = ASKS[name][0], LIBRARIES[name]
    desk = desks.of(library)
    desk.peer.says(_answer(library))
    expected, sent = _outcome(ask, desk, argument, VALUES[value]())
    printed, Counting.printed = Counting.printed, 0
    with recording() as recorded:
        told, sent_with_us = _outcome(ask, desk, argument, VALUES[value]())
        assert told == expected
        assert sent_with_us == sent
        if sent:
            span = recorded.only()
            assert all(len(text) <= 2**20 for text in span.attributes.values() if isinstance(text, str))
            # where the library refused the value, its error quotes it, and the error's text is recorded
            assert Counting.printed <= printed
        assert call._open == {}
    Counting.printed = 0


@pytest.mark.parametrize("name", sorted(ASKS))
def test_arguments_are_left_as_they_were(name: str, desks: Desks) -> None:
    if name not in LIBRARIES:
        pytest.skip(f"{name} is not installed")
    ask, library = ASKS[name][0], LIBRARIES[name]
    desk = desks.of(library)
    desk.peer.says(_answer(library))
    messages = [
        {"role": "user", "content": "hi", "images": []} if name == "ollama" else {"role": "user", "content": "hi"}
    ]
    before = copy.deepcopy(messages)
    with recording():
        ask(desk, "messages", messages)
    assert messages == before


ODD: dict[str, Any] = {
    "empty": Reply(200, {"Content-Type": "application/json"}, [b""]),
    "null": Reply(200, {"Content-Type": "application/json"}, [b"null"]),
    "list": json_reply([1, 2]),
    "page": Reply(200, {"Content-Type": "text/html"}, [b"<html>"]),
    "no utf-8": Reply(200, {"Content-Type": "application/json"}, [b'{"id":"\xff"}']),
    "nothing": json_reply({}),
    "error inside": json_reply({"error": {"message": "no"}}),
    "nulls": json_reply({"id": None, "model": None, "choices": None, "content": None, "usage": None, "message": None}),
    "wrong types": json_reply({"choices": {"a": 1}, "content": "text", "usage": "many", "message": [], "model": 7}),
    "wrong counts": json_reply(
        {
            "id": "x",
            "model": "m",
            "choices": [],
            "content": [],
            "message": {"role": "assistant", "content": ""},
            "usage": {"prompt_tokens": -1, "completion_tokens": "7", "input_tokens": -1, "output_tokens": 1e400},
            "prompt_eval_count": -3,
        }
    ),
    "events": sse_reply([{"type": "unheard_of"}, {"choices": None}]),
}


@pytest.mark.parametrize("odd", sorted(ODD))
@pytest.mark.parametrize("name", sorted(ASKS))
def test_an_odd_answer_is_given_as_without_us(name: str, odd: str, desks: Desks) -> None:
    if name not in LIBRARIES:
        pytest.skip(f"{name} is not installed")
    ask, desk = ASKS[name][0], desks.of(LIBRARIES[name])
    desk.peer.says(ODD[odd])
    expected, _ = _outcome(ask, desk, "model", "m")
    with recording() as recorded:
        told, _ = _outcome(ask, desk, "model", "m")
        assert json.dumps(told, default=str) == json.dumps(expected, default=str)
        attributes = recorded.only().attributes
    counts = [value for key, value in attributes.items() if ".usage." in key]
    assert all(isinstance(count, int) and count >= 0 for count in counts)


@pytest.mark.swallows
@pytest.mark.parametrize("value", sorted(VALUES))
def test_own_steps_take_anything(value: str) -> None:
    @limelight.observe(kind="tool")
    def same(given: Any) -> Any:
        return given

    given = VALUES[value]()
    with recording() as recorded:
        assert same(given) is given
        with limelight.span("s", kind="retriever") as step:
            step.set(input=given, output=given, attribute=given)
        assert len(recorded.spans()) == 2
