"""`limelight run -- CMD …`: start a program with Limelight in it, without a change to its code.

The program replaces this process, so its input, output, signals and exit code are its own. What is added is its
environment: the settings, and a directory on PYTHONPATH whose `sitecustomize` calls `limelight.init()`.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BOOTSTRAP = str(pathlib.Path(__file__).parent / "bootstrap")
_VARIABLES = {
    "endpoint": "LIMELIGHT_ENDPOINT",
    "api_key": "LIMELIGHT_API_KEY",
    "service_name": "LIMELIGHT_SERVICE_NAME",
    "environment": "LIMELIGHT_ENVIRONMENT",
    "capture": "LIMELIGHT_CAPTURE",
    "sample_rate": "LIMELIGHT_SAMPLE_RATE",
    "providers": "LIMELIGHT_PROVIDERS",
}


def run(flags: dict[str, Any], execute: Callable[[str, list[str], dict[str, str]], Any] = os.execvpe) -> int:
    """Become the command; returns only where there is none (2) or it cannot be started (127 not found, else 126)."""
    command = list(flags["command"])
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        print("limelight run: what is to run? limelight run [FLAGS] -- COMMAND …", file=sys.stderr)
        return 2
    sys.stdout.flush()
    try:
        execute(command[0], command, environment(flags, command, os.environ))
    except OSError as error:
        print(f"limelight run: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    return 0


def environment(flags: Mapping[str, Any], command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment the command is to run in."""
    changed = {variable: str(flags[name]) for name, variable in _VARIABLES.items() if flags[name] is not None}
    if flags["flush_on_sigterm"]:
        changed["LIMELIGHT_FLUSH_ON_SIGTERM"] = "1"
    result = {**environ, **changed}
    if not _is_named(result):
        result["LIMELIGHT_SERVICE_NAME"] = service_name(command)
    others = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != BOOTSTRAP]
    result["PYTHONPATH"] = os.pathsep.join([BOOTSTRAP, *others])
    return result


def _is_named(environ: Mapping[str, str]) -> bool:
    named = environ.get("LIMELIGHT_SERVICE_NAME") or environ.get("OTEL_SERVICE_NAME")
    return bool(named) or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


def service_name(command: Sequence[str]) -> str:
    """`x` of `python x.py`, `m` of `python -m m`, else the command's own name: what `init` cannot see that early."""
    program = pathlib.PurePath(command[0])
    if not program.name.startswith(("python", "pypy")):
        return program.stem
    rest = list(command[1:])
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag.startswith("-m"):
            return flag[2:] or (rest[0] if rest else program.stem)
        if flag.startswith("-c"):
            break
        if flag in {"-W", "-X"} and rest:
            rest.pop(0)
    else:
        if rest:
            script = pathlib.PurePath(rest[0])
            return script.parent.name if script.stem == "__main__" and script.parent.name else script.stem
    return program.stem
