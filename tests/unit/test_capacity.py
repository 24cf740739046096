"""The capacity model follows the laws of queueing and counts what the state machine does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmarks import scenarios
from benchmarks.capacity import (
    IN_FLIGHT,
    Arrivals,
    Outage,
    Pause,
    System,
    dollars,
    error_against_the_engine,
    genesys_calls_per_minute,
    simulate,
)

#: A hundred events per second, with full concurrency from the start.
SYSTEM = System(concurrency=2, batch_size=10, seconds_per_batch=0.2, initial_concurrency=2)
HOURS = 3_600


def during(seconds: float, rate: float) -> Arrivals:
    return lambda now: rate if now < seconds else 0.0


def test_a_rate_below_the_capacity_causes_no_backlog_and_the_concurrency_of_littles_law() -> None:
    forecast = simulate(during(60, rate=50), SYSTEM, seconds=60)
    assert max(forecast.backlog) == 0
    assert forecast.busy[-1] == pytest.approx(50 * 0.2 / 10)


def test_a_minute_at_twice_the_capacity_takes_another_minute_to_drain() -> None:
    forecast = simulate(during(60, rate=200), SYSTEM, seconds=200)
    assert max(forecast.backlog) == pytest.approx(6_000)
    assert forecast.drained_after(60) == pytest.approx(60, abs=1)
    assert max(forecast.age) == pytest.approx(60, abs=2)
    assert max(forecast.busy) == pytest.approx(2)


@given(
    rate=some.floats(0, 500),
    affected=some.floats(0, 1),
    concurrency=some.integers(2, 50),
    max_receives=some.integers(5, 9),
    length=some.integers(10, 900),
    breaker=some.booleans(),
)
def test_events_are_neither_created_nor_lost(
    rate: float, affected: float, concurrency: int, max_receives: int, length: int, breaker: bool
) -> None:
    system = replace(SYSTEM, concurrency=concurrency, max_receives=max_receives, retry_base=60, max_retries=2)
    outage = Outage(60, 60 + length, affected)
    pause = Pause.in_outage(outage) if breaker else None
    forecast = simulate(during(600, rate), system, outage, pause, seconds=1_200, step=5)
    total = forecast.stored[-1] + forecast.in_progress[-1] + forecast.archived
    assert total == pytest.approx(forecast.arrived[-1])
    amounts = (forecast.backlog, forecast.in_flight, forecast.dead, forecast.triage, forecast.stored)
    assert min(map(min, amounts)) >= -1e-6
    assert all(before <= after + 1e-6 for before, after in zip(forecast.stored, forecast.stored[1:], strict=False))


@given(some.floats(100, 400), some.integers(2, 20))
def test_more_concurrency_never_increases_the_backlog(rate: float, concurrency: int) -> None:
    fewer = simulate(during(60, rate), replace(SYSTEM, concurrency=concurrency), seconds=300)
    more = simulate(during(60, rate), replace(SYSTEM, concurrency=concurrency + 1), seconds=300)
    assert max(more.backlog) <= max(fewer.backlog) + 1e-6
    assert max(more.age) <= max(fewer.age) + 1e-6
    assert max(more.busy) <= concurrency + 1


def test_concurrency_grows_gradually() -> None:
    system = System(concurrency=100, batch_size=10, seconds_per_batch=1, initial_concurrency=5)
    forecast = simulate(during(30, rate=2_000), system, seconds=30)
    assert forecast.busy[0] == 5
    assert forecast.busy[10] == pytest.approx(55)
    assert max(forecast.busy) == pytest.approx(100)


def test_an_outage_with_best_effort_causes_no_backlog() -> None:
    forecast = simulate(during(2 * HOURS, 50), SYSTEM, Outage(0, HOURS, affected=0), seconds=2 * HOURS, step=10)
    assert forecast.failures == 0
    assert max(forecast.backlog) == 0


def test_triage_recovers_every_event_of_an_outage_of_four_hours() -> None:
    forecast = simulate(during(6 * HOURS, 20), SYSTEM, Outage(HOURS, 5 * HOURS, 0.5), seconds=24 * HOURS, step=10)
    assert forecast.archived == pytest.approx(0, abs=1)
    assert forecast.executions > 0
    assert forecast.stored[-1] == pytest.approx(forecast.arrived[-1], abs=1)


def test_an_outage_longer_than_all_redrives_ends_in_the_archive() -> None:
    system = replace(SYSTEM, max_retries=1)
    forecast = simulate(during(600, 20), system, Outage(0, 10 * HOURS, 1), seconds=10 * HOURS, step=10)
    assert forecast.archived == pytest.approx(forecast.arrived[-1], abs=1)
    # The start; Classify, Decide, BackOff, Redrive; Classify, Decide, Archive, SettleArchived, Archived.
    assert forecast.transitions / forecast.executions == pytest.approx(1 + 4 + 5)


def test_events_in_backoff_never_exceed_the_limit_of_messages_in_flight() -> None:
    system = replace(SYSTEM, concurrency=100, max_receives=100, backoff_cap=900, initial_concurrency=100)
    forecast = simulate(during(HOURS, 1_000), system, Outage(0, HOURS, 1), seconds=HOURS, step=5)
    assert max(forecast.in_flight) <= IN_FLIGHT + 1e-3
    assert max(forecast.backlog) > IN_FLIGHT


def test_a_dead_letter_that_its_first_redrive_recovers_takes_nine_transitions() -> None:
    # Eight states and the start, as in the end-to-end test. All events become dead letters before the outage ends.
    system = replace(SYSTEM, retry_base=HOURS)
    forecast = simulate(during(10, 10), system, Outage(0, 600, 1), seconds=2 * HOURS, step=1)
    assert forecast.executions == pytest.approx(100)
    assert forecast.transitions == pytest.approx(900)
    assert forecast.stored[-1] == pytest.approx(100)


def test_the_circuit_breaker_pauses_until_the_first_probe_after_the_outage() -> None:
    pause = Pause.in_outage(Outage(HOURS, 5 * HOURS, affected=0.95))
    assert pause
    assert pause.begins == HOURS + 150
    assert 5 * HOURS <= pause.ends < 5 * HOURS + 900
    # The page on the circuit breaker names these two figures.
    assert (pause.probes, pause.transitions) == (25, 87)


@pytest.mark.parametrize(
    "outage", [Outage(0, HOURS, affected=0.6), Outage(0, 140, affected=1), Outage(0, 0, affected=0)]
)
def test_the_circuit_stays_closed_if_too_few_events_fail_or_the_outage_is_short(outage: Outage) -> None:
    assert Pause.in_outage(outage) is None


def failing_receives(system: System, rate: float, minutes: tuple[int, int]) -> float:
    """The share of receives that fail between two minutes of an outage in which 60 % of the events fail."""
    outage = Outage(0, HOURS, scenarios.NAMING)
    begin, end = (simulate(during(HOURS, rate), system, outage, seconds=60 * minute, step=10) for minute in minutes)
    return (end.failures - begin.failures) / (end.receives - begin.receives)


def test_retries_raise_the_share_of_receives_that_fail_above_that_of_events() -> None:
    without_redrives = replace(scenarios.SCALES[0].system(), retry_base=10 * HOURS, retry_cap=10 * HOURS)
    # Of ten events, six fail at each of five receives and four are stored at the first one.
    share = failing_receives(without_redrives, scenarios.SCALES[0].per_second, (20, 30))
    assert share == pytest.approx(6 * 5 / (6 * 5 + 4), abs=0.01)


@pytest.mark.parametrize(("number", "percent"), [(0, 94), (1, 84), (2, 66)])
def test_the_page_says_at_which_rate_retries_and_redrives_open_the_circuit(number: int, percent: int) -> None:
    scale = scenarios.SCALES[number]
    shares = [failing_receives(scale.system(), scale.per_second, (begin, begin + 2)) for begin in (10, 20, 40)]
    assert shares == pytest.approx([percent / 100] * 3, abs=0.01)


def test_in_a_pause_nothing_is_received_and_afterwards_everything_is_stored() -> None:
    outage = Outage(0, HOURS, affected=1)
    pause = Pause.in_outage(outage)
    assert pause
    forecast = simulate(during(HOURS, 20), SYSTEM, outage, pause, seconds=4 * HOURS, step=10)
    receives = simulate(during(HOURS, 20), SYSTEM, outage, pause, seconds=150, step=10).receives
    assert simulate(during(HOURS, 20), SYSTEM, outage, pause, seconds=pause.ends, step=10).receives == receives
    assert (forecast.executions, forecast.archived) == (0, 0)
    assert forecast.stored[-1] == pytest.approx(20 * HOURS)
    # A hundred events a second drain what came in an hour at twenty.
    assert forecast.drained_after(pause.ends) == pytest.approx(20 * HOURS / 100, abs=20)


def test_with_the_circuit_breaker_an_outage_of_four_hours_costs_less_than_two_percent_of_triage() -> None:
    scale = scenarios.SCALES[0]
    without, with_breaker = (scenarios.everything_fails(scale, breaker=breaker) for breaker in (False, True))
    assert without.executions > 1_000_000
    assert with_breaker.executions < 1
    spent, saved = (dollars(one, scale.system())["triage"] for one in (with_breaker, without))
    assert 0 < spent < 0.02 * saved
    assert with_breaker.drained_after(scenarios.OUTAGE_ENDS) < without.drained_after(scenarios.OUTAGE_ENDS)


def test_a_backlog_of_a_million_drains_with_the_capacity_that_new_events_leave() -> None:
    scale = scenarios.SCALES[0]
    left = scale.system().events_per_second - scale.per_second
    assert scenarios.million_drained(scale) == pytest.approx(1_000_000 / left, rel=0.01)


def test_larger_batches_and_fewer_environments_send_fewer_requests_to_genesys() -> None:
    calls = genesys_calls_per_minute(1_000, SYSTEM, users=1_000)
    assert genesys_calls_per_minute(1_000, replace(SYSTEM, batch_size=100), users=1_000) < calls
    assert genesys_calls_per_minute(1_000, replace(SYSTEM, concurrency=20), users=1_000) > calls
    assert calls <= 60 * 1_000 / SYSTEM.batch_size


def test_more_events_cost_more_but_not_more_per_event() -> None:
    one, two = (sum(dollars(simulate(during(60, rate), SYSTEM, seconds=60), SYSTEM).values()) for rate in (10, 20))
    assert one < two <= 2 * one + 1e-9


def test_the_model_predicts_a_burst_that_only_the_concurrency_limits() -> None:
    perfect = {"limit": 4, "events": 2_000, "events_per_batch": 10, "seconds_per_batch": 0.5, "drain_seconds": 25}
    assert error_against_the_engine(perfect) == pytest.approx(0, abs=0.01)
    assert error_against_the_engine(perfect | {"drain_seconds": 50}) == pytest.approx(-0.5, abs=0.01)
