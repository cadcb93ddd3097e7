"""The `limelight` command: argparse declarations and dispatch.

`doctor` and `run` work on the bare install; verbs of the server load `limelight_collector` and
`limelight_dashboard` by name, only when they run, so that the SDK depends on neither.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from limelight.version import __version__

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that says where help is; exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit 2."""
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 fine, 1 failed, 2 refused or wrongly called)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    run: Run | None = getattr(arguments, "run", None)
    if run is None:
        parser.print_help()
        return 2
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="limelight", description="LLM observability: OpenTelemetry in, ClickHouse below.")
    parser.add_argument("--version", action="version", version=f"limelight {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _serve_verbs(verbs)
    _store_verbs(verbs)
    _client_verbs(verbs)
    return parser


def _serve_verbs(verbs: Any) -> None:
    up = _verb(verbs, "up", "collector, API, alerts and dashboard in one", _server("up"))
    collector = _verb(verbs, "collector", "the collector alone: OTLP, API, alerts", _server("collector"))
    dashboard = _verb(verbs, "dashboard", "the dashboard alone, against a running collector", _server("dashboard"))
    for verb in (up, collector):
        _data_dir(verb)
        verb.add_argument("--grpc-port", type=int, help="OTLP/gRPC (4317)")
        verb.add_argument("--rules-file", type=Path, help="YAML file of alert rules")
    for verb in (up, collector, dashboard):
        verb.add_argument("--host", help="address to listen on (127.0.0.1); any other needs a key")
        verb.add_argument("--exit-with-parent", action="store_true", default=None, help=argparse.SUPPRESS)
    for verb in (up, collector):
        verb.add_argument("--http-port", type=int, help="OTLP/HTTP, API, /healthz, /readyz, /metrics (4318)")
    for verb in (up, dashboard):
        verb.add_argument("--dashboard-port", type=int, help="the dashboard (8501)")
    up.add_argument("--no-dashboard", action="store_true", default=None, help="leave the dashboard out")
    dashboard.add_argument("--collector-url", help="where the collector answers (http://127.0.0.1:4318)")


def _store_verbs(verbs: Any) -> None:
    migrate = _verb(verbs, "migrate", "bring the store and the control database to this version", _server("migrate"))
    _data_dir(migrate)
    migrate.add_argument("--dry-run", action="store_true", help="print the SQL that would run, change nothing")
    migrate.add_argument("--allow-destructive", action="store_true", help="also steps that take stored data away")

    keys = _verb(verbs, "keys", "make, list and revoke API keys", None)
    key_verbs = keys.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    create = _verb(
        key_verbs, "create", "make a key; it is printed once, alone on the last line", _server("keys_create")
    )
    create.add_argument("--project", required=True, help="the project whose data the key reaches")
    create.add_argument("--scope", required=True, action="append", choices=("ingest", "read", "admin"))
    create.add_argument("--name", default="", help="a note for you")
    create.add_argument("--days", type=float, help="how long it is valid (for ever)")
    listing = _verb(key_verbs, "list", "the keys, without their secrets", _server("keys_list"))
    revoke = _verb(key_verbs, "revoke", "end a key by its id", _server("keys_revoke"))
    revoke.add_argument("key_id", help="as `keys list` shows it")
    for verb in (create, listing, revoke):
        _data_dir(verb)

    _retention_verbs(verbs)
    _deadletter_verbs(verbs)
    _backup_verbs(verbs)
    rules = _verb(verbs, "rules", "check alert rule files", None)
    rule_verbs = rules.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    validate = _verb(
        rule_verbs, "validate", "read a rule file and say what is wrong with it", _server("rules_validate")
    )
    validate.add_argument("file", type=Path)


def _retention_verbs(verbs: Any) -> None:
    retention = _verb(verbs, "retention", "how long a project's data is kept", None)
    retention_verbs = retention.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    show = _verb(retention_verbs, "show", "the limits that hold now", _server("retention_show"))
    change = _verb(
        retention_verbs, "set", "replace a project's limits; what is not given has none", _server("retention_set")
    )
    change.add_argument("--days", type=int, help="older days go (the collector's LIMELIGHT_RETENTION_DAYS)")
    change.add_argument("--max-bytes", type=int, help="bytes on disk; beyond it the oldest days go")
    change.add_argument("--keep-flagged-days", type=int, help="for traces with a flag, an error or a score")
    for verb in (show, change):
        verb.add_argument("--project", required=True, help="the project")
        _data_dir(verb)


def _deadletter_verbs(verbs: Any) -> None:
    letters = _verb(verbs, "deadletters", "acknowledged requests that could not be stored", None)
    letter_verbs = letters.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    listing = _verb(letter_verbs, "list", "each with its reason, without content", _server("deadletters_list"))
    show = _verb(letter_verbs, "show", "one with its content as JSON", _server("deadletters_show"))
    show.add_argument("seq", type=int, help="as `deadletters list` shows it")
    replay = _verb(
        letter_verbs, "replay", "store them again, after an upgrade for example", _server("deadletters_replay")
    )
    replay.add_argument("seqs", type=int, nargs="*", metavar="SEQ", help="as `deadletters list` shows it")
    replay.add_argument("--all", action="store_true", help="every one")
    drop = _verb(letter_verbs, "drop", "delete one for good", _server("deadletters_drop"))
    drop.add_argument("seq", type=int, help="as `deadletters list` shows it")
    for verb in (listing, show, replay, drop):
        _data_dir(verb)


def _backup_verbs(verbs: Any) -> None:
    backup = _verb(
        verbs, "backup", "copy everything a collector knows, running or not; or verify a copy", _server("backup")
    )
    backup.usage = "limelight backup [--data-dir DIR] TARGET | limelight backup verify TARGET"
    backup.add_argument("words", nargs="+", metavar="TARGET", help="a directory that does not exist yet")
    restore = _verb(verbs, "restore", "make a data directory from a backup", _server("restore"))
    restore.add_argument("target", type=Path, metavar="TARGET", help="what `limelight backup` made")
    for verb in (backup, restore):
        _data_dir(verb)


def _client_verbs(verbs: Any) -> None:
    doctor = _verb(verbs, "doctor", "check endpoint, key, version and a round trip", _own("limelight.doctor"))
    doctor.add_argument("--endpoint", help="the collector (LIMELIGHT_ENDPOINT or http://127.0.0.1:4318)")
    doctor.add_argument("--api-key", help="the key (LIMELIGHT_API_KEY)")

    runner = _verb(verbs, "run", "run a program traced, without a change to its code", _own("limelight.run"))
    runner.usage = "limelight run [FLAGS] -- COMMAND ..."
    runner.add_argument("--endpoint", help="the collector (LIMELIGHT_ENDPOINT or http://127.0.0.1:4318)")
    runner.add_argument("--api-key", help="the key; better in LIMELIGHT_API_KEY, where other users cannot see it")
    runner.add_argument("--service-name", help="the name of the program (its own)")
    runner.add_argument("--environment", help="such as production")
    runner.add_argument("--capture", choices=("full", "redacted", "none"), help="prompts and answers (full)")
    runner.add_argument("--sample-rate", help="share of traces kept, 0 to 1; errors are kept besides (1)")
    runner.add_argument("--providers", help="libraries to trace, by commas (all)")
    runner.add_argument("--flush-on-sigterm", action="store_true", help="send what is there before SIGTERM ends it")
    runner.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")

    demo = _verb(verbs, "demo", "start everything and send real traced traffic", _own("limelight.demo.run"))
    _data_dir(demo)
    demo.add_argument("--base-url", help="an OpenAI-compatible or Ollama endpoint to use instead of the built-in model")
    demo.add_argument("--model", help="the model to ask there")
    demo.add_argument("--conversations", type=int, default=24, help="how many support conversations to run (24)")
    demo.add_argument("--once", action="store_true", help="exit when the conversations are done")
    demo.add_argument("--http-port", type=int, default=4318)
    demo.add_argument("--grpc-port", type=int, default=4317)
    demo.add_argument("--dashboard-port", type=int, default=8501)


def _verb(verbs: Any, name: str, summary: str, run: Run | None) -> Any:
    verb = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    if run is not None:
        verb.set_defaults(run=run)
    return verb


def _data_dir(verb: Any) -> None:
    verb.add_argument("--data-dir", type=Path, help="directory of the embedded store (limelight-data)")


def _server(function: str) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        return _call("limelight_collector.commands", function, arguments)

    return run


def _own(module: str) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        return _call(module, "run", arguments)

    return run


def _call(module: str, function: str, arguments: argparse.Namespace) -> int:
    """Import `module` and call `function(flags)`; a missing extra is one line that names it."""
    flags = {name: value for name, value in vars(arguments).items() if name != "run"}
    try:
        command: Callable[[dict[str, Any]], int] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        extra = "demo" if module.startswith("limelight.demo") else "server"
        print(f"limelight: this command needs {error.name}: pip install 'limelight[{extra}]'", file=sys.stderr)
        return 2
    return command(flags)


if __name__ == "__main__":
    sys.exit(main())
