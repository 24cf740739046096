"""Visibility timeouts: exponential with jitter, never below Retry-After, never above the limit of SQS."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.backoff import MAX_VISIBILITY_SECONDS, visibility_seconds
from tests.contract.project import template

RANDOM = st.floats(0, 1, exclude_max=True)


@given(st.integers(-5, 10_000), st.integers(0, 43_200), st.integers(0, 43_200), RANDOM)
def test_a_visibility_timeout_is_at_least_one_second_and_at_most_the_cap(
    receives: int, base: int, cap: int, rng: float
) -> None:
    seconds = visibility_seconds(receives, base=base, cap=cap, rng=lambda: rng)
    assert 1 <= seconds <= max(1, cap)
    assert seconds < MAX_VISIBILITY_SECONDS


@given(st.integers(1, 20), RANDOM, st.floats(0, 42_000))
def test_a_retry_after_is_a_lower_bound_even_above_the_cap(receives: int, rng: float, floor: float) -> None:
    assert visibility_seconds(receives, base=2, cap=60, rng=lambda: rng, retry_after=floor) >= floor


@given(st.floats(0, 1e12), RANDOM)
def test_no_retry_after_exceeds_the_limit_of_sqs(floor: float, rng: float) -> None:
    seconds = visibility_seconds(1, base=2, cap=60, rng=lambda: rng, retry_after=floor)
    assert seconds <= MAX_VISIBILITY_SECONDS - 900


def test_equal_retry_after_values_give_different_visibility_timeouts() -> None:
    waits = {visibility_seconds(5, base=10, cap=600, rng=lambda c=c: c / 10, retry_after=120.0) for c in range(10)}
    assert len(waits) == 10
    assert min(waits) == 300, "half of the bound is fixed"


def test_equal_retry_after_values_above_the_bound_give_different_visibility_timeouts() -> None:
    waits = {visibility_seconds(2, base=10, cap=600, rng=lambda c=c: c / 10, retry_after=120.0) for c in range(10)}
    assert len(waits) == 10
    assert min(waits) == 120


def test_the_bound_grows_fourfold_with_each_receive_up_to_the_cap_and_half_of_it_is_fixed() -> None:
    longest = [visibility_seconds(n, base=10, cap=100, rng=lambda: 0.9999) for n in range(1, 5)]
    shortest = [visibility_seconds(n, base=10, cap=100, rng=lambda: 0.0) for n in range(1, 5)]
    assert (longest, shortest) == ([10, 40, 100, 100], [5, 20, 50, 50])


def test_a_transient_failure_survives_two_minutes_in_the_buffer_and_is_tried_again_within_three_seconds() -> None:
    """With the defaults and the worst jitter. The circuit breaker needs less to open, so no event dies before that."""
    base, cap, receives = (
        template()["Parameters"][name]["Default"]
        for name in ("BackoffBaseSeconds", "BackoffCapSeconds", "MaxReceiveCount")
    )

    def waits(jitter: float) -> list[int]:
        return [visibility_seconds(n, base=base, cap=cap, rng=lambda: jitter) for n in range(1, receives)]

    assert sum(waits(0.0)) >= 120
    assert waits(0.9999)[0] <= 3
