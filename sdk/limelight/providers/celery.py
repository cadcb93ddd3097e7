"""Celery: what a worker process has queued is sent when the process ends, which it does without exit handlers.

No span is made here. With `max_tasks_per_child=1` every task's process ends this way.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight.guard import quiet

if TYPE_CHECKING:
    from limelight.patch import Patches


def _flush(**_: Any) -> None:
    with quiet("flushing at the end of a worker process"):
        import limelight

        limelight.flush()


def instrument(patches: Patches, signals: ModuleType) -> None:
    """Flush on the signal each worker process sends when it ends, within `flush_timeout_s`."""
    signals.worker_process_shutdown.connect(_flush, weak=False)
    patches.on_undo(lambda: signals.worker_process_shutdown.disconnect(_flush))
