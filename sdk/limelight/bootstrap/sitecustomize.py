"""Starts Limelight in a program that `limelight run` started, before the program's own first line.

Python imports a module of this name by itself. The user's own, if there is one, runs first, as it would without us.
"""

# ruff: noqa: INP001  this directory is put on the path: it is no package

import importlib
import os
import sys


def _leave_path() -> None:
    """The program finds its path as it would be; PYTHONPATH keeps us, for the Python programs that it starts."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120, PTH100  pathlib would be loaded for this alone
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]  # noqa: PTH100  the same


def _run_users_own() -> None:
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":  # theirs, and broken: Python says so in this way
            sys.stderr.write(f"Error in sitecustomize; {type(error).__name__}: {error}\n")
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


def _start() -> None:
    if os.environ.get("LIMELIGHT_DISABLED", "").strip().lower() in {"1", "true", "yes", "on"}:
        return
    try:
        import limelight

        limelight.init()
        if os.environ.get("LIMELIGHT_FLUSH_ON_SIGTERM") == "1":
            limelight.on_sigterm()
    except Exception as error:
        sys.stderr.write(f"limelight: not started ({type(error).__name__}: {error}); the program runs untraced\n")


_leave_path()
try:
    _run_users_own()
finally:
    _start()
