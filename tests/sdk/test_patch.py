"""Finding, wrapping and giving back: real modules, written to a temporary path where a library is needed."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys

import pytest

import limelight
from limelight import patch
from limelight.testing import recording


def test_uninstrument_gives_back_the_identical_functions() -> None:
    openai = pytest.importorskip("openai")
    ollama = pytest.importorskip("ollama")
    owner = openai.resources.chat.completions.Completions
    before = owner.__dict__["create"], ollama.Client.__dict__["chat"], ollama.chat
    with recording():
        assert owner.__dict__["create"] is not before[0]
        limelight.init(disabled=True)
        limelight.uninstrument()
        assert (owner.__dict__["create"], ollama.Client.__dict__["chat"]) == before[:2]
        assert ollama.chat is before[2]


def test_instrumenting_twice_wraps_once() -> None:
    openai = pytest.importorskip("openai")
    owner = openai.resources.chat.completions.Completions
    with recording():
        wrapped = owner.create
        patch.instrument(None)
        assert owner.create is wrapped


def test_what_somebody_wrapped_over_ours_is_left_alone() -> None:
    class Library:
        def call(self) -> str:
            return "answer"

    patches = patch.Patches()
    patches.replace(Library, "call", lambda original: lambda self: original(self) + "!")
    patches.replace(Library, "missing", lambda original: original)
    ours = Library.call
    Library.call = lambda self: ours(self) + "?"
    patches.undo()
    assert Library().call() == "answer!?"


def test_an_inherited_method_is_given_back_by_deletion() -> None:
    class Base:
        def call(self) -> str:
            return "answer"

    class Library(Base):
        pass

    patches = patch.Patches()
    patches.replace(Library, "call", lambda original: lambda self: original(self) + "!")
    assert Library().call() == "answer!"
    patches.undo()
    assert "call" not in vars(Library)


def test_a_library_imported_later_is_patched_then(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latelib").mkdir()
    (tmp_path / "latelib" / "__init__.py").write_text("")
    (tmp_path / "latelib" / "calls.py").write_text("def call():\n    return 1\n")
    (tmp_path / "hooks_latelib.py").write_text(
        "def instrument(patches, latelib):\n"
        "    patches.replace(latelib, 'call', lambda original: lambda: original() + 1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(patch.PROVIDERS, "latelib", patch.Library((), (1, 0), ("latelib.calls",)))
    monkeypatch.setitem(sys.modules, "limelight.providers.latelib", importlib.import_module("hooks_latelib"))
    patch.instrument(["latelib"])
    try:
        latelib = importlib.import_module("latelib.calls")
        assert latelib.call() == 2
        assert type(latelib.__spec__.loader).__module__ == "_frozen_importlib_external"
    finally:
        patch.uninstrument()
        sys.modules.pop("latelib.calls", None)
    assert latelib.call() == 1


@pytest.mark.parametrize(("names", "warned"), [(None, False), (["openai"], True)])
def test_a_declined_library_is_told_only_to_who_asked(
    names: list[str] | None, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setitem(patch.PROVIDERS, "openai", patch.Library(("openai",), (999, 0), ("openai",)))
    with caplog.at_level(logging.WARNING, "limelight"), recording(providers=names):
        pass
    assert ("older than 999.0" in caplog.text) is warned


def test_an_unknown_provider_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with recording(providers=["opnai"]):
        assert "'opnai' is not known" in caplog.text


def test_importing_is_light_and_before_init_nothing_is_patched() -> None:
    script = (
        "import sys, limelight\n"
        "heavy = {'openai', 'ollama', 'requests', 'opentelemetry.sdk', 'pydantic', 'fastapi', 'chdb'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert not any('limelight' in type(finder).__module__ for finder in sys.meta_path)\n"
        "@limelight.observe\n"
        "def f(): return 1\n"
        "assert f() == 1 and limelight.flush() and limelight.shutdown()\n"
        "limelight.score('x', 1)\n"
        "with limelight.span('x') as s, limelight.context(user_id='u'): s.set(input=1)\n"
        "assert s.trace_id == ''\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
