"""What the tests of vLLM and Transformers need: an environment of its own, made from `requirements.txt` beside this.

    .cache/vllm/bin/python -m pytest tests/backends/test_vllm_in_process.py …

Elsewhere they are skipped; where LIMELIGHT_REQUIRE_BACKENDS=1, that is a failure.
"""

from __future__ import annotations

import inspect
import os
from importlib.util import find_spec
from typing import Any

import pytest

QUIET = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}
"""One thread, no downloads, nothing reported to anybody."""


def require(*modules: str) -> None:
    """Skip, or fail, where a module is missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        message = f"not installed: {', '.join(missing)}; run this file with .cache/vllm/bin/python -m pytest"
        if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") == "1":
            pytest.fail(message)
        pytest.skip(message)


def functions(module: Any) -> list[tuple[Any, str]]:
    """The functions and methods of one of our modules, to break one after the other."""
    found: list[tuple[Any, str]] = []
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            found += [(value, method) for method, body in vars(value).items() if inspect.isfunction(body)]
        elif inspect.isfunction(value) and name != "instrument" and not name.startswith(("_wrap", "_observe")):
            found.append((module, name))  # what runs when a library is patched is broken by tests of patching
    return found
