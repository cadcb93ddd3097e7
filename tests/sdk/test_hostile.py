"""The host never notices us, whatever it passes: hostile values in every place of every request of every library.

Compared with a run without the SDK: what comes back or is raised, what the server was sent, and how often the value was
touched. And there is one span, of a bounded size.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from types import MethodType
from typing import Any

import pytest

import limelight
from limelight import call, patch
from limelight.content import MAX_BYTES
from limelight.testing import Recorded, recording
from sdk.hostile import VALUES, Touched, error_text, paths, put, shape
from sdk.journeys import Ask, Desks, libraries

CASES = [(library, ask) for library in libraries() for ask in library.ASKS]
NAMES = [f"{library.LIBRARY}-{ask.name}".replace(" ", "-") for library, ask in CASES]
UNSTABLE = {("tritonclient-infer", "surrogate"), ("requests-data", "numpy objects")}
"""What two runs without the SDK make different things of: a pool left broken, places in memory sent."""
QUIET = {"request_stream_usage": False, "propagate": "none"}
"""Settings with which not even what is sent differs."""


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libraries in C cannot raise, with us as without, cannot be printed either."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.fixture(scope="module")
def desks() -> Iterator[Desks]:
    with Desks() as made:
        yield made


def outcome(desk: Any, ask: Ask, arguments: dict[str, Any]) -> tuple[Any, list[tuple[str, bytes]]]:
    """What comes of a request, and what the server was sent."""
    desk.peer.says(ask.reply)
    desk.peer.asked.clear()
    try:
        result = shape(ask.send(desk, arguments))
    except Exception as error:
        return error_text(error, desk.peer.url), []  # half a request may have been sent, or not yet
    return result, [(asked.path, asked.body) for asked in desk.peer.asked]


def check_spans(recorded: Recorded, is_call: bool) -> None:
    """One ended span of a model call, none or one where it was refused before; none too large."""
    ended = recorded.spans()
    assert len(ended) == 1 if is_call else len(ended) <= 1, [span.name for span in ended]
    assert call._open == {}, "a span was left open"
    for span in ended:
        assert len(span.name) < 1000
        for name, value in span.attributes.items():
            assert not isinstance(value, str) or len(value) <= MAX_BYTES, name  # plain words: capped in characters
            if name.startswith("gen_ai.usage.") and name.endswith("tokens"):
                assert type(value) is int, (name, value)
                assert value >= 0, (name, value)
    recorded.bodies.clear()


def _is_call(index: int, found: tuple[Any, list[tuple[str, bytes]]]) -> bool:
    """Whether a request was made that is surely one to a model: a body of any other shape is not, over plain HTTP."""
    return bool(found[1]) and CASES[index][0].LIBRARY not in call.HTTP


@functools.cache
def _places(index: int) -> list[tuple[Any, ...]]:
    return list(paths(CASES[index][1].arguments()))


def _both(desk: Any, index: int, path: tuple[Any, ...], value: str) -> tuple[Any, Touched]:
    """The outcome of a request with a hostile value in one place, and how the value was touched."""
    touched: Touched = Counter()
    ask = CASES[index][1]
    arguments = put(ask.arguments(), path, VALUES[value](touched))
    found = outcome(desk, ask, arguments)
    touched += Counter()  # a look is no touch
    return found, touched


def _compare(desks: Desks, index: int, value: str, places: list[tuple[Any, ...]]) -> None:
    if (NAMES[index], value) in UNSTABLE:
        return
    desk = desks.of(CASES[index][0])
    expected = [_both(desk, index, path, value) for path in places]
    with recording(**QUIET) as recorded:
        for path, without in zip(places, expected, strict=True):
            found, touched = _both(desk, index, path, value)
            assert found == without[0], path
            assert touched - without[1] == {}, path
            check_spans(recorded, _is_call(index, found))


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_hostile_arguments(index: int, desks: Desks) -> None:
    """Each value in some places, each place with some values."""
    places = _places(index)
    for turn, value in enumerate(VALUES):
        _compare(desks, index, value, places[turn % 11 :: 11])


@pytest.mark.soak
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_hostile_arguments_in_every_place(index: int, value: str, desks: Desks) -> None:
    _compare(desks, index, value, _places(index))


def _sizes() -> dict[str, Any]:
    big = "x" * 50_000_000
    return {
        "a long text": lambda: big,
        "a wide text": lambda: "\N{BLACK SQUARE}" * 2_000_000,
        "a long data URL": lambda: "data:image/png;base64," + "aGVsbG8h" * 1_000_000,
        "many texts": lambda: ["x"] * 1_000_000,
        "many messages": lambda: [{"role": "user", "content": ""}] * 100_000,
        "a large dict": lambda: {str(number): number for number in range(100_000)},
    }


@pytest.mark.parametrize(("turn", "size"), list(enumerate(("a wide text", "many messages", "a large dict"))))
def test_large_arguments(turn: int, size: str, desks: Desks) -> None:
    """Some sizes with one request each; all with all: the soak test below."""
    if not CASES:
        pytest.skip("no library is installed")
    _send_large(turn * len(CASES) // 3, size, desks)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", _sizes())
@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_arguments_of_any_size(index: int, size: str, desks: Desks) -> None:
    _send_large(index, size, desks)


def _send_large(index: int, size: str, desks: Desks) -> None:
    library, ask = CASES[index]
    desk = desks.of(library)
    place = next((name for name in ("messages", "contents", "input", "inputs", "texts", "prompt", "json", "data")
                  if name in ask.arguments()), next(iter(ask.arguments())))  # fmt: skip

    def run() -> Any:
        return outcome(desk, ask, {**ask.arguments(), place: _sizes()[size]()})

    expected = run()
    with recording(**QUIET) as recorded:
        assert run() == expected
        check_spans(recorded, _is_call(index, expected))


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_arguments_are_passed_on_and_left_alone(index: int, desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around every method we wrap, and inside it: the same objects. What they hold is changed by nobody but others."""
    library, ask = CASES[index]
    desk = desks.of(library)
    alone, observed = ask.arguments(), ask.arguments()
    outcome(desk, ask, alone)
    seen: list[tuple[str, Any]] = []
    replace = patch.Patches.replace

    def watched(self: Any, owner: Any, name: str, make: Any) -> None:
        replace(self, owner, name, lambda original: _noted(make(_noted(original, seen, name)), seen, name))

    monkeypatch.setattr(patch.Patches, "replace", watched)
    with recording(**QUIET) as recorded:
        outcome(desk, ask, observed)
        assert len(recorded.spans()) == 1
    assert observed == alone
    assert _unpaired(seen) == []
    assert seen


def _noted(function: Any, seen: list[tuple[str, Any]], name: str) -> Any:
    """The function, with what it is called with noted."""
    if not callable(function):
        return function
    if isinstance(function, MethodType):
        return MethodType(_noted(function.__func__, seen, name), function.__self__)

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append((name, (args, kwargs)))
        return function(*args, **kwargs)

    return noted


def _unpaired(seen: list[tuple[str, Any]]) -> list[str]:
    """The calls that did not arrive inside with the objects they were made with outside."""
    waiting: list[tuple[str, Any]] = []
    for name, (args, kwargs) in seen:
        for outside in reversed(waiting):
            if outside[0] == name and _same(outside[1], (args, kwargs)):
                waiting.remove(outside)
                break
        else:
            waiting.append((name, (args, kwargs)))
    return [name for name, _ in waiting]


def _same(one: Any, other: Any) -> bool:
    (args, kwargs), (others, other_kwargs) = one, other
    return (
        len(args) == len(others)
        and kwargs.keys() == other_kwargs.keys()
        and all(item is its for item, its in zip(args, others, strict=True))
        and all(value is other_kwargs[name] for name, value in kwargs.items())
    )


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", [None, "tool", "retriever"])
def test_hostile_values_of_own_steps(value: str, kind: str | None) -> None:
    touched: Touched = Counter()
    given = VALUES[value](touched)
    touched.clear()

    @limelight.observe(kind=kind)
    def step(first: Any, *rest: Any, **named: Any) -> Any:
        return first

    with recording() as recorded:
        with limelight.context(session_id=given, tags=[given], metadata={"k": given}, user_id="u"):
            assert step(given, given, inner={"a": [given]}) is given
            with limelight.span("block", kind=kind) as block:
                block.set(input=given, output=[given], plain=given, others=[given, 1])
        ended = recorded.spans()
        assert len(ended) == 2
        for span in ended:
            assert span.attributes["user.id"] == "u"
            assert all(len(str(found).encode("utf-8", "replace")) <= MAX_BYTES for found in span.attributes.values())
    assert touched == {}


@pytest.mark.parametrize("value", VALUES)
def test_hostile_names_and_settings(value: str) -> None:
    touched: Touched = Counter()
    given = VALUES[value](touched)
    with recording() as recorded:
        with limelight.span(given, kind=given):
            limelight.score(given, given, label=given, explanation=given)
        assert len(recorded.spans()) == 1
