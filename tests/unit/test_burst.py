"""The figures of the burst: concurrency from overlapping invocations, and ratios within a round."""

from __future__ import annotations

import pytest

from benchmarks.burst import NO_OP, OURS, STORE_ONLY, Burst, Drain, Invocation, most_at_once


def at(began: float, ended: float) -> Invocation:
    return Invocation(began, ended, events=10)


def test_the_peak_is_the_highest_number_of_overlapping_invocations() -> None:
    assert most_at_once([at(0, 10), at(5, 15), at(9, 12), at(20, 30)]) == 3
    assert most_at_once([at(0, 10), at(10, 20), at(20, 30)]) == 1, "the end of one may be the start of the next"
    assert most_at_once([]) == 0


@pytest.mark.parametrize(("peak", "violations"), [(9, 0), (11, 1)])
def test_ratios_compare_within_each_round_and_a_peak_above_the_limit_is_a_violation(peak: int, violations: int) -> None:
    drains = [
        Drain(name, 100, seconds, 10, 0, engine_cpu_seconds=seconds / 2)
        for round_ in ({NO_OP: 1, OURS: 2, STORE_ONLY: 2}, {NO_OP: 10, OURS: 25, STORE_ONLY: 20})
        for name, seconds in round_.items()
    ]
    result = Burst(10, drains, peak_by_own_clock=peak, stored=200, lost=0, slow={})
    assert result.figures() == {
        "engine_throughput_vs_noop": 0.45,
        "engine_throughput_vs_store_only": 0.9,
        "engine_cpu_ms_per_event": {NO_OP: 27.5, STORE_ONLY: 55.0, OURS: 67.5},
        "concurrency_violations": violations,
    }
