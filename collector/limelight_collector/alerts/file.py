"""The rules file: YAML with `rules` and `channels`, read whole or not at all, with errors that name the line."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from limelight_collector.alerts.rule import EVERY_CHANNEL, Channel, Rule
from limelight_collector.alerts.values import check_query
from limelight_collector.alerts.webhook import DeliveryFailed, parse_target
from limelight_collector.auth import DEFAULT_PROJECT
from limelight_collector.control import Control
from limelight_collector.errors import Rejected, StartupRefused
from limelight_collector.metrics import RULES_FILE_RELOADS
from limelight_collector.query.filter import FilterError

log = logging.getLogger("limelight.alerts")

DEFAULT_RULES = Path(__file__).with_name("default_rules.yaml")
DEFAULT_RULES_VERSION = 1
"""Raised when the shipped rules change and existing projects should get the new ones."""

_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LoadedRules:
    """What a rules file holds."""

    rules: list[Rule]
    channels: list[Channel]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rules: list[Rule] = []
    channels: list[Channel] = []


def load_rules_file(path: str | Path, allowed_hosts: Collection[str] | None = None) -> LoadedRules:
    """The rules and channels of a file; `StartupRefused` with "<path>:<line>: <what is wrong>".

    With `allowed_hosts` the channels' addresses are checked against the webhook policy too.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupRefused(f"cannot read the rules file {path}: {getattr(error, 'strerror', error)}") from None
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or "not YAML"
        raise StartupRefused(f"{path}:{mark.line + 1 if mark else 1}: {said}") from None

    def refuse(place: _Path, message: str) -> StartupRefused:
        return StartupRefused(f"{path}:{_line(root, place)}: {_shown(place)}{message}")

    try:
        parsed = _File.model_validate({} if data is None else data)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise refuse(first["loc"], _said(first["msg"], first["loc"]) + more) from None
    problem = _duplicate(parsed) or _unknown_channel(parsed) or _bad_query(parsed) or _bad_url(parsed, allowed_hosts)
    if problem is not None:
        raise refuse(*problem)
    return LoadedRules(parsed.rules, parsed.channels)


class RulesFile:
    """The rules file and what was last read of it. `load` at start refuses; `reload` later keeps the old rules."""

    def __init__(self, path: Path, control: Control, allowed_hosts: list[str]) -> None:
        self._path = path
        self._control = control
        self._allowed_hosts = allowed_hosts
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Make the file's rules the project's; `StartupRefused` where it is wrong."""
        self._seen = self._stamp()
        loaded = load_rules_file(self._path, self._allowed_hosts)
        try:
            self._control.rules.sync_file(DEFAULT_PROJECT, loaded.rules, loaded.channels)
        except Rejected as error:
            raise StartupRefused(f"{self._path}: {error.message}") from None

    def reload(self) -> None:
        """Read the file again if it changed; a bad one is logged and counted, and the rules stay as they were."""
        if self._stamp() == self._seen:
            return
        try:
            self.load()
        except StartupRefused as error:
            RULES_FILE_RELOADS.labels(outcome="failed").inc()
            log.error("the changed rules file was not taken", extra={"fields": {"error": str(error)}})
        else:
            RULES_FILE_RELOADS.labels(outcome="ok").inc()
            log.info("the changed rules file was taken", extra={"fields": {"path": str(self._path)}})

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _duplicate(parsed: _File) -> tuple[_Path, str] | None:
    for noun, items in (("rules", parsed.rules), ("channels", parsed.channels)):
        seen: set[str] = set()
        for index, item in enumerate(items):
            if item.id in seen:
                return (noun, index, "id"), f"the id '{item.id}' is used twice"
            seen.add(item.id)
    return None


def _unknown_channel(parsed: _File) -> tuple[_Path, str] | None:
    known = {EVERY_CHANNEL, *(channel.id for channel in parsed.channels)}
    for index, rule in enumerate(parsed.rules):
        for number, channel in enumerate(rule.channels):
            if channel not in known:
                return ("rules", index, "channels", number), f"there is no channel '{channel}' in this file"
    return None


def _bad_query(parsed: _File) -> tuple[_Path, str] | None:
    said = (_query_problem(rule) for rule in parsed.rules)
    return next(((("rules", index, "filter"), text) for index, text in enumerate(said) if text), None)


def _query_problem(rule: Rule) -> str:
    try:
        check_query(rule)
    except FilterError as error:
        return f"filter or group_by: {error}"
    return ""


def _bad_url(parsed: _File, allowed_hosts: Collection[str] | None) -> tuple[_Path, str] | None:
    if allowed_hosts is None:
        return None
    said = (_url_problem(channel.url, allowed_hosts) for channel in parsed.channels)
    return next(((("channels", index, "url"), text) for index, text in enumerate(said) if text), None)


def _url_problem(url: str, allowed_hosts: Collection[str]) -> str:
    try:
        parse_target(url, allowed_hosts)
    except DeliveryFailed as error:
        return str(error)
    return ""


def _line(node: Any, place: _Path) -> int:
    """The line of the deepest node on the way to `place`; 1 where there is none."""
    line = 1
    for part in place:
        child = _child(node, part)
        if child is None:
            break
        line, node = child
    return line


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    """Line and value of an entry; a mapping's line is its key's, so that an empty value is still found."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def _shown(place: _Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    return f"{text}: " if text else ""


def _said(message: str, place: _Path) -> str:
    if not place:
        return "a rules file is a mapping with `rules` and `channels`"
    return message.removeprefix("Value error, ")
