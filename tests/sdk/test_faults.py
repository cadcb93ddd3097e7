"""The cardinal rule: break every function of ours in turn, and the user's calls give the same results.

Twice: with the fault there before `init` (in whatever starts, patches and sends), and arriving while the SDK runs.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import limelight
from limelight import call
from limelight.testing import recording
from sdk.journeys import Desks, Journey, Stream, libraries

# commands and test tools: no user's call passes through them
_NOT_IN_PROGRAMS = {"cli", "demo", "doctor", "run", "testing", "version"}
# what a user calls cannot stand beside the call; it is a guard and nothing else
_IS_THE_CALL = {"quiet.__init__", "span.__init__", "span.set", "context.__init__"}
LIBRARIES = {library.LIBRARY: library for library in libraries()}


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(limelight.__path__, "limelight."):
        if found.name.split(".")[1] not in _NOT_IN_PROGRAMS:
            yield importlib.import_module(found.name)


def _functions() -> Iterator[tuple[ModuleType, Any, str]]:
    for module in _modules():
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
                continue  # a fault there is a fault at its first step; what makes the generator is broken instead
            if inspect.isfunction(value):
                yield module, module, name
            elif inspect.isclass(value) and not issubclass(value, Exception):
                for method, body in vars(value).items():
                    public = method == "__init__" or not method.startswith("__")
                    if inspect.isfunction(body) and public and f"{name}.{method}" not in _IS_THE_CALL:
                        yield module, value, method


TARGETS = list(_functions())


def _id(target: tuple[ModuleType, Any, str]) -> str:
    module, owner, name = target
    short = module.__name__.removeprefix("limelight.")
    return f"{short}.{name}" if owner is module else f"{short}.{owner.__name__}.{name}"


# between them these use every part of the core: a stream object, raw bodies, generators, plain HTTP
_USE_THE_CORE = ("openai", "ollama", "httpx")


def _concerned(module: ModuleType) -> list[ModuleType]:
    """A provider's faults concern its own library; the core's concern those that use all of it."""
    provider = module.__name__.partition(".providers.")[2]
    own = [library for name, library in LIBRARIES.items() if provider == name or provider.startswith(f"{name}_")]
    return own or [LIBRARIES[name] for name in _USE_THE_CORE if name in LIBRARIES] or list(LIBRARIES.values())


def _uses(library: ModuleType, desk: Any) -> list[Any]:
    """What comes of every journey and of every stream read to its end."""
    outcomes = [(journey.name, journey.outcome(desk)) for journey in library.JOURNEYS]
    for stream in library.STREAMS:
        outcomes.append((f"stream {stream.name}", Journey(stream.name, _reader(stream)).outcome(desk)))
    return outcomes


def _reader(stream: Stream) -> Any:
    async def read(desk: Any) -> list[Any]:
        opened = stream.open(desk)
        opened = await opened if hasattr(opened, "__await__") else opened
        return [stream.plain(chunk) async for chunk in opened]

    def run(desk: Any) -> list[Any]:
        if stream.is_async:
            return desk.loop.run_until_complete(read(desk))
        return [stream.plain(chunk) for chunk in stream.open(desk)]

    return run


@pytest.fixture(scope="module")
def desks() -> Iterator[Desks]:
    with Desks() as made:
        yield made


_expected: dict[str, list[Any]] = {}


def _without_us(library: ModuleType, desk: Any) -> list[Any]:
    if library.LIBRARY not in _expected:
        assert call.installed() is None
        _expected[library.LIBRARY] = _uses(library, desk)
    return _expected[library.LIBRARY]


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")


@limelight.observe(kind="tool")
def _tool(city: str) -> str:
    return city.upper()


@limelight.observe
async def _step(city: str) -> str:
    return city.upper()


@limelight.observe
def _words(text: str) -> Iterator[str]:
    yield from text.split()


@limelight.observe
async def _async_words(text: str) -> Any:
    for word in text.split():
        yield word


async def _async_steps() -> list[str]:
    return [await _step("oslo"), *[word async for word in _async_words("a b")]]


def _own_steps() -> None:
    """The user's own functions and blocks, of every sort."""
    with limelight.context(user_id="u", tags=["t"]), limelight.span("s", kind="retriever") as step:
        step.set(input="x", output=["y"])
        assert _tool("oslo") == "OSLO"
        assert list(_words("a b")) == ["a", "b"]
        assert asyncio.run(_async_steps()) == ["OSLO", "a", "b"]
        limelight.score("s", 1.0)
    with pytest.raises(AttributeError):
        _tool(1)


@pytest.mark.swallows
@pytest.mark.parametrize("target", TARGETS, ids=_id)
def test_a_fault_of_ours_never_reaches_the_user(
    target: tuple[ModuleType, Any, str], desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, owner, name = target
    concerned = [(library, desks.of(library)) for library in _concerned(module)]
    expected = [_without_us(library, desk) for library, desk in concerned]
    with recording():
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, _broken)
            assert [_uses(library, desk) for library, desk in concerned] == expected
            _own_steps()
        call.forget_all()  # what broke half-way stays open


@pytest.mark.swallows
@pytest.mark.parametrize("target", TARGETS, ids=_id)
def test_a_fault_while_starting_never_reaches_the_user(
    target: tuple[ModuleType, Any, str], desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, owner, name = target
    concerned = [(library, desks.of(library)) for library in _concerned(module)[:1]]
    expected = [_without_us(library, desk) for library, desk in concerned]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, _broken)
        limelight.init(endpoint="http://127.0.0.1:9", flush_timeout_s=0)
        assert [_uses(library, desk) for library, desk in concerned] == expected
        _own_steps()
        limelight.flush(0)
        limelight.shutdown(0)
        limelight.uninstrument()
    call.forget_all()
    call.install(None)
    limelight.uninstrument()
    limelight.shutdown(0)


def test_every_library_with_journeys_is_a_provider() -> None:
    from limelight.patch import PROVIDERS

    assert set(LIBRARIES) <= set(PROVIDERS)
    assert len(TARGETS) > 150
