"""Retention of each project, and deletions with their state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "retention",
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("max_age_days", sa.Integer, nullable=True),
        sa.Column("max_bytes", sa.BigInteger, nullable=True),
        sa.Column("keep_flagged_days", sa.Integer, nullable=True),
    )
    op.create_table(
        "deletions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.Text, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("requested_ns", sa.BigInteger, nullable=False),
        sa.Column("finished_s", sa.Double, nullable=True),
        sa.Column("rows", sa.JSON, nullable=False),
        sa.Column("portion", sa.JSON, nullable=True),
    )
    op.create_index("deletions_by_time", "deletions", ["project_id", "requested_ns"])
