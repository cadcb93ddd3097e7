"""Find, wrap, unwrap: which libraries are instrumented, when, and how they get their own functions back.

A library that is imported already is patched at once, another when it is imported. Patches hold no settings: each call
asks for the running recorder, so patching twice, or after a new `init`, changes nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from limelight.guard import LOGGER, quiet, warn_once

PROVIDERS: dict[str, tuple[int, int]] = {"openai": (1, 60), "ollama": (0, 4)}
"""Library (its import and distribution name, and its module under `providers`) -> the oldest version supported."""


class Declined(Exception):
    """A library that is not instrumented, and why; told once where the user named it, else at DEBUG."""


class Patches:
    """The attributes replaced in one library, and how to put them back."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, bool, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace `owner.name` by `make(original)`; a name the owner lacks is left out (another version)."""
        if any(known is owner and named == name for known, named, *_ in self._undo):
            return  # one class under two names
        if not hasattr(owner, name):
            LOGGER.debug("%r has no %s: not instrumented", owner, name)
            return
        own = name in vars(owner)
        stored = vars(owner).get(name)
        wrapped = make(getattr(owner, name))
        setattr(owner, name, wrapped)
        self._undo.append((owner, name, stored, own, wrapped))

    def undo(self) -> None:
        """Put the identical objects back, except where somebody has wrapped ours since: then ours calls through."""
        for owner, name, stored, own, wrapped in reversed(self._undo):
            if vars(owner).get(name) is not wrapped:
                continue
            if own:
                setattr(owner, name, stored)
            else:
                delattr(owner, name)
        self._undo.clear()


_patched: dict[str, Patches] = {}
_lock = threading.RLock()


def instrument(names: Iterable[str] | None) -> None:
    """Instrument the named libraries, or all known ones: now where imported, else on import."""
    asked = names is not None
    wanted = set(PROVIDERS) if names is None else set(names)
    for unknown in sorted(wanted - set(PROVIDERS)):
        warn_once(f"provider {unknown}", "providers=: %r is not known; known are %s", unknown, ", ".join(PROVIDERS))
    later: set[str] = set()
    for name in sorted(wanted & set(PROVIDERS)):
        if name in sys.modules:
            _patch(name, asked)
        else:
            later.add(name)
    _watch_imports(later, asked)


def uninstrument() -> None:
    """Give every library its own functions back and stop watching imports."""
    with _lock:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watcher)]
        for name in list(_patched):
            with quiet("uninstrumenting"):
                _patched.pop(name).undo()


def _patch(name: str, asked: bool) -> None:
    with quiet(f"instrumenting {name}"), _lock:
        if name in _patched:
            return
        patches = Patches()
        try:
            _require_version(name)
            importlib.import_module(f"limelight.providers.{name}").instrument(patches)
        except Declined as reason:
            if asked:
                warn_once(f"declined {name}", "%s is not instrumented: %s", name, reason)
            return
        except Exception:
            patches.undo()
            raise
        _patched[name] = patches


def _require_version(name: str) -> None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Declined("no installed package has this name") from None
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < PROVIDERS[name]:
        raise Declined(f"version {version} is older than {'.'.join(map(str, PROVIDERS[name]))}")


class _Watcher(importlib.abc.MetaPathFinder):
    """Stands first on `sys.meta_path` and lets the others find; a module it waits for is patched after it has run."""

    def __init__(self, names: set[str], asked: bool) -> None:
        self.names = names
        self._asked = asked

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real spec with our loader around its own; None for modules nobody waits for."""
        del target
        if path is not None or fullname not in self.names:
            return None
        self.names.discard(fullname)  # so that the search below does not come back here
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, fullname, self._asked)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs the module by its own loader, gives that loader back its place, then patches."""

    def __init__(self, loader: Any, name: str, asked: bool) -> None:
        self._loader = loader
        self._name = name
        self._asked = asked

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._loader, attribute)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then patch it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _patch(self._name, self._asked)


def _watch_imports(names: set[str], asked: bool) -> None:
    with _lock:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watcher)]
        if names:
            sys.meta_path.insert(0, _Watcher(names, asked))
