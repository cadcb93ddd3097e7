"""uvicorn: what is queued is sent when a server has shut down, for it then ends its process by the signal it got.

No span is made here. A process that dies by a signal runs no exit handlers.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight.guard import quiet

if TYPE_CHECKING:
    from limelight.patch import Patches

_FLUSHING = quiet("flushing at the end of a server")


def _flushing(original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def shutdown(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        finally:
            with _FLUSHING:
                import limelight

                await limelight.aflush()

    return shutdown


def instrument(patches: Patches, module: ModuleType) -> None:
    """Flush after a server's shutdown, within `flush_timeout_s`."""
    patches.replace(module.Server, "shutdown", _flushing)
