"""The same statements for a cluster: each table becomes a replicated one on every node and a distributed one over them.

`spans` is then the Distributed table that questions and inserts name, `spans_local` the part of it that a node holds.
Rows that must meet lie on one shard: copies of a row (they collapse where they lie), and of a trace its spans, flags,
scores, times and log records. docs/scaling.md says which questions that keeps cheap.
"""

from __future__ import annotations

import re

_TRACE = "cityHash64(project_id, trace_id)"
_SERIES = "cityHash64(project_id, metric, series_id)"
_BUCKET = "cityHash64(project_id, bucket)"
SHARDING = {
    "schema_migrations": "version",
    "spans": _TRACE,
    "trace_times": _TRACE,
    "flags": _TRACE,
    "scores": _TRACE,
    "metric_points": _SERIES,
    "metric_series": _SERIES,
    # a record without a trace has nobody to meet but its copies
    "logs": "cityHash64(project_id, if(trace_id = toFixedString('', 16), log_id, trace_id))",
    "log_times": _TRACE,
    "touched": "rand()",  # filled by views where the spans lie, summed up over the shards when read: no key holds
    "rolled": _BUCKET,
    "rollup_1m": _BUCKET,
    "rollup_1h": _BUCKET,
    "rollup_1h_slim": _BUCKET,
    "traces_1m": _BUCKET,
    "users_1m": _BUCKET,
    "errors_1m": _BUCKET,
}
"""Each table's sharding key: what decides on which shard a row lies."""

_CREATE_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (?P<name>\w+)(?P<rest>[\s(].*)", re.DOTALL)
_CREATE_VIEW = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS (?P<name>\w+) TO (?P<target>\w+)(?P<rest>\s.*)", re.DOTALL
)
_CHANGE = re.compile(
    r"(?P<verb>ALTER TABLE|DELETE FROM|OPTIMIZE TABLE|TRUNCATE TABLE) (?P<name>\w+)(?P<rest>.*)", re.DOTALL
)
_OF_PARTS = re.compile(r"\s*(DROP|DETACH|ATTACH|FREEZE|REPLACE|MOVE|FETCH)\s+PART", re.IGNORECASE)
_OF_COLUMNS = re.compile(r"\s*(ADD|DROP|MODIFY|RENAME|COMMENT)\s+COLUMN", re.IGNORECASE)


def local(table: str, cluster: str) -> str:
    """The name of the table that holds the rows: `table` itself where there is no cluster."""
    return f"{table}_local" if cluster else table


def render(statement: str, cluster: str) -> list[str]:
    """What to run on `cluster` ("" = one engine: the statement as it is) for a statement written for one engine.

    `ValueError` for what has no meaning there: parts and partitions are named per node.
    """
    if not cluster:
        return [statement]
    if created := _CREATE_TABLE.fullmatch(statement):
        return _table(created["name"], created["rest"], cluster)
    if view := _CREATE_VIEW.fullmatch(statement):
        return [_view(view["name"], view["target"], view["rest"], cluster)]
    if change := _CHANGE.fullmatch(statement):
        return _changed(change["verb"], change["name"], change["rest"], cluster)
    if statement.startswith("KILL MUTATION WHERE "):
        return [statement.replace("KILL MUTATION", f"KILL MUTATION ON CLUSTER '{cluster}'", 1)]
    if re.match(r"(INSERT|SELECT)\b", statement):
        return [statement]  # about the distributed tables, by whichever node is asked
    raise ValueError(f"no statement for a cluster: {statement[:100]}")


def _table(name: str, rest: str, cluster: str) -> list[str]:
    if name not in SHARDING:
        raise ValueError(f"{name} has no sharding key in {__name__}")
    replicated = re.sub(r"\bENGINE = (\w*MergeTree)", r"ENGINE = Replicated\1", rest)
    copied = re.sub(r"^( AS )(\w+)$", r"\1\2_local", replicated)
    part = f"CREATE TABLE IF NOT EXISTS {name}_local ON CLUSTER '{cluster}'{copied}"
    whole = f"Distributed('{cluster}', currentDatabase(), {name}_local, {SHARDING[name]})"
    return [part, f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER '{cluster}' AS {name}_local ENGINE = {whole}"]


def _view(name: str, target: str, rest: str, cluster: str) -> str:
    reading = re.sub(r"\bFROM (\w+)", r"FROM \1_local", rest)
    return f"CREATE MATERIALIZED VIEW IF NOT EXISTS {name} ON CLUSTER '{cluster}' TO {target}_local{reading}"


def _changed(verb: str, name: str, rest: str, cluster: str) -> list[str]:
    if _OF_PARTS.match(rest):
        raise ValueError(f"no statement for a cluster: {verb} {name}{rest[:100]}")
    statements = [f"{verb} {name}_local ON CLUSTER '{cluster}'{rest}"]
    if verb == "ALTER TABLE" and _OF_COLUMNS.match(rest):
        statements.append(f"{verb} {name} ON CLUSTER '{cluster}'{rest}")
    return statements
