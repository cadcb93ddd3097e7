"""Projects, keys, alert rules with state, history and outbox, channels, price overrides, audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table; the audit log refuses changes and deletions by itself."""
    _identity()
    _alert_rules()
    _alert_progress()
    _prices_and_audit()
    for statement in _append_only(op.get_context().dialect.name):
        op.execute(statement)


def _project() -> sa.Column[str]:
    return sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _identity() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(64), primary_key=True),
        _text("name"),
        sa.Column("default_rules", sa.Integer, nullable=False),
        _time("created_s"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        _project(),
        _text("name"),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        _time("created_s"),
        _time("expires_s", nullable=True),
        _time("revoked_s", nullable=True),
        _time("last_used_s", nullable=True),
    )
    op.create_table(
        "channels",
        _project(),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("secret", sa.Text, nullable=True),
        sa.Column("source", sa.String(16), nullable=False),
        _time("last_attempt_s", nullable=True),
        _time("last_delivered_s", nullable=True),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id"),
    )


def _alert_rules() -> None:
    op.create_table(
        "alert_rules",
        _project(),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        _time("created_s"),
        _time("updated_s"),
        _time("evaluated_s", nullable=True),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("project_id", "id"),
    )


def _alert_progress() -> None:
    op.create_table(
        "alert_states",
        _project(),
        sa.Column("rule_id", sa.String(64), nullable=False),
        sa.Column("series", sa.String(32), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        _time("updated_s"),
        sa.PrimaryKeyConstraint("project_id", "rule_id", "series"),
    )
    op.create_table(
        "alert_events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _project(),
        sa.Column("rule_id", sa.String(64), nullable=False),
        _text("rule_name"),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        _time("time_s"),
        sa.Column("from_state", sa.String(16), nullable=False),
        sa.Column("to_state", sa.String(16), nullable=False),
        sa.Column("value", sa.Double, nullable=True),
        sa.Column("events", sa.Integer, nullable=False),
        _text("reason"),
    )
    op.create_index("alert_events_by_time", "alert_events", ["project_id", "time_s"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _project(),
        sa.Column("rule_id", sa.String(64), nullable=False),
        sa.Column("series", sa.String(32), nullable=False),
        sa.Column("channel_id", sa.String(64), nullable=False),
        sa.Column("dedupe_key", sa.String(32), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _time("next_attempt_s"),
        sa.Column("last_error", sa.Text, nullable=True),
        _time("created_s"),
        _time("delivered_s", nullable=True),
        sa.UniqueConstraint("dedupe_key", "event", "channel_id", name="outbox_once"),
    )
    op.create_index("outbox_due", "outbox", ["status", "next_attempt_s"])


def _prices_and_audit() -> None:
    op.create_table(
        "price_overrides",
        _project(),
        sa.Column("provider", sa.String(128), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        _text("input_per_million_usd"),
        _text("output_per_million_usd"),
        sa.Column("cache_read_per_million_usd", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("project_id", "provider", "model"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _time("time_s"),
        sa.Column("project_id", sa.String(64), nullable=False),
        _text("actor"),
        sa.Column("action", sa.String(64), nullable=False),
        _text("object"),
        sa.Column("before", sa.JSON, nullable=True),
        sa.Column("after", sa.JSON, nullable=True),
    )
    op.create_index("audit_log_by_time", "audit_log", ["project_id", "time_s"])


def _append_only(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER audit_log_no_{verb} BEFORE {verb} ON audit_log "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            for verb in ("update", "delete")
        ]
    return [
        f"CREATE RULE audit_log_no_{verb} AS ON {verb} TO audit_log DO INSTEAD NOTHING" for verb in ("UPDATE", "DELETE")
    ]
