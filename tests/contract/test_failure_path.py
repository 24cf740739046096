"""The benchmark of the failure path measures what the template deploys."""

from __future__ import annotations

from benchmarks import failure_path, measurements
from tests.contract.project import functions


def test_memory_and_concurrency_are_those_of_the_template() -> None:
    intake, fan_out = functions()["DeadLetterIntakeFunction"], functions()["FanOutFunction"]
    letters = intake["Events"]["DeadLetters"]["Properties"]
    events = fan_out["Events"]["NewEvents"]["Properties"]
    assert intake["MemorySize"] == failure_path.INTAKE_MEGABYTES
    assert fan_out["MemorySize"] == failure_path.FAN_OUT_MEGABYTES
    assert letters["ScalingConfig"]["MaximumConcurrency"] == failure_path.INTAKE_CONCURRENCY
    assert letters["BatchSize"] == failure_path.INTAKE_BATCH
    assert events["ParallelizationFactor"] == failure_path.FAN_OUT_PARALLEL_BATCHES
    assert events["BatchSize"] == failure_path.FAN_OUT_BATCH


def test_the_measured_figures_reach_their_targets() -> None:
    measured = measurements.read(measurements.LATEST)["failure_path"]
    assert measured["intake_letters_per_second"] >= 150
    assert measured["fan_out_events_per_second_per_shard"] >= 1_000
