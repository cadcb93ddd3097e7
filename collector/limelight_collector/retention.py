"""Retention: how long a project's data stays, where its own limits are narrower than the collector's.

Deciding is pure: a policy, the day and the sizes of what is stored give a `Cut`. Everything is decided in whole UTC
days, so nothing goes before its limit and a day may stay until it is over. Applying it: retention_upkeep.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from limelight_collector.errors import Rejected

MAX_DAYS = 36_500
"""The longest age a limit may name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A project's limits; None: none of its own.

    `max_age_days`: older days go. `max_bytes`: the oldest days go until the rest, as compressed on disk, is no more.
    `keep_flagged_days`: traces with a flag, an error or a score go by this age instead of `max_age_days`.
    """

    max_age_days: int | None = None
    max_bytes: int | None = None
    keep_flagged_days: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes: days (since 1970) before `before`, but flagged traces only of days before `flagged_before`."""

    before: int
    flagged_before: int


def require_valid(policy: Policy, collector_days: int) -> None:
    """`Rejected` (bad_request) with what to change, unless all limits are positive and within the collector's.

    `collector_days` is the collector's own retention: nothing can be kept for longer than that.
    """
    limits = {"max_age_days": policy.max_age_days, "keep_flagged_days": policy.keep_flagged_days}
    for name, days in limits.items():
        if days is not None and not 1 <= days <= min(collector_days, MAX_DAYS):
            hint = "raise LIMELIGHT_RETENTION_DAYS on the collector to keep more"
            raise Rejected("bad_request", f"{name}: 1 to {min(collector_days, MAX_DAYS)} days; {hint}")
    if policy.max_bytes is not None and not 0 < policy.max_bytes < 2**63:
        raise Rejected("bad_request", "max_bytes: at least 1 byte")
    if policy.keep_flagged_days is not None and policy.keep_flagged_days < (policy.max_age_days or collector_days):
        raise Rejected("bad_request", "keep_flagged_days: it needs max_age_days, and must not be less than that")


def cut_by_age(policy: Policy, today: int) -> Cut | None:
    """What is too old on day `today` (days since 1970); None where the policy has no age."""
    if policy.max_age_days is None:
        return None
    before = today - policy.max_age_days  # the last moment of the day before that is max_age_days old
    return Cut(before, min(before, today - (policy.keep_flagged_days or policy.max_age_days)))


def cut_by_size(policy: Policy, today: int, size_bytes: Mapping[int, float]) -> Cut | None:
    """The fewest oldest days to remove so that the rest fits; `size_bytes` by day. None where all of it fits.

    Flagged traces go too, or the limit would be none. Today and what lies after it stay: a limit below one day of data
    cannot be kept by removing days.
    """
    if policy.max_bytes is None:
        return None
    rest, before = sum(size_bytes.values()), None
    for day in sorted(day for day in size_bytes if day < today):
        if rest <= policy.max_bytes:
            break
        rest -= size_bytes[day]
        before = day + 1
    return None if before is None else Cut(before, before)
