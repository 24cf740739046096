"""The capacity model obeys the laws that hold for every queue, and the template's own numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmarks.capacity import (
    IN_FLIGHT,
    Arrivals,
    Forecast,
    Outage,
    System,
    dollars,
    error_against_the_engine,
    genesys_calls_per_minute,
    simulate,
)

#: A hundred events in a second, and all slots at once.
SYSTEM = System(concurrency=2, batch_size=10, seconds_per_batch=0.2, first_slots=2)
HOURS = 3_600


def during(seconds: float, rate: float) -> Arrivals:
    return lambda now: rate if now < seconds else 0.0


def in_all(seen: Forecast) -> float:
    return seen.stored[-1] + seen.waiting + seen.archived


def test_what_can_be_worked_off_does_not_wait_and_keeps_as_many_busy_as_little_says() -> None:
    seen = simulate(during(60, rate=50), SYSTEM, seconds=60)
    assert max(seen.backlog) == 0
    assert seen.busy[-1] == pytest.approx(50 * 0.2 / 10)


def test_twice_the_capacity_for_a_minute_takes_another_minute_and_the_last_waits_as_long() -> None:
    seen = simulate(during(60, rate=200), SYSTEM, seconds=200)
    assert max(seen.backlog) == pytest.approx(6_000)
    assert seen.drained_after(60) == pytest.approx(60, abs=1)
    assert max(seen.age) == pytest.approx(60, abs=2)
    assert max(seen.busy) == pytest.approx(2)


def test_the_mean_wait_times_the_rate_is_the_mean_backlog() -> None:
    seen = simulate(during(60, rate=200), SYSTEM, seconds=120)
    # The wait of an event is how far apart the two curves are at its number; of 12,000 they wait 30 s in the mean.
    mean_wait, mean_rate = 30, 12_000 / 120
    assert sum(seen.backlog) / 120 == pytest.approx(mean_wait * mean_rate, rel=0.02)


@given(
    rate=some.floats(0, 500),
    affected=some.floats(0, 1),
    concurrency=some.integers(2, 50),
    max_receives=some.integers(5, 9),
    length=some.integers(10, 900),
)
def test_no_event_is_made_or_lost(
    rate: float, affected: float, concurrency: int, max_receives: int, length: int
) -> None:
    system = replace(SYSTEM, concurrency=concurrency, max_receives=max_receives, retry_base=60, max_retries=2)
    seen = simulate(during(600, rate), system, Outage(60, 60 + length, affected), seconds=1_200, step=5)
    assert in_all(seen) == pytest.approx(seen.arrived[-1])
    assert min(map(min, (seen.backlog, seen.in_flight, seen.dead, seen.triage, seen.stored))) >= -1e-6
    assert all(before <= after + 1e-6 for before, after in zip(seen.stored, seen.stored[1:], strict=False))


@given(some.floats(100, 400), some.integers(2, 20))
def test_more_concurrency_never_makes_more_wait(rate: float, concurrency: int) -> None:
    fewer = simulate(during(60, rate), replace(SYSTEM, concurrency=concurrency), seconds=300)
    more = simulate(during(60, rate), replace(SYSTEM, concurrency=concurrency + 1), seconds=300)
    assert max(more.backlog) <= max(fewer.backlog) + 1e-6
    assert max(more.age) <= max(fewer.age) + 1e-6
    assert max(more.busy) <= concurrency + 1


def test_slots_come_one_after_the_other() -> None:
    system = System(concurrency=100, batch_size=10, seconds_per_batch=1, first_slots=5)
    seen = simulate(during(30, rate=2_000), system, seconds=30)
    assert seen.busy[0] == 5
    assert seen.busy[10] == pytest.approx(55)
    assert max(seen.busy) == pytest.approx(100)


def test_an_outage_with_best_effort_makes_nothing_wait() -> None:
    seen = simulate(during(2 * HOURS, 50), SYSTEM, Outage(0, HOURS, affected=0), seconds=2 * HOURS, step=10)
    assert seen.failures == 0
    assert max(seen.backlog) == 0


def test_four_hours_of_outage_are_survived_by_triage() -> None:
    seen = simulate(during(6 * HOURS, 20), SYSTEM, Outage(HOURS, 5 * HOURS, 0.5), seconds=24 * HOURS, step=10)
    assert seen.archived == pytest.approx(0, abs=1)
    assert seen.executions > 0
    assert seen.stored[-1] == pytest.approx(seen.arrived[-1], abs=1)


def test_an_outage_beyond_all_rounds_ends_in_the_archive() -> None:
    system = replace(SYSTEM, max_retries=1)
    seen = simulate(during(600, 20), system, Outage(0, 10 * HOURS, 1), seconds=10 * HOURS, step=10)
    assert seen.archived == pytest.approx(seen.arrived[-1], abs=1)
    # The start; Classify, Decide, BackOff, Redrive; Classify, Decide, Archive, SettleArchived, Archived.
    assert seen.transitions / seen.executions == pytest.approx(1 + 4 + 5)


def test_what_waits_in_the_queue_never_exceeds_what_sqs_keeps_in_flight() -> None:
    system = replace(SYSTEM, concurrency=100, max_receives=100, backoff_cap=900, first_slots=100)
    seen = simulate(during(HOURS, 1_000), system, Outage(0, HOURS, 1), seconds=HOURS, step=5)
    assert max(seen.in_flight) <= IN_FLIGHT + 1e-3
    assert max(seen.backlog) > IN_FLIGHT


def test_a_letter_recovered_by_its_first_retry_takes_nine_transitions() -> None:
    # Eight states and the start, as in the end-to-end test; all of them die before the outage ends, and wait longer.
    system = replace(SYSTEM, retry_base=HOURS)
    seen = simulate(during(10, 10), system, Outage(0, 600, 1), seconds=2 * HOURS, step=1)
    assert seen.executions == pytest.approx(100)
    assert seen.transitions == pytest.approx(900)
    assert seen.stored[-1] == pytest.approx(100)


def test_larger_batches_and_fewer_environments_ask_genesys_less() -> None:
    calls = genesys_calls_per_minute(1_000, SYSTEM, users=1_000)
    assert genesys_calls_per_minute(1_000, replace(SYSTEM, batch_size=100), users=1_000) < calls
    assert genesys_calls_per_minute(1_000, replace(SYSTEM, concurrency=20), users=1_000) > calls
    assert calls <= 60 * 1_000 / SYSTEM.batch_size


def test_more_events_cost_more_and_an_event_costs_the_same() -> None:
    one = dollars(simulate(during(60, 10), SYSTEM, seconds=60), SYSTEM)
    two = dollars(simulate(during(60, 20), SYSTEM, seconds=60), SYSTEM)
    assert sum(one.values()) < sum(two.values()) <= 2 * sum(one.values()) + 1e-9


def test_a_burst_that_takes_what_the_limit_allows_has_no_error() -> None:
    perfect = {"limit": 4, "events": 2_000, "events_per_batch": 10, "seconds_per_batch": 0.5, "drain_seconds": 25}
    assert error_against_the_engine(perfect) == pytest.approx(0, abs=0.01)
    assert error_against_the_engine(perfect | {"drain_seconds": 50}) == pytest.approx(-0.5, abs=0.01)
    assert math.isfinite(error_against_the_engine(perfect))
