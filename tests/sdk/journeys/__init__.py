"""What users do with each library, written once: for fault injection, the stream battery and the safety tests.

A module here is one library (`LIBRARY`, the provider's name; the file is named after the import). It has a
`Desk(peer, loop)`, the clients on one scripted peer, with `close()`; `JOURNEYS`, whole uses that end in plain data to
compare; and `STREAMS`, how each kind of stream is opened. The same journey runs with and without the SDK, and with one
function of the SDK broken.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from sdk.server import Peer, Reply


@dataclass(frozen=True)
class Journey:
    """One use of a library: `run(desk)` scripts the peer, calls, and returns plain data. An error is data too."""

    name: str
    run: Callable[[Any], Any]
    calls: int = 1
    """How many spans it leaves."""

    def outcome(self, desk: Any) -> Any:
        """The data, or the kind and text of the error the user would see."""
        try:
            return self.run(desk)
        except Exception as error:
            return f"{type(error).__module__}.{type(error).__qualname__}", str(error).replace(desk.peer.url, "")


@dataclass(frozen=True)
class Stream:
    """One kind of stream: `open(desk)` scripts the peer and gives the iterator, or awaits to it where asynchronous."""

    name: str
    open: Callable[[Any], Any]
    plain: Callable[[Any], Any]
    """A chunk as plain data."""
    is_async: bool = False
    close: str | None = "close"
    """The method that closes it early; None where the library offers none."""
    has_span_unopened: bool = True
    """Whether opening alone, without a step, is a call."""


@dataclass(frozen=True)
class Ask:
    """One request, whose arguments and answer a test may replace by any others."""

    name: str
    send: Callable[[Any, dict[str, Any]], Any]
    """(desk, arguments): the answer, or the list of a stream's chunks."""
    arguments: Callable[[], dict[str, Any]]
    """Sensible ones, made anew."""
    reply: Reply
    """A sensible answer."""


class Desks:
    """The desks of a test module, each made when first needed: clients are slow to make."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._desks: dict[ModuleType, Any] = {}

    def __enter__(self) -> Desks:  # noqa: PYI034  typing.Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def of(self, library: ModuleType) -> Any:
        """The library's desk."""
        if library not in self._desks:
            self._desks[library] = self._open.enter_context(_desk_of(library))
        return self._desks[library]


@contextmanager
def _desk_of(library: ModuleType) -> Iterator[Any]:
    """A library's clients on a peer and an event loop of their own."""
    loop = asyncio.new_event_loop()
    with Peer() as peer:
        desk = library.Desk(peer, loop)
        try:
            yield desk
        finally:
            desk.close()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def libraries() -> list[ModuleType]:
    """The modules here whose library is installed."""
    found: list[ModuleType] = []
    for module in pkgutil.iter_modules(__path__):
        if _installed(module.name):
            # one that borrows the recorded answers of a library that is missing is left out
            with suppress(pytest.skip.Exception):
                found.append(importlib.import_module(f"{__name__}.{module.name}"))
    return found


def _installed(name: str) -> bool:
    """A module is named after its library, dots as underscores."""
    candidates = (name, name.replace("_", "."))
    for candidate in candidates:
        try:
            if find_spec(candidate) is not None:
                return True
        except ModuleNotFoundError:
            continue
    return False
