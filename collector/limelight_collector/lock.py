"""One process owns a data directory: an advisory lock that the kernel drops when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from limelight_collector.errors import StartupRefused

if TYPE_CHECKING:
    from typing_extensions import Self


class DataDirLock:
    """`with DataDirLock(data_dir):` holds `data_dir/lock`; `StartupRefused` names the process that has it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = Path(data_dir) / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupRefused(
                f"cannot write to {self._path.parent} ({error.strerror}); fix it or pass another --data-dir"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StartupRefused(
                f"{self._path.parent} is held by process {holder}; stop it or pass another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, because deleting it would race with the next owner."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Acquire."""
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Release."""
        self.release()
