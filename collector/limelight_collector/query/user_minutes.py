"""What each user cost in each minute, by session, service and environment: sums of model calls, without latencies."""

from __future__ import annotations

from limelight_collector.query.measures import COUNTED, REQUESTS
from limelight_collector.query.minutes import MinuteTable

USERS = MinuteTable(
    name="users_1m",
    key=("service_name", "environment", "session_id", "user_id"),
    columns=COUNTED,
    condition=REQUESTS,
)
"""One row a minute, service, environment, session and user; '' where a call has none."""
