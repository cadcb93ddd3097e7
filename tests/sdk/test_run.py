"""`limelight run`: programs traced without a change, and otherwise exactly what they are without us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from limelight import cli
from limelight.run import BOOTSTRAP, environment, run, service_name
from limelight.testing import attributes_of
from sdk.server import Peer, otlp_reply, sent_spans

PROGRAM = """
import sys
import limelight  # only for a span: init is not called
with limelight.span("work"): pass
"""
NO_FLAGS = dict.fromkeys(("endpoint", "api_key", "service_name", "environment", "capture", "sample_rate", "providers"))
NO_FLAGS["flush_on_sigterm"] = None


def _limelight(
    peer: Peer, *command: str, cwd: Path, flags: tuple[str, ...] = (), stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    peer.says(otlp_reply())
    return subprocess.run(
        [sys.executable, "-m", "limelight.cli", "run", "--endpoint", peer.url, *flags, "--", *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environ},
    )


def _names(peer: Peer) -> list[str]:
    return sorted(span.name for span in sent_spans(peer))


def _resource(peer: Peer) -> dict[str, Any]:
    bodies = [asked.body for asked in peer.asked if asked.path == "/v1/traces"]
    return attributes_of(ExportTraceServiceRequest.FromString(bodies[0]).resource_spans[0].resource.attributes)


def _script(tmp_path: Path, text: str = PROGRAM, name: str = "program.py") -> str:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_script_and_the_flags(peer: Peer, tmp_path: Path) -> None:
    flags = ("--api-key", "k", "--environment", "prod", "--capture", "none", "--service-name", "svc")
    done = _limelight(peer, sys.executable, _script(tmp_path), cwd=tmp_path, flags=flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert _names(peer) == ["work"]
    resource = _resource(peer)
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("svc", "prod")
    assert peer.asked[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("how", "service"),
    [
        (["program.py"], "program"),
        (["-m", "package.module"], "package.module"),
        (["-m", "package"], "package"),
        (["-W", "error", "-u", "program.py"], "program"),
        (["-c", PROGRAM], "python"),
    ],
)
def test_ways_to_start_python(how: list[str], service: str, peer: Peer, tmp_path: Path) -> None:
    for name in ("program.py", "package/__init__.py", "package/module.py", "package/__main__.py"):
        _script(tmp_path, "" if name.endswith("__init__.py") else PROGRAM, name)
    done = _limelight(peer, sys.executable, *how, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert _names(peer) == ["work"]
    assert _resource(peer)["service.name"].startswith(service)


def test_a_console_script_found_on_the_path(peer: Peer, tmp_path: Path) -> None:
    script = Path(_script(tmp_path, f"#!{sys.executable}\n{PROGRAM}", "bin/tool"))
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    assert _limelight(peer, "tool", "--flag", cwd=tmp_path, PATH=path).returncode == 0
    assert (_names(peer), _resource(peer)["service.name"]) == (["work"], "tool")


def test_input_output_and_exit_codes_are_the_programs_own(peer: Peer, tmp_path: Path) -> None:
    echo = "import sys; print(sys.stdin.read(), sys.argv[1:]); print('e', file=sys.stderr); sys.exit(3)"
    done = _limelight(peer, sys.executable, "-c", echo, "--endpoint", "--", "x", cwd=tmp_path, stdin="hello")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello ['--endpoint', '--', 'x']\n", "e\n")
    failing = _limelight(peer, sys.executable, "-c", "1 / 0", cwd=tmp_path)
    plain = subprocess.run([sys.executable, "-c", "1 / 0"], capture_output=True, text=True)
    assert (failing.returncode, failing.stderr) == (plain.returncode, plain.stderr)
    killed = _limelight(peer, sys.executable, "-c", "import os; os.kill(os.getpid(), 15)", cwd=tmp_path)
    assert killed.returncode == -signal.SIGTERM


def test_the_program_sees_its_own_path_and_arguments(peer: Peer, tmp_path: Path) -> None:
    look = "import sys, signal; print(sys.path, sys.argv, signal.getsignal(15))"
    done = _limelight(peer, sys.executable, "-c", look, "a", cwd=tmp_path)
    plain = subprocess.run([sys.executable, "-c", look, "a"], capture_output=True, cwd=tmp_path, text=True)
    assert (done.returncode, done.stdout) == (0, plain.stdout)


def test_other_commands_run_as_they_are(peer: Peer, tmp_path: Path) -> None:
    done = _limelight(peer, "sh", "-c", "echo $0 $LIMELIGHT_SERVICE_NAME; exit 5", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (5, "sh sh\n", "")
    script = _script(tmp_path)
    assert _limelight(peer, "sh", "-c", f"exec {sys.executable} {script}", cwd=tmp_path).returncode == 0
    assert _names(peer) == ["work"]  # a Python program below another command is traced too


def test_the_users_own_sitecustomize_runs_as_ever(peer: Peer, tmp_path: Path) -> None:
    _script(tmp_path, "import sys; sys.theirs = __name__", "site/sitecustomize.py")
    look = "import sys, sitecustomize; print(sys.theirs, sitecustomize.__file__)\n" + PROGRAM
    done = _limelight(peer, sys.executable, "-c", look, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout == f"sitecustomize {tmp_path / 'site' / 'sitecustomize.py'}\n"
    assert _names(peer) == ["work"]


def test_a_broken_sitecustomize_of_the_user_stops_nothing(peer: Peer, tmp_path: Path) -> None:
    for text in ("import nothing_of_the_kind", "1 / 0"):
        _script(tmp_path, text, "site/sitecustomize.py")
        done = _limelight(peer, sys.executable, "-c", PROGRAM, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
        assert done.returncode == 0
        assert "sitecustomize" in done.stderr
    assert _names(peer) == ["work", "work"]


@pytest.mark.parametrize("fault", ["raise RuntimeError('boom')", "import nothing_of_the_kind", "init = None"])
def test_a_fault_of_ours_is_one_line(fault: str, tmp_path: Path) -> None:
    _script(tmp_path, fault, "broken/limelight/__init__.py")
    script = _script(tmp_path, "print('ran')")
    # `limelight run` itself would find the broken one, too: only what it prepares is used here
    environ = environment(NO_FLAGS, ["python"], {**os.environ, "PYTHONPATH": str(tmp_path / "broken")})
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.startswith("limelight: not started (")
    assert done.stderr.count("\n") == 1


def test_disabled_means_nothing_is_loaded(peer: Peer, tmp_path: Path) -> None:
    look = "import sys; print([name for name in sys.modules if 'limelight' in name or 'opentelemetry' in name])"
    done = _limelight(peer, sys.executable, "-c", look, cwd=tmp_path, LIMELIGHT_DISABLED="1")
    assert (done.stdout, peer.asked) == ("[]\n", [])


def test_what_cannot_be_started(peer: Peer, tmp_path: Path) -> None:
    assert _limelight(peer, cwd=tmp_path).returncode == 2
    missing = _limelight(peer, "no-such-command", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (127, "limelight run: no-such-command: No such file or directory\n")
    assert _limelight(peer, _script(tmp_path), cwd=tmp_path).returncode == 126


def test_flags_beat_the_environment_and_names_given_are_kept() -> None:
    flags = {**NO_FLAGS, "endpoint": "http://a:1"}
    before = {
        "LIMELIGHT_ENDPOINT": "http://b:1",
        "PYTHONPATH": f"/x{os.pathsep}{BOOTSTRAP}",
        "OTEL_SERVICE_NAME": "mine",
    }
    after = environment(flags, ["python", "x.py"], before)
    assert after == {**before, "LIMELIGHT_ENDPOINT": "http://a:1", "PYTHONPATH": f"{BOOTSTRAP}{os.pathsep}/x"}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["uvicorn", "app:app"], "uvicorn"),
        (["/usr/bin/python3.11", "-Xdev", "-X", "utf8", "a/b.py", "-m"], "b"),
        (["python", "-mpkg"], "pkg"),
        (["python", "-m"], "python"),
        (["python3", "-c", "1"], "python3"),
        (["python3.11"], "python3"),
        (["python", "pkg/__main__.py"], "pkg"),
    ],
)
def test_names_of_commands(command: list[str], name: str) -> None:
    assert service_name(command) == name


def test_the_command_replaces_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[Any] = []
    flags = {**NO_FLAGS, "command": ["--", "tool", "--", "-x"]}
    assert run(flags, lambda file, arguments, environ: executed.extend((file, arguments))) == 0
    assert executed == ["tool", ["tool", "--", "-x"]]
    seen: list[Any] = []
    monkeypatch.setattr("os.execvpe", lambda *_: seen.append(1))
    with pytest.raises(SystemExit) as wrong:
        cli.main(["run", "--no-such-flag", "x"])
    assert wrong.value.code == 2


APP = """
import limelight
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    with limelight.span("request"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_uvicorn_and_its_workers(workers: int, peer: Peer, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    peer.says(otlp_reply())
    _script(tmp_path, APP, "app.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ["uvicorn", "app:app", "--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    command = [
        sys.executable,
        "-m",
        "limelight.cli",
        "run",
        "--endpoint",
        peer.url,
        "--providers",
        "threads",
        "--flush-on-sigterm",
    ]
    running = subprocess.Popen(
        [*command, "--", sys.executable, "-m", *server], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        assert _get(f"http://127.0.0.1:{port}/") == b"ok"
    finally:
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    assert _names(peer) == ["request"], errors
    assert _resource(peer)["service.name"] == "uvicorn"


def _get(url: str) -> bytes:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {url}")
