"""The benchmark's arithmetic: what it tells of speed and cost follows from what it measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import cost, events
from benchmarks.contest import CONTROL, OURS, Samples, balanced, growth_exponent
from holdfast.domain.envelope import examine


@pytest.mark.parametrize("kilobytes", [1, 10, 250])
def test_a_synthetic_event_is_one_that_the_processor_takes_of_the_size_that_was_asked_for(kilobytes: int) -> None:
    users = events.some_users(2)
    bodies = [record["body"] for record in events.batch(3, kilobytes, users)["Records"]]
    assert all(abs(len(body) - kilobytes * 1024) < 200 for body in bodies)
    assert [examine(body).references[0].user_id for body in bodies] == [users[0], users[1], users[0]]
    assert len({json.loads(body)["id"] for body in bodies}) == 3


def test_every_handler_has_every_place_in_the_order_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [balanced(names, number) for number in range(6)]
    for place in range(3):
        assert sorted(order[place] for order in orders) == ["a", "a", "b", "b", "c", "c"]


def test_a_ratio_compares_within_a_round_so_that_a_slow_minute_does_not_count() -> None:
    samples = Samples({OURS: [1.0, 10.0, 1.0], "peer": [3.0, 30.0, 3.0], CONTROL: [1.0, 10.0, 1.1]})
    assert samples.ratio("peer", OURS) == 3
    assert samples.control == 1


def test_linear_growth_has_the_exponent_one_and_quadratic_growth_two() -> None:
    assert growth_exponent({1: 2.0, 10: 20.0, 100: 200.0}) == pytest.approx(1)
    assert growth_exponent({1: 2.0, 10: 200.0, 100: 20_000.0}) == pytest.approx(2)


@pytest.mark.parametrize("route", cost.ROUTES.values(), ids=cost.ROUTES)
def test_the_ways_of_letters_that_are_priced_are_ways_of_the_state_machine(route: list[str]) -> None:
    assert cost.transitions(route) == len(route) + 1
    with pytest.raises(ValueError, match="no way leads from Classify to Archived"):
        cost.transitions(["Classify", "Archived"])


def test_a_bill_follows_from_what_was_counted() -> None:
    bill = cost.million_events({"write units": 30}, milliseconds=10, records=10, event_bytes=10_240)
    assert bill["table"] == pytest.approx(3_000_000 * 0.625e-6)
    assert bill["Lambda requests"] == pytest.approx(100_000 * 0.2e-6)
    # Sent one by one; received and deleted ten at a time, 100 KB being two requests.
    assert bill["queue"] == pytest.approx((1_000_000 + 200_000 + 100_000) * 0.4e-6)
