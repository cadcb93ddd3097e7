"""Leases, so that one of several collectors does what is done once; on PostgreSQL an audit log that says no."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a lease. PostgreSQL kept the audit log as it was and said nothing to who tried; now it is an error."""
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires_s", sa.Double, nullable=False),
    )
    if op.get_context().dialect.name == "postgresql":
        for statement in _REFUSING:
            op.execute(statement)


_REFUSING = (
    "DROP RULE audit_log_no_UPDATE ON audit_log",
    "DROP RULE audit_log_no_DELETE ON audit_log",
    (
        "CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    ),
    (
        "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()"
    ),
)
