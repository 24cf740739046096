"""What the burst is judged by can see what it is there to see."""

from __future__ import annotations

from benchmarks.burst import NO_OP, OURS, STORE_ONLY, Burst, Drain, Invocation, most_at_once, violations


def at(began: float, ended: float) -> Invocation:
    return Invocation(began, ended, events=10)


def test_invocations_that_overlap_are_counted_at_their_worst_moment() -> None:
    assert most_at_once([at(0, 10), at(5, 15), at(9, 12), at(20, 30)]) == 3


def test_one_that_ends_as_another_begins_is_no_overlap() -> None:
    assert most_at_once([at(0, 10), at(10, 20), at(20, 30)]) == 1
    assert most_at_once([]) == 0


def test_a_peak_above_the_limit_is_a_violation_whoever_saw_it() -> None:
    assert violations(10, [9, 10, 3]) == 0
    assert violations(10, [9, 12, 10]) == 2


def test_a_ratio_compares_within_each_round() -> None:
    drains = [
        Drain(name, 100, seconds, 10, 0, engine_cpu_seconds=seconds / 2)
        for round_ in ({NO_OP: 1, OURS: 2, STORE_ONLY: 2}, {NO_OP: 10, OURS: 25, STORE_ONLY: 20})
        for name, seconds in round_.items()
    ]
    result = Burst(10, drains, peak_by_own_clock=11, stored=200, lost=0, slow={})
    assert result.figures() == {
        "engine_throughput_vs_noop": 0.45,
        "engine_throughput_vs_store_only": 0.9,
        "engine_cpu_ms_per_event": {NO_OP: 27.5, STORE_ONLY: 55.0, OURS: 67.5},
        "concurrency_violations": 1,
    }
