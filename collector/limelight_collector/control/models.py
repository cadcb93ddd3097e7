"""The control database's tables, column by column as migrations/limelight_migrations/control makes them.

Times are unix seconds (`_s`); money is decimal text; JSON is portable between SQLite and PostgreSQL. A test compares
this declaration with the migrated database.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()


def _project() -> sa.Column[str]:
    return sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False)


def _column(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


PROJECTS = sa.Table(
    "projects",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    _column("name", sa.Text),
    _column("default_rules", sa.Integer),  # version of the shipped rules installed here; 0 = none yet
    _column("created_s", sa.Double),
)

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),  # the public part of the key
    _project(),
    _column("name", sa.Text),
    _column("scopes", sa.JSON),
    _column("sha256", sa.String(64)),  # of the whole key; the key itself is nowhere
    _column("created_s", sa.Double),
    sa.Column("expires_s", sa.Double),
    sa.Column("revoked_s", sa.Double),
    sa.Column("last_used_s", sa.Double),
)

CHANNELS = sa.Table(
    "channels",
    METADATA,
    _project(),
    _column("id", sa.String(64)),
    _column("body", sa.JSON),  # alerts.rule.Channel without its secret
    sa.Column("secret", sa.Text),  # signs deliveries, so it cannot be hashed; the API never shows it
    _column("source", sa.String(16)),
    sa.Column("last_attempt_s", sa.Double),
    sa.Column("last_delivered_s", sa.Double),
    sa.Column("last_error", sa.Text),
    _column("failures", sa.Integer),  # attempts that failed since the last delivery
    sa.PrimaryKeyConstraint("project_id", "id"),
)

ALERT_RULES = sa.Table(
    "alert_rules",
    METADATA,
    _project(),
    _column("id", sa.String(64)),
    _column("body", sa.JSON),  # alerts.rule.Rule
    _column("source", sa.String(16)),  # file | api | default
    _column("created_s", sa.Double),
    _column("updated_s", sa.Double),
    sa.Column("evaluated_s", sa.Double),
    sa.Column("last_error", sa.Text),
    sa.PrimaryKeyConstraint("project_id", "id"),
)

ALERT_STATES = sa.Table(
    "alert_states",
    METADATA,
    _project(),
    _column("rule_id", sa.String(64)),
    _column("series", sa.String(32)),  # hash of the labels
    _column("labels", sa.JSON),
    _column("name", sa.String(16)),
    _column("body", sa.JSON),  # alerts.state.State
    _column("updated_s", sa.Double),
    sa.PrimaryKeyConstraint("project_id", "rule_id", "series"),
)

ALERT_EVENTS = sa.Table(
    "alert_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    _project(),
    _column("rule_id", sa.String(64)),
    _column("rule_name", sa.Text),
    _column("severity", sa.String(16)),
    _column("labels", sa.JSON),
    _column("time_s", sa.Double),
    _column("from_state", sa.String(16)),
    _column("to_state", sa.String(16)),
    sa.Column("value", sa.Double),
    _column("events", sa.Integer),
    _column("reason", sa.Text),
    sa.Index("alert_events_by_time", "project_id", "time_s"),
)

OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    _project(),
    _column("rule_id", sa.String(64)),
    _column("series", sa.String(32)),
    _column("channel_id", sa.String(64)),
    _column("dedupe_key", sa.String(32)),
    _column("event", sa.String(16)),  # firing | resolved
    _column("payload", sa.JSON),
    _column("status", sa.String(16)),  # queued | delivered | failed
    _column("attempts", sa.Integer),
    _column("next_attempt_s", sa.Double),
    sa.Column("last_error", sa.Text),
    _column("created_s", sa.Double),
    sa.Column("delivered_s", sa.Double),
    sa.UniqueConstraint("dedupe_key", "event", "channel_id", name="outbox_once"),
    sa.Index("outbox_due", "status", "next_attempt_s"),
)

PRICE_OVERRIDES = sa.Table(
    "price_overrides",
    METADATA,
    _project(),
    _column("provider", sa.String(128)),
    _column("model", sa.String(256)),
    _column("input_per_million_usd", sa.Text),
    _column("output_per_million_usd", sa.Text),
    sa.Column("cache_read_per_million_usd", sa.Text),
    sa.PrimaryKeyConstraint("project_id", "provider", "model"),
)

LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    _column("holder", sa.String(64)),
    _column("expires_s", sa.Double),
)

RETENTION = sa.Table(
    "retention",
    METADATA,
    sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("max_age_days", sa.Integer),  # NULL in each: no limit of the project's own
    sa.Column("max_bytes", sa.BigInteger),
    sa.Column("keep_flagged_days", sa.Integer),
)

DELETIONS = sa.Table(
    "deletions",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    _project(),
    _column("kind", sa.String(16)),  # trace_id | user_id | session_id | everything
    sa.Column("value", sa.Text),  # whose data; NULL once it is gone, because it is personal itself
    _column("state", sa.String(16)),  # queued | running | verified | failed
    _column("detail", sa.Text),  # what it waits for, or why it failed
    _column("requested_ns", sa.BigInteger),  # what was received until then goes
    sa.Column("finished_s", sa.Double),
    _column("rows", sa.JSON),  # deleted so far, by table
    sa.Column("portion", sa.JSON),  # what is being deleted: the same again after a crash
    sa.Index("deletions_by_time", "project_id", "requested_ns"),
)

AUDIT_LOG = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    _column("time_s", sa.Double),
    _column("project_id", sa.String(64)),
    _column("actor", sa.Text),
    _column("action", sa.String(64)),
    _column("object", sa.Text),
    sa.Column("before", sa.JSON),
    sa.Column("after", sa.JSON),
    sa.Index("audit_log_by_time", "project_id", "time_s"),
)
