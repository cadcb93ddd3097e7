"""The disk under the data directory: how much must stay free, and a ballast that is given up when it is full.

Also how a tree of files is put on a disk for good.

Deleting from the spool writes, too: on a disk without a free byte nothing could be deleted any more. The ballast is
what that is done with.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
from pathlib import Path

from limelight_collector.errors import Unavailable

log = logging.getLogger("limelight.spool")

BALLAST_BYTES = 16 * 2**20
"""Room for a checkpoint of the spool's journal and some deletes."""


class Disk:
    """The file system of `directory`; below `min_free_bytes` nothing new is taken."""

    def __init__(self, directory: Path, min_free_bytes: int) -> None:
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._ballast = directory / "spool.ballast"

    def require_room(self) -> None:
        """`Unavailable` where the disk is nearly full or does not say."""
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise Unavailable(f"the spool's disk cannot be read: {error.strerror}", retry_after_s=5) from None
        if free < self._min_free_bytes:
            raise Unavailable("the disk of the data directory is nearly full", retry_after_s=5)

    @property
    def has_room(self) -> bool:
        """Whether `require_room` would pass."""
        try:
            self.require_room()
        except Unavailable:
            return False
        return True

    def hold_ballast(self) -> None:
        """Make the ballast where it is missing and there is plenty of room for it."""
        if self._ballast.exists():
            return
        try:
            if shutil.disk_usage(self._directory).free < self._min_free_bytes + 2 * BALLAST_BYTES:
                return
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("no ballast for the spool", extra={"fields": {"error": str(error)}})

    def drop_ballast(self) -> bool:
        """Free the ballast's room; whether there was one."""
        try:
            self._ballast.unlink()
        except OSError:
            return False
        log.error("the disk is full: gave up the spool's ballast so that stored records can be deleted")
        return True


def put_on_disk(path: Path) -> None:
    """Return when everything written to the file system of `path` is on disk; `OSError` where some of it cannot be.

    One `syncfs`: of a backup of 3,230 files it took 0.5 s where a `fsync` of each took 12 s (docs/adr/0012-backup.md).
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # not Linux
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)
