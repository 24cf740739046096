"""The main job: events are stored once, retried as long as it helps, and otherwise archived."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from benchmarks.artifact import megabytes
from local.eventually import eventually
from local.genesys import user
from tests.e2e.pipeline import UNDELIVERED, genesys_event, with_user

if TYPE_CHECKING:
    from local.environment import LocalStack
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline
    from tests.e2e.subscribers import Consumer


def holding(value: str) -> str:
    """A valid event except for one value, given as JSON text."""
    return json.dumps(genesys_event(odd="?")).replace('"?"', value)


MALFORMED = ["this is not JSON", " ", '{"a": 1, "a": 2}', holding("1e400"), holding('"\\ud800"'), "[" * 100_000]
INVALID = ["null", "[]", '"x"', '{"id": "no-detail-in-here"}']


@pytest.mark.fast
def test_a_valid_event_is_enriched_stored_once_and_published_once(
    pipeline: Pipeline, controls: Controls, consumer: Consumer
) -> None:
    event = with_user()
    (event_id,) = pipeline.put(event)
    consumer.assert_published_once(event_id)
    (published,) = consumer.of(event_id)
    assert published["detail"]["event"] == pipeline.event(event_id)
    assert published["detail-type"] == event["detail-type"]
    stored, known = pipeline.event(event_id)["detail"]["eventBody"], user(event["detail"]["eventBody"]["userId"])
    assert (stored["userName"], stored["userEmail"]) == (known["name"], known["email"])
    eventually(lambda: controls.total("Stored") == 2, "it and the event after it are counted")
    assert controls.total("Received") == 2
    eventually(controls.idle, "both have left the queue")
    assert not pipeline.attempts(event_id)
    assert not pipeline.executions(event_id)


def test_the_artifact_is_small_and_leaves_out_what_the_runtime_contains(deployed: LocalStack) -> None:
    assert deployed.built
    (artifact,) = [path for path in deployed.built.parent.iterdir() if path.is_dir()]
    assert megabytes(artifact) <= 8
    assert not [name for name in ("boto3", "botocore") if (artifact / name).exists()]
    assert not list(artifact.rglob("*.pyc"))


@pytest.mark.fast
def test_malformed_and_invalid_bodies_are_archived_without_a_retry(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_receives(1)
    bodies = MALFORMED + INVALID
    for body, event_id in zip(bodies, pipeline.enqueue(*bodies), strict=True):
        document = pipeline.archived(event_id)
        execution = pipeline.settled(event_id)
        category = "MALFORMED" if body in MALFORMED else "INVALID"
        assert document["verdict"]["category"] == category
        assert document["message"]["body"] == body
        assert execution.path == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
        place = rf"archive/category={category}/dt=\d{{4}}-\d\d-\d\d/[0-9a-f]{{16}}/{execution.name}\.json"
        assert re.fullmatch(place, execution.result["archive"]["key"])


@pytest.mark.fast
def test_an_event_that_fails_in_an_outage_is_recovered_by_a_redrive(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    pipeline.dead(event_id)
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(event_id)
    redriven = ["Classify", "Decide", "BackOff", "Redrive", "Classify", "Decide", "SettleRecovered", "Recovered"]
    assert execution.path == redriven
    assert (execution.result["outcome"], execution.result["category"]) == ("RECOVERED", "ALREADY_STORED")
    assert execution.result["archive"] is None
    assert execution.verdicts[0]["category"] == "UNAVAILABLE"
    assert pipeline.item(event_id)
    assert not pipeline.snapshots(event_id)
    assert not [key for key in pipeline.objects("archive/") if execution.name in key]


def test_retries_end_at_max_retries_and_the_archive_has_the_history(pipeline: Pipeline, controls: Controls) -> None:
    receives, redrives = 2, 3
    controls.set_receives(receives)
    controls.scale_waits()
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    execution = pipeline.settled(event_id)
    pipeline.genesys.set_faults(None)
    assert (execution.result["outcome"], execution.result["category"]) == ("ARCHIVED", "EXHAUSTED")
    assert execution.result["redrives"] == redrives
    assert len(execution.result["messageIds"]) == redrives + 1
    steps = zip(execution.delays, (120, 480, 1920), strict=True)
    assert [step / 2 <= delay <= step for delay, step in steps] == [True] * redrives, "each wait is four times the last"
    archive = execution.result["archive"]["key"]
    attempts = pipeline.document(archive)["attempts"]
    assert len([one for one in attempts if one["status"] == "failed"]) == receives * (redrives + 1)
    assert {one["errorType"] for one in attempts} == {"Unavailable"}
    assert not pipeline.snapshots(event_id)
    assert pipeline.replay(prefix=archive, reason="the outage is over")["counts"] == {"EXHAUSTED RECOVERED": 1}
    assert pipeline.item(event_id)


def test_a_dead_letter_whose_event_is_stored_is_recovered_without_a_redrive(pipeline: Pipeline) -> None:
    event = genesys_event()
    pipeline.stored(pipeline.enqueue(event))
    execution = pipeline.settled(pipeline.bury(event))
    assert execution.path == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert execution.result["category"] == "ALREADY_STORED"


def test_the_sweep_starts_a_new_execution_for_an_aborted_one(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    aborted = pipeline.dead(event_id)
    pipeline.client("stepfunctions").stop_execution(executionArn=aborted.arn)
    pipeline.genesys.set_faults(None)
    assert pipeline.sweep()["adopted"] == 1
    (adopted,) = [one for one in pipeline.all_settled([event_id])[event_id] if one.arn != aborted.arn]
    assert adopted.name == f"{aborted.name}-g1"
    assert adopted.input["redrives"] == len(adopted.input.get("history", [])), "earlier redrives still count"
    assert adopted.result["outcome"] == "RECOVERED"
    assert not pipeline.snapshots(event_id)


@pytest.mark.fast
def test_a_replay_stores_an_event_once_and_its_dry_run_changes_nothing(pipeline: Pipeline, controls: Controls) -> None:
    with controls.changed(pipeline.stack.resources["ClassifyFunction"], MAX_RETRIES="not a number"):
        event_id = pipeline.bury(genesys_event(), UNDELIVERED)
        execution = pipeline.settled(event_id)
    assert execution.path == ["Classify", "Archive", "SettleArchived", "Archived"]
    assert (execution.result["category"], execution.result["rule"]) == ("UNKNOWN", "classify-failed")
    prefix, before = execution.result["archive"]["key"], pipeline.objects("")
    assert pipeline.replay(prefix=prefix, dryRun=True)["counts"] == {"UNKNOWN": 1}
    assert not pipeline.item(event_id)
    assert pipeline.objects("") == before
    first = pipeline.replay(prefix=prefix, reason="fixed")
    assert first["counts"] == {"UNKNOWN RECOVERED": 1}
    assert pipeline.document(first["report"])["counts"] == first["counts"]
    assert pipeline.item(event_id)
    assert pipeline.replay(prefix=prefix, reason="again")["counts"] == {"UNKNOWN SKIPPED": 1}
    assert pipeline.document(prefix)["eventId"] == event_id
