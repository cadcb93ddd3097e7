"""The command's refusals: one clear line that says what to do, exit code 2, nothing touched."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
from pathlib import Path

import httpx
import pytest

from e2e.processes import LIMELIGHT, Collector, free_port


def limelight(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LIMELIGHT, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2 and exactly one line on stderr that holds every word."""
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port", "--dashboard-port"])
def test_a_port_in_use_is_named_and_nothing_is_touched(tmp_path: Path, flag: str) -> None:
    ports = {"--http-port": free_port(), "--grpc-port": free_port(), "--dashboard-port": free_port()}
    with socket.create_server(("127.0.0.1", ports[flag])):
        flags = [word for name, port in ports.items() for word in (name, str(port))]
        result = limelight("up", "--data-dir", str(tmp_path / "data"), *flags)
    refused(result, flag, str(ports[flag]))
    assert not (tmp_path / "data").exists()


def test_a_held_data_directory_names_its_holder(collector: Collector) -> None:
    assert collector.process is not None
    result = limelight(
        "collector",
        "--data-dir",
        str(collector.data_dir),
        "--http-port",
        str(free_port()),
        "--grpc-port",
        str(free_port()),
    )
    refused(result, str(collector.data_dir), str(collector.process.pid), "--data-dir")


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    refused(limelight("collector", "--data-dir", str(tmp_path / "file" / "data"), *ports), "--data-dir")
    refused(limelight("collector", "--data-dir", str(tmp_path / "file"), *ports), "--data-dir")
    assert (tmp_path / "file").read_text() == "in the way"


def test_another_address_needs_a_key(tmp_path: Path) -> None:
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    result = limelight("collector", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data"), *ports)
    refused(result, "0.0.0.0", "limelight keys create")
    assert not (tmp_path / "data").exists()


def test_a_directory_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert limelight("migrate", "--data-dir", str(data)).returncode == 0
    with contextlib.closing(sqlite3.connect(data / "control.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    before = (data / "control.db").read_bytes()
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    for command in (("collector", *ports), ("migrate",)):
        refused(limelight(*command, "--data-dir", str(data)), "newer")
    assert (data / "control.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("up", "--colour"), {}, ("--colour", "--help")),
        (("fly",), {}, ("fly", "--help")),
        (("up", "--http-port", "many"), {}, ("--http-port", "many")),
        (("up", "--http-port", "70000"), {}, ("--http-port", "70000")),
        (("collector",), {"LIMELIGHT_RETENTION_DAYS": "soon"}, ("LIMELIGHT_RETENTION_DAYS", "soon")),
        (("collector", "--rules-file", "/nowhere/rules.yaml"), {}, ("/nowhere/rules.yaml",)),
    ],
)
def test_a_wrong_flag_or_setting(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: tuple[str, ...]
) -> None:
    if arguments[0] == "collector":
        arguments = (*arguments, "--http-port", str(free_port()), "--grpc-port", str(free_port()))
    refused(limelight(*arguments, LIMELIGHT_DATA_DIR=str(tmp_path / "data"), **environment), *words)
    assert not (tmp_path / "data" / "store").exists()


def test_keys_open_the_collector_and_close_it_to_others(tmp_path: Path) -> None:
    created = limelight(
        "keys",
        "create",
        "--project",
        "shop",
        "--scope",
        "ingest",
        "--scope",
        "read",
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert created.returncode == 0, created.stderr
    key = created.stdout.strip().splitlines()[-1]
    assert " " not in key
    running = Collector(tmp_path / "data")
    running.start()
    try:
        status = f"{running.url}/api/v1/status"
        assert httpx.get(status).status_code == 401
        answer = httpx.get(status, headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["project"]) == (200, "shop")
        protobuf = {"Content-Type": "application/x-protobuf"}
        assert httpx.post(f"{running.url}/v1/traces", content=b"", headers=protobuf).status_code == 401
    finally:
        running.stop()
    assert key.encode() not in (tmp_path / "data" / "control.db").read_bytes()


def test_keys_are_listed_without_their_secret_and_with_their_end(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    create = ("keys", "create", "--project", "shop", "--scope", "ingest", *data)
    keys = [limelight(*create, *more).stdout.strip().splitlines()[-1] for more in ((), ("--days", "30"))]
    refused(limelight(*create, "--days", "-1"), "past")
    refused(limelight("keys", "create", "--project", "No Slug", "--scope", "read", *data), "project id")
    ids = [key.split("_")[1] for key in keys]
    assert limelight("keys", "revoke", ids[0], *data).returncode == 0
    listed = limelight("keys", "list", *data).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ids
    assert "revoked" in listed.splitlines()[0]
    assert "until 20" in listed.splitlines()[1]
    assert all(key.split("_")[2] not in listed for key in keys)


def test_the_dashboard_of_up_reads_although_keys_are_required(tmp_path: Path) -> None:
    created = limelight(
        "keys", "create", "--project", "default", "--scope", "ingest", "--data-dir", str(tmp_path / "data")
    )
    assert created.returncode == 0, created.stderr
    running = Collector(tmp_path / "data", "up")
    running.start()
    try:
        assert running.process is not None
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        environments = [Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children]
        (key,) = [entry.partition(b"=")[2] for names in environments for entry in names if b"_API_KEY=" in entry]
        headers = {"Authorization": f"Bearer {key.decode()}"}
        assert httpx.get(f"{running.url}/api/v1/traces", headers=headers).status_code == 200
        assert httpx.get(f"{running.url}/api/v1/keys", headers=headers).status_code == 403
        assert httpx.get(f"{running.url}/api/v1/traces").status_code == 401
    finally:
        running.stop()


def test_doctor_passes_against_a_collector_and_fails_without(collector: Collector) -> None:
    result = limelight("doctor", "--endpoint", collector.url)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "round trip" in result.stdout
    nobody = limelight("doctor", "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert nobody.returncode == 1
    assert "limelight up" in nobody.stdout


def test_a_term_signal_ends_with_code_zero(collector: Collector) -> None:
    assert collector.stop() == 0


def test_migrate_is_idempotent_and_dry_run_changes_nothing(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    dry = limelight("migrate", "--dry-run", "--data-dir", data)
    assert (dry.returncode, (tmp_path / "data").exists()) == (0, False)
    first = limelight("migrate", "--data-dir", data)
    assert first.returncode == 0, first.stderr
    assert "applied" in first.stdout
    assert limelight("migrate", "--data-dir", data).stdout.strip() == "up to date"
