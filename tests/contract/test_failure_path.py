"""The benchmark of the failure path measures what the template deploys."""

from __future__ import annotations

from benchmarks import capacity, failure_path, measurements, simulations
from tests.contract.project import functions, machine, template


def test_memory_and_concurrency_are_those_of_the_template() -> None:
    intake, fan_out = functions()["DeadLetterIntakeFunction"], functions()["FanOutFunction"]
    letters = intake["Events"]["DeadLetters"]["Properties"]
    events = fan_out["Events"]["NewEvents"]["Properties"]
    assert template()["Parameters"]["MaxConcurrency"]["Default"] == failure_path.MAX_CONCURRENCY
    assert intake["MemorySize"] == failure_path.INTAKE_MEGABYTES
    assert fan_out["MemorySize"] == failure_path.FAN_OUT_MEGABYTES
    assert letters["ScalingConfig"]["MaximumConcurrency"] == failure_path.INTAKE_CONCURRENCY
    assert letters["BatchSize"] == failure_path.INTAKE_BATCH
    assert events["ParallelizationFactor"] == failure_path.FAN_OUT_PARALLEL_BATCHES
    assert events["BatchSize"] == failure_path.FAN_OUT_BATCH


def test_the_schedule_of_the_sweep_is_that_of_the_template() -> None:
    sweep = functions()["EvidenceSweepFunction"]
    assert sweep["Timeout"] == simulations.SWEEP_TIMEOUT_SECONDS
    assert sweep["Events"]["Regularly"]["Properties"]["Schedule"] == (
        f"rate({simulations.SWEEP_EVERY_SECONDS / 60:g} minutes)"
    )


def test_the_measured_figures_reach_their_targets() -> None:
    measured = measurements.read(measurements.LATEST)["failure_path"]
    assert measured["intake_letters_per_second"] >= 150
    assert measured["fan_out_events_per_second_per_shard"] >= 1_000
    assert measured["sweep_letters_per_day"] >= 100_000
    assert measured["replay_letters_reported"] == 1_000_000


def test_the_capacity_model_is_not_above_what_was_measured() -> None:
    measured = measurements.read(measurements.LATEST)["failure_path"]
    assert measured["intake_letters_per_second"] >= capacity.INTAKE_PER_SECOND
    assert measured["fan_out_events_per_second_per_shard"] >= capacity.FAN_OUT_PER_SHARD
    assert measured["sweep_letters_per_day"] >= capacity.SWEEP_PER_DAY
    assert machine("replay")["States"]["ReplayLetters"]["MaxConcurrency"] == capacity.REPLAY_CONCURRENCY
