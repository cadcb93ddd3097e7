"""A real PostgreSQL for tests: a private server in a directory of its own, on a unix socket, without syncs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs, from Debian's place or PATH; None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join([*map(str, reversed(INSTALLED)), os.environ.get("PATH", "")]))


@contextmanager
def running() -> Iterator[str]:
    """The address of a fresh server, without a database name: `url.format("name")` completes it."""
    directory = Path(tempfile.mkdtemp(prefix="limelight-pg-"))
    # The server refuses to run as root; Debian's package makes the user `postgres`.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(directory, "postgres", "postgres")

    def run(name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*as_user, program(name) or name, "-D", str(directory / "data"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=(log := (directory.with_suffix(".log")).open("ab")),  # a file: the server outlives pg_ctl
            stderr=subprocess.STDOUT,
            cwd="/",
            timeout=60,
        )
        log.close()
        if done.returncode:
            raise RuntimeError(directory.with_suffix(".log").read_text()[-2000:])

    try:
        run("initdb", "--username=limelight", "--auth=trust", "--encoding=UTF8", "--no-sync")
        run("pg_ctl", "-w", "-o", f"-F -k {directory} -c listen_addresses='' -c max_connections=60", "start")
        try:
            yield f"postgresql://limelight@/{{}}?host={directory}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        directory.with_suffix(".log").unlink(missing_ok=True)
