"""The server's commands, as `limelight` calls them: flags in, exit code out, refusals as one line."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from limelight_collector import settings as settings_module
from limelight_collector.errors import Rejected, StartupRefused
from limelight_collector.settings import Settings

if TYPE_CHECKING:
    from limelight_collector.decode import Signal
    from limelight_collector.manifest import Manifest
    from limelight_collector.retention import Policy

Flags = dict[str, Any]


def _refusals(command: Callable[[Flags], int]) -> Callable[[Flags], int]:
    """Turn `StartupRefused` into one line on stderr and exit code 2."""

    @functools.wraps(command)
    def run(flags: Flags) -> int:
        try:
            return command(flags)
        except StartupRefused as refusal:
            print(f"limelight: {refusal}", file=sys.stderr)
            return 2

    return run


@_refusals
def up(flags: Flags) -> int:
    """Collector and dashboard; ends when either is told to."""
    settings = settings_module.load(flags)
    _watch_parent(flags)
    from limelight_collector.main import Collector

    collector = Collector(settings)
    if not settings.no_dashboard:
        collector.require_free_port("--dashboard-port", settings.dashboard_port, host="127.0.0.1")
        collector.on_ready(functools.partial(_start_dashboard, settings, collector.dashboard_key))
    return collector.run()


@_refusals
def collector(flags: Flags) -> int:
    """The collector alone."""
    settings = settings_module.load(flags)
    _watch_parent(flags)
    from limelight_collector.main import Collector

    return Collector(settings).run()


@_refusals
def dashboard(flags: Flags) -> int:
    """The dashboard alone, in this process' place."""
    from limelight_collector.main import is_loopback

    settings = settings_module.load(flags)
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    command, environment = _dashboard_command(settings, settings.host, key)
    if not is_loopback(settings.host):
        print(f"limelight: the dashboard has no sign-in: whoever reaches {settings.host} reads what its key may read")
    if flags.get("exit_with_parent"):
        command.append("--exit-with-parent")
    os.execve(command[0], command, environment)  # noqa: S606 (our own interpreter, our own module)


@_refusals
def migrate(flags: Flags) -> int:
    """Bring both databases to this version, or say what would be done."""
    from limelight_collector.main import migrate_all, preview_migration

    settings = settings_module.load({"data_dir": flags["data_dir"]})
    if flags["dry_run"]:
        print(preview_migration(settings) or "up to date")
        return 0
    steps = migrate_all(settings, allow_destructive=flags["allow_destructive"])
    print("\n".join(f"applied {step}" for step in steps) if steps else "up to date")
    return 0


@_refusals
def keys_create(flags: Flags) -> int:
    """Make a key and print it, alone, on the last line."""
    from limelight_collector.main import open_control

    expires_s = None if flags["days"] is None else time.time() + flags["days"] * 86_400
    with open_control(settings_module.load({"data_dir": flags["data_dir"]})) as control:
        try:
            key = control.create_key(flags["project"], frozenset(flags["scope"]), flags["name"], expires_s)
        except Rejected as error:
            raise StartupRefused(error.message) from None
    print(f"Key for project {flags['project']} ({', '.join(sorted(flags['scope']))}); it is shown only now:")
    print(key)
    return 0


@_refusals
def keys_list(flags: Flags) -> int:
    """Print one line a key: id, project, scopes, made, state, last use, note."""
    from limelight_collector.control.times import rfc3339
    from limelight_collector.main import open_control

    now = rfc3339(time.time())
    with open_control(settings_module.load({"data_dir": flags["data_dir"]})) as control:
        for key in control.list_keys():
            until = f"until {key.expires_at}" if key.expires_at else "active"
            expired = key.expires_at is not None and key.expires_at <= now
            state = "revoked" if key.revoked_at else "expired" if expired else until
            used = f"used {key.last_used_at}" if key.last_used_at else "never used"
            what = f"{key.id}  {key.project_id}  {','.join(sorted(key.scopes))}  {key.created_at}"
            print(f"{what}  {state}  {used}  {key.name}")
    return 0


@_refusals
def keys_revoke(flags: Flags) -> int:
    """End a key; exit 1 where there is none of that id."""
    from limelight_collector.main import open_control

    with open_control(settings_module.load({"data_dir": flags["data_dir"]})) as control:
        found = control.revoke_key(flags["key_id"])
    if not found:
        print(f"limelight: no key {flags['key_id']}; `limelight keys list` shows them", file=sys.stderr)
    return 0 if found else 1


@_refusals
def retention_show(flags: Flags) -> int:
    """Print a project's own limits and the collector's."""
    from limelight_collector.main import open_control

    settings = settings_module.load({"data_dir": flags["data_dir"]})
    with open_control(settings) as control:
        _print_retention(flags["project"], control.retention.of(flags["project"]), settings)
    return 0


@_refusals
def retention_set(flags: Flags) -> int:
    """Replace a project's limits: what is not given has none of its own."""
    from limelight_collector.main import open_control
    from limelight_collector.retention import Policy, require_valid

    settings = settings_module.load({"data_dir": flags["data_dir"]})
    policy = Policy(flags["days"], flags["max_bytes"], flags["keep_flagged_days"])
    with open_control(settings) as control:
        try:
            require_valid(policy, settings.retention_days)
            control.retention.replace(flags["project"], policy, actor="command")
        except Rejected as error:
            raise StartupRefused(error.message) from None
    _print_retention(flags["project"], policy, settings)
    return 0


def _print_retention(project_id: str, policy: Policy, settings: Settings) -> None:
    days = settings.retention_days if policy.max_age_days is None else policy.max_age_days
    said = [f"{days} days"]
    if policy.keep_flagged_days is not None:
        said.append(f"traces with a flag, an error or a score {policy.keep_flagged_days} days")
    if policy.max_bytes is not None:
        said.append(f"at most {policy.max_bytes} bytes on disk, the oldest days go first")
    print(f"project {project_id} keeps: {'; '.join(said)} (the collector: {settings.retention_days} days)")


@_refusals
def deadletters_list(flags: Flags) -> int:
    """Print one line a dead letter: number, project, signal, received, items, bytes, reason. No content."""
    from limelight_collector import deadletters
    from limelight_collector.control.times import rfc3339

    with deadletters.opened(_spool_path(flags)) as connection:
        for letter in deadletters.listed(connection):
            received = rfc3339(letter.received_ns / 1e9)
            what = f"{letter.project_id}  {letter.signal}  {received}  {letter.items} items  {letter.size_bytes} bytes"
            print(f"{letter.seq}  {what}  {' '.join(letter.reason.split())[:200]}")
    return 0


@_refusals
def deadletters_show(flags: Flags) -> int:
    """Print one dead letter with its content as OTLP/JSON; exit 1 where there is none of that number."""
    from limelight_collector import deadletters
    from limelight_collector.decode import parse
    from limelight_collector.json_otlp import write_json

    with deadletters.opened(_spool_path(flags)) as connection:
        letter = deadletters.found(connection, flags["seq"])
    if letter is None:
        return _no_deadletter(flags["seq"])
    print(f"reason: {letter.reason}", file=sys.stderr)
    if letter.payload is None:
        print("limelight: its bytes are damaged, nothing can be shown; drop it", file=sys.stderr)
        return 1
    print(write_json(parse(letter.payload, cast("Signal", letter.signal))))
    return 0


@_refusals
def deadletters_replay(flags: Flags) -> int:
    """Queue dead letters again; exit 1 where one could not be, 2 without a choice."""
    from limelight_collector import deadletters

    seqs: list[int] = flags["seqs"]
    if bool(seqs) == bool(flags["all"]):
        raise StartupRefused("say which: `limelight deadletters replay SEQ ...` or `--all`")
    with deadletters.opened(_spool_path(flags)) as connection:
        wanted = seqs or [letter.seq for letter in deadletters.listed(connection)]
        queued = deadletters.replay(connection, wanted)
    print(f"queued again: {len(queued)}; the collector stores them within seconds, or at its next start")
    for seq in sorted(set(wanted) - set(queued)):
        print(f"limelight: dead letter {seq} is damaged or does not exist", file=sys.stderr)
    return 0 if len(queued) == len(set(wanted)) else 1


@_refusals
def deadletters_drop(flags: Flags) -> int:
    """Delete a dead letter for good; exit 1 where there is none of that number."""
    from limelight_collector import deadletters

    with deadletters.opened(_spool_path(flags)) as connection:
        dropped = deadletters.drop(connection, flags["seq"])
    return 0 if dropped else _no_deadletter(flags["seq"])


def _spool_path(flags: Flags) -> Path:
    return settings_module.load({"data_dir": flags["data_dir"]}).data_dir / "spool.db"


def _no_deadletter(seq: int) -> int:
    print(f"limelight: no dead letter {seq}; `limelight deadletters list` shows them", file=sys.stderr)
    return 1


@_refusals
def backup(flags: Flags) -> int:
    """Copy a data directory to a new place, or check a copy."""
    from limelight_collector import backup as backups
    from limelight_collector import manifest

    words: list[str] = flags["words"]
    if len(words) == 2 and words[0] == "verify":
        found = manifest.read(Path(words[1]))
        manifest.verify(Path(words[1]), found)
        print(f"{words[1]} is whole: {_contents(found)}")
        return 0
    if len(words) != 1:
        raise StartupRefused("say `limelight backup TARGET` or `limelight backup verify TARGET`")
    settings = settings_module.load({"data_dir": flags["data_dir"]})
    made = backups.back_up(settings, Path(words[0]), time.time())
    print(f"backed up to {words[0]}: {_contents(made)}")
    for missing, where in ((made.database, settings.clickhouse_url), (made.control_revision, settings.control_url)):
        if missing is None and where:
            print(
                f"limelight: not in it: what {urlsplit(where).hostname} keeps; see docs/operations.md", file=sys.stderr
            )
    return 0


@_refusals
def restore(flags: Flags) -> int:
    """Make a data directory from a backup, checked, and bring it to this version."""
    from limelight_collector import restore as restores
    from limelight_collector.main import migrate_all

    if flags["data_dir"] is None:
        raise StartupRefused("say where to: `limelight restore TARGET --data-dir NEW`")
    settings = settings_module.load({"data_dir": flags["data_dir"]})
    found = restores.restore(settings, flags["target"])
    steps = migrate_all(settings)
    print("\n".join([f"restored to {settings.data_dir}: {_contents(found)}", *(f"applied {step}" for step in steps)]))
    return 0


def _contents(found: Manifest) -> str:
    rows = ", ".join(f"{table['rows']} {name}" for name, table in found.tables.items() if table["rows"])
    kept = f"{found.spooled_records} requests not yet stored, {found.dead_letters} dead letters"
    return f"{len(found.files)} files, {found.bytes / 2**20:.1f} MiB, of {found.made_at}; {rows or 'no store'}; {kept}"


@_refusals
def rules_validate(flags: Flags) -> int:
    """Read a rule file; print what it holds, or the line that is wrong (exit 2)."""
    from limelight_collector.alerts.file import load_rules_file

    loaded = load_rules_file(flags["file"])
    print(f"{flags['file']}: {len(loaded.rules)} rules, {len(loaded.channels)} channels, all valid")
    return 0


def _dashboard_command(settings: Settings, host: str, key: str) -> tuple[list[str], dict[str, str]]:
    """The dashboard's command line and environment; the key travels by environment, never on the command line."""
    collector_host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 (compared)
    collector_url = settings.collector_url or f"http://{collector_host}:{settings.http_port}"
    command = [sys.executable, "-m", "limelight_dashboard", "--host", host]
    command += ["--port", str(settings.dashboard_port), "--collector-url", collector_url]
    return command, {**os.environ, "LIMELIGHT_API_KEY": key}


def _start_dashboard(settings: Settings, own_key: str) -> None:
    """Start the dashboard as a child that ends with this process: it exits when its standard input closes.

    It has no sign-in, so it listens on loopback whatever `host` is.
    """
    key = settings.api_key.get_secret_value() if settings.api_key else own_key
    command, environment = _dashboard_command(settings, "127.0.0.1", key)
    child = subprocess.Popen([*command, "--exit-with-parent"], stdin=subprocess.PIPE, env=environment)  # noqa: S603
    threading.Thread(target=_report_exit, args=(child,), name="dashboard-watch", daemon=True).start()


def _report_exit(child: subprocess.Popen[bytes]) -> None:
    code = child.wait()
    if code not in (0, -2, -15):
        print(f"limelight: the dashboard ended with code {code}; the collector goes on", file=sys.stderr)


def _watch_parent(flags: Flags) -> None:
    """With --exit-with-parent, stop as on SIGTERM when standard input closes (the starter is gone)."""
    if not flags.pop("exit_with_parent", None):
        return

    def wait_for_eof() -> None:
        while os.read(sys.stdin.fileno(), 4096):  # unbuffered: a buffer's lock would hang the exit
            pass
        import signal

        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_eof, name="parent-watch", daemon=True).start()
