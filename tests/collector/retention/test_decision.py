"""What goes: never more than the policy says, never less than it must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_collector.errors import Rejected
from limelight_collector.retention import Policy, cut_by_age, cut_by_size, require_valid

TODAY = 20_780
DAY_S = 86_400

limits = st.integers(1, 400)
moments = st.integers(TODAY * DAY_S, (TODAY + 1) * DAY_S - 1)


@given(now_s=moments, age_days=limits, longer=st.integers(0, 100), day=st.integers(TODAY - 600, TODAY + 1))
def test_nothing_goes_before_its_age_and_everything_soon_after(
    now_s: int, age_days: int, longer: int, day: int
) -> None:
    cut = cut_by_age(Policy(age_days, None, age_days + longer), now_s // DAY_S)
    assert cut is not None
    youngest_s, oldest_s = now_s - (day + 1) * DAY_S, now_s - day * DAY_S
    for days, goes in ((age_days, day < cut.before), (age_days + longer, day < cut.flagged_before)):
        if goes:
            assert youngest_s >= days * DAY_S  # not even the last moment of the day is younger than the limit
        else:
            assert oldest_s < (days + 1) * DAY_S + DAY_S
    assert cut.flagged_before <= cut.before <= TODAY


def test_without_a_limit_of_its_own_flagged_goes_with_the_rest() -> None:
    assert cut_by_age(Policy(), TODAY) is None
    assert cut_by_age(Policy(keep_flagged_days=9), TODAY) is None
    cut = cut_by_age(Policy(7), TODAY)
    assert cut is not None
    assert cut.before == cut.flagged_before == TODAY - 7


sizes = st.dictionaries(st.integers(TODAY - 40, TODAY + 1), st.integers(0, 10**9), max_size=42)


@given(stored=sizes, max_bytes=st.integers(1, 10**10))
def test_size_takes_the_fewest_oldest_days_and_never_today(stored: dict[int, int], max_bytes: int) -> None:
    cut = cut_by_size(Policy(max_bytes=max_bytes), TODAY, stored)
    total = sum(stored.values())
    if cut is None:
        assert total <= max_bytes or not any(day < TODAY for day in stored)
        return
    rest = sum(size for day, size in stored.items() if day >= cut.before)
    assert cut.before == cut.flagged_before <= TODAY
    assert rest <= max_bytes or all(day >= TODAY for day in stored if day >= cut.before)
    spared = [day for day in stored if day < cut.before]
    assert spared
    assert rest + stored[max(spared)] > max_bytes  # with one day fewer it would not fit


def test_size_without_a_limit_or_anything_stored() -> None:
    assert cut_by_size(Policy(7), TODAY, {TODAY - 3: 10}) is None
    assert cut_by_size(Policy(max_bytes=1), TODAY, {}) is None


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(0), "max_age_days: 1 to 30"),
        (Policy(31), "LIMELIGHT_RETENTION_DAYS"),
        (Policy(7, keep_flagged_days=31), "keep_flagged_days: 1 to 30"),
        (Policy(7, keep_flagged_days=6), "not be less"),
        (Policy(keep_flagged_days=20), "needs max_age_days"),
        (Policy(max_bytes=0), "max_bytes"),
        (Policy(max_bytes=2**63), "max_bytes"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(policy: Policy, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        require_valid(policy, 30)


def test_policies_that_can_be_kept() -> None:
    for policy in (Policy(), Policy(30), Policy(7, 10, 30), Policy(max_bytes=1), Policy(7, keep_flagged_days=7)):
        require_valid(policy, 30)
