"""The arithmetic and the result files of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cost, events, measurements
from benchmarks.comparison import CONTROL, OURS, Samples, balanced, growth_exponent
from holdfast.domain.envelope import examine


@pytest.mark.parametrize("kilobytes", [1, 10, 250])
def test_a_synthetic_event_is_valid_and_has_the_requested_size(kilobytes: int) -> None:
    users = events.new_users(2)
    bodies = [record["body"] for record in events.batch(3, kilobytes, users)["Records"]]
    assert all(abs(len(body) - kilobytes * 1024) < 200 for body in bodies)
    assert [examine(body).content.references()[0].id for body in bodies] == [users[0], users[1], users[0]]
    assert len({json.loads(body)["id"] for body in bodies}) == 3


def test_every_handler_has_every_position_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [balanced(names, number) for number in range(6)]
    for position in range(3):
        assert sorted(order[position] for order in orders) == ["a", "a", "b", "b", "c", "c"]


def test_a_ratio_compares_within_a_round_so_a_slow_round_does_not_change_it() -> None:
    samples = Samples({OURS: [1.0, 10.0, 1.0], "peer": [3.0, 30.0, 3.0], CONTROL: [1.0, 10.0, 1.1]})
    assert samples.ratio("peer", OURS) == 3
    assert samples.control == 1


def test_linear_growth_has_the_exponent_one_and_quadratic_growth_two() -> None:
    assert growth_exponent({1: 2.0, 10: 20.0, 100: 200.0}) == pytest.approx(1)
    assert growth_exponent({1: 2.0, 10: 200.0, 100: 20_000.0}) == pytest.approx(2)


@pytest.mark.parametrize("route", cost.ROUTES.values(), ids=cost.ROUTES)
def test_the_priced_paths_of_dead_letters_exist_in_the_state_machine(route: list[str]) -> None:
    assert cost.transitions(route) == len(route) + 1
    with pytest.raises(ValueError, match="no transition from Classify to Archived"):
        cost.transitions(["Classify", "Archived"])


def test_the_cost_is_the_counted_requests_times_the_list_prices() -> None:
    bill = cost.million_events({"write units": 30}, milliseconds=10, records=10, event_bytes=10_240)
    assert bill["table"] == pytest.approx(3_000_000 * 0.625e-6)
    assert bill["Lambda requests"] == pytest.approx(100_000 * 0.2e-6)
    # Sent one by one. Received and deleted in batches of ten; a batch of 100 KB is billed as two requests.
    assert bill["queue"] == pytest.approx((1_000_000 + 200_000 + 100_000) * 0.4e-6)


def test_a_result_file_has_one_record_per_line_and_can_be_read_back(tmp_path: Path) -> None:
    result = {"limit": 10, "drains": [{"consumer": "x" * 70, "events": number} for number in range(3)], "text": "}"}
    measurements.write(tmp_path / "burst.json", result)
    assert measurements.read(tmp_path / "burst.json") == result
    lines = (tmp_path / "burst.json").read_text().splitlines()
    assert [line.count("consumer") for line in lines if "consumer" in line] == [1, 1, 1]
