"""The promises of the main job, seen on the deployed stack with IAM enforced."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from benchmarks.fresh import megabytes
from local.genesys import user
from tests.e2e.pipeline import genesys_event, with_user

if TYPE_CHECKING:
    from local.environment import LocalStack
    from tests.e2e.pipeline import Execution, Pipeline


def holding(value: str) -> str:
    """An event that is fine but for one value, given as JSON text."""
    return json.dumps(genesys_event(odd="?")).replace('"?"', value)


MALFORMED = ["this is not JSON", " ", '{"a": 1, "a": 2}', holding("1e400"), holding('"\\ud800"'), "[" * 100_000]
INVALID = ["null", "[]", '"x"', '{"id": "no-detail-in-here"}']


def test_a_valid_event_is_stored_once_enriched_and_needs_no_triage(pipeline: Pipeline) -> None:
    event = with_user()
    (event_id,) = pipeline.put(event)
    pipeline.stored([event_id])
    stored = pipeline.event(event_id)["detail"]["eventBody"]
    known = user(event["detail"]["eventBody"]["userId"])
    assert (stored["userName"], stored["userEmail"]) == (known["name"], known["email"])
    assert not pipeline.attempts(event_id)
    assert not pipeline.executions(event_id)


def test_the_one_artifact_of_all_functions_is_small_and_brings_nothing_that_the_runtime_has(
    deployed: LocalStack,
) -> None:
    assert deployed.built
    (artifact,) = [path for path in deployed.built.parent.iterdir() if path.is_dir()]
    assert megabytes(artifact) <= 8
    assert not [name for name in ("boto3", "botocore", "urllib3") if (artifact / name).exists()]
    assert not list(artifact.rglob("*.pyc"))


def test_a_second_delivery_is_a_silent_success(pipeline: Pipeline) -> None:
    event = genesys_event()
    event_ids = pipeline.enqueue(event, event)
    pipeline.stored(event_ids)
    first = pipeline.item(event_ids[0])
    pipeline.enqueue(event)
    (marker,) = pipeline.enqueue(genesys_event())
    pipeline.stored([marker])
    time.sleep(2)
    assert pipeline.item(event_ids[0]) == first
    assert not pipeline.attempts(event_ids[0])


def test_one_bad_record_does_not_hold_up_its_batch(pipeline: Pipeline) -> None:
    good = [genesys_event() for _ in range(9)]
    *event_ids, bad = pipeline.enqueue(*good, f"not an event {uuid.uuid4()}")
    pipeline.stored(event_ids)
    assert pipeline.archived(bad)["verdict"]["category"] == "MALFORMED"


@pytest.mark.parametrize(
    ("category", "body"), [("MALFORMED", body) for body in MALFORMED] + [("INVALID", body) for body in INVALID]
)
def test_what_no_retry_can_mend_is_archived_byte_for_byte_at_first_sight(
    pipeline: Pipeline, category: str, body: str
) -> None:
    (event_id,) = pipeline.enqueue(body)
    document = pipeline.archived(event_id)
    execution = pipeline.settled(event_id)
    assert document["verdict"]["category"] == category
    assert document["message"]["body"] == body
    assert execution.path == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
    assert execution.output
    assert re.fullmatch(
        rf"archive/category={category}/dt=\d{{4}}-\d\d-\d\d/{execution.name}\.json", execution.output["archive"]["key"]
    )


def test_a_transient_failure_is_retried_with_backoff_until_it_is_stored(pipeline: Pipeline) -> None:
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    pipeline.eventually(lambda: pipeline.executions(event_id), "the outage makes a dead letter")
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(event_id)
    assert execution.status == "SUCCEEDED"
    assert execution.output
    assert execution.output["outcome"] == "RECOVERED"
    assert execution.output["category"] == "ALREADY_STORED"
    assert execution.output["archive"] is None
    assert execution.verdicts[0]["category"] == "UNAVAILABLE"
    assert pipeline.item(event_id)
    assert not pipeline.objects(f"dead-letters/{event_id}/")
    assert not [key for key in pipeline.objects("archive/") if execution.name in key]


def test_a_letter_recovered_by_its_first_retry_takes_eight_states(pipeline: Pipeline) -> None:
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    pipeline.eventually(lambda: pipeline.attempts(event_id), "the first attempt has failed")
    pipeline.eventually(lambda: pipeline.executions(event_id), "the outage makes a dead letter")
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(event_id)
    first_retry = ["Classify", "Decide", "BackOff", "Redrive", "Classify", "Decide", "SettleRecovered", "Recovered"]
    assert execution.path == first_retry


def test_a_failure_that_never_ends_is_archived_as_exhausted_with_its_whole_history(pipeline: Pipeline) -> None:
    unknown = with_user()
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(unknown)
    execution = pipeline.settled(event_id, seconds=150)
    assert execution.output
    assert (execution.output["outcome"], execution.output["category"]) == ("ARCHIVED", "EXHAUSTED")
    assert execution.output["redrives"] == 3
    assert len(execution.output["messageIds"]) == 4
    redrives = zip(delays(execution), (120, 480, 1920), strict=True)
    assert [step / 2 <= delay <= step for delay, step in redrives] == [True] * 3, "each wait is four times the last"
    document = pipeline.document(execution.output["archive"]["key"])
    assert len([line for line in document["attempts"] if line["status"] == "failed"]) == 20
    assert {line["errorType"] for line in document["attempts"]} == {"Unavailable"}
    assert not pipeline.objects(f"dead-letters/{event_id}/")


def test_an_event_that_eventbridge_could_not_deliver_is_redriven_without_its_marks(pipeline: Pipeline) -> None:
    event_id = pipeline.bury(genesys_event(), ERROR_CODE="NO_PERMISSIONS", RULE_ARN="arn:r", TARGET_ARN="arn:t")
    execution = pipeline.settled(event_id)
    assert execution.output
    assert execution.output["outcome"] == "RECOVERED"
    assert execution.verdicts[0]["category"] == "UNDELIVERED"
    assert pipeline.item(event_id)


def test_an_event_that_was_stored_and_dead_lettered_all_the_same_is_recovered_without_sending(
    pipeline: Pipeline,
) -> None:
    event = genesys_event()
    pipeline.stored(pipeline.enqueue(event))
    event_id = pipeline.bury(event)
    execution = pipeline.settled(event_id)
    assert execution.path == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert execution.output
    assert execution.output["category"] == "ALREADY_STORED"


def test_an_aborted_execution_is_adopted_by_the_sweep(pipeline: Pipeline) -> None:
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    execution = pipeline.eventually(lambda: pipeline.executions(event_id), "the outage makes a dead letter")[0]
    pipeline.client("stepfunctions").stop_execution(executionArn=execution.arn)
    pipeline.genesys.set_faults(None)
    report = pipeline.sweep()
    assert report["adopted"] == 1
    adopted = pipeline.eventually(
        lambda: [one for one in pipeline.executions(event_id) if one.status == "SUCCEEDED"], "the adopted letter ends"
    )[0]
    assert adopted.name == f"{execution.name}-g1"
    assert adopted.input["redrives"] == len(adopted.input.get("history", [])), "what was spent goes on counting"
    assert adopted.output
    assert adopted.output["outcome"] == "RECOVERED"
    assert not pipeline.objects(f"dead-letters/{event_id}/")


def test_a_replay_redrives_archived_letters_and_does_nothing_the_second_time(pipeline: Pipeline) -> None:
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.put(with_user())
    execution = pipeline.settled(event_id, seconds=150)
    assert execution.output
    assert execution.output["category"] == "EXHAUSTED"
    prefix = execution.output["archive"]["key"]
    pipeline.genesys.set_faults(None)

    counted = pipeline.replay({"prefix": prefix, "dryRun": True})
    assert counted["counts"] == {"EXHAUSTED": 1}
    assert not pipeline.item(event_id)
    assert not pipeline.objects("replays/")
    first = pipeline.replay({"prefix": prefix, "reason": "fixed"})
    assert first["counts"] == {"EXHAUSTED RECOVERED": 1}
    assert pipeline.document(first["report"])["counts"] == first["counts"]
    assert pipeline.item(event_id)
    assert pipeline.replay({"prefix": prefix, "reason": "again"})["counts"] == {"EXHAUSTED SKIPPED": 1}
    assert pipeline.document(prefix)["eventId"] == event_id


def delays(execution: Execution) -> list[int]:
    """The waits of an execution, in seconds, as its history shows them."""
    entered = [event.get("stateEnteredEventDetails", {}) for event in execution.history]
    return [json.loads(state["input"])["delaySeconds"] for state in entered if state.get("name") == "BackOff"]
