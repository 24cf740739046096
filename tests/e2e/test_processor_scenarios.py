"""The promises of the processor under faults."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from local.eventually import eventually
from ops.show import read
from tests.e2e.messages import TEN_ATTRIBUTES, padded
from tests.e2e.pipeline import genesys_event, with_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.genesys import Answer, Request
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline
    from tests.e2e.subscribers import Consumer

USERS = "/api/v2/users"
TOKEN = "/oauth/token"


def requests_to(pipeline: Pipeline, path: str) -> int:
    """How many requests to a path the Genesys API has received."""
    counts = pipeline.genesys.stats()["requests"]
    return sum(count for kind, count in counts.items() if kind.split()[1] == path)


def on_lookup(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, act: Callable[[Request], None]) -> None:
    """Call ``act`` with each user lookup before it is answered."""
    original = pipeline.genesys.answer

    def answer(request: Request) -> Answer | None:
        if request.path == USERS:
            act(request)
        return original(request)

    monkeypatch.setattr(pipeline.genesys, "answer", answer)


def attempts(pipeline: Pipeline, event_id: str) -> list[tuple[int, str]]:
    """Receive count and status of the event's attempt records."""
    found = pipeline.attempts(event_id)
    return sorted((int(one["attempt"].rpartition("#")[2]), one["status"]) for one in found)


# -- once ----------------------------------------------------------------------------------------------------------


def test_copies_of_an_event_in_one_batch_are_stored_once(pipeline: Pipeline, controls: Controls) -> None:
    event = with_user()
    with controls.paused():
        event_id, *_ = pipeline.enqueue(event, event, event)
    pipeline.stored([event_id])
    eventually(controls.idle, "all copies are gone")
    eventually(lambda: controls.total("Received") == 3, "all three are counted")
    assert len(controls.batches()) == 1
    assert controls.total("Failed") == 0
    assert not pipeline.attempts(event_id)


def test_copies_of_an_event_in_two_batches_at_once_are_stored_once(
    pipeline: Pipeline, controls: Controls, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = with_user()
    controls.set_batch_size(1)
    workers: set[str] = set()
    both = threading.Event()

    def hold(request: Request) -> None:
        workers.add(request.headers["authorization"])  # each execution environment has its own token
        if len(workers) == 2:
            both.set()
        both.wait(20)

    on_lookup(pipeline, monkeypatch, hold)
    with controls.paused():
        event_id, _ = pipeline.enqueue(event, event)
    pipeline.stored([event_id])
    assert both.is_set()
    eventually(controls.idle, "both copies are gone")
    eventually(lambda: controls.total("Received") == 2, "both are counted")
    assert (controls.total("Stored"), controls.total("Duplicate")) == (1, 1)
    assert not pipeline.attempts(event_id)
    consumer.assert_published_once(event_id)


def test_a_late_copy_of_a_stored_event_changes_nothing(pipeline: Pipeline, controls: Controls) -> None:
    event = with_user()
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    first = pipeline.item(event_id)
    controls.configure()  # a new execution environment has an empty cache
    pipeline.enqueue(event)
    eventually(lambda: controls.total("Duplicate") == 1, "the copy is counted")
    eventually(controls.idle, "the copy is gone")
    assert pipeline.item(event_id) == first
    assert controls.total("Failed") == 0


# -- batches -------------------------------------------------------------------------------------------------------


def test_only_the_malformed_one_of_ten_records_is_received_again(pipeline: Pipeline, controls: Controls) -> None:
    with controls.paused():
        bad, *good = pipeline.enqueue(f"no event {uuid.uuid4()}", *[genesys_event() for _ in range(9)])
    pipeline.stored(good)
    assert pipeline.archived(bad)["verdict"]["category"] == "MALFORMED"
    eventually(lambda: controls.total("Failed") == 5, "five failures are counted")
    first, *later = controls.batches()
    assert (first["Received"], first["Stored"], first["Failed"]) == (10, 9, 1)
    assert [batch["Received"] for batch in later] == [1, 1, 1, 1]
    assert not [event_id for event_id in good if pipeline.attempts(event_id)]


def test_ten_failing_records_are_each_reported_and_each_received_again(pipeline: Pipeline, controls: Controls) -> None:
    pipeline.genesys.set_faults({"status": 503, "path": USERS})
    with controls.paused():
        event_ids = pipeline.enqueue(*[with_user() for _ in range(10)])
    eventually(
        lambda: all(attempts(pipeline, event_id) for event_id in event_ids), "each failure has an attempt record"
    )
    pipeline.genesys.set_faults(None)
    # A record that was not reported by its id would be received again only after the visibility time-out of minutes.
    pipeline.stored(event_ids)
    failed = [line for line in controls.logged() if line.get("message") == "record failed"]
    assert sorted(line["eventId"] for line in failed if line["receiveCount"] == 1) == sorted(event_ids)
    assert (controls.batches()[0]["Received"], controls.batches()[0]["Failed"]) == (10, 10)


# -- crashes -------------------------------------------------------------------------------------------------------


def test_an_event_whose_worker_crashes_after_storing_it_counts_as_stored(
    pipeline: Pipeline, controls: Controls
) -> None:
    killed: list[int] = []

    def crash_once(forward: Callable[[], bytes], _statements: list[dict[str, Any]]) -> bytes | None:
        answer = forward()
        if not killed:
            killed.append(controls.kill())
            return None
        return answer

    controls.set_queue(VisibilityTimeout="5")
    controls.intercept_stores(crash_once)
    event = genesys_event()
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    first = pipeline.item(event_id)
    assert not controls.idle()
    eventually(controls.idle, "the second receive has ended")
    assert killed[0]
    assert pipeline.item(event_id) == first
    assert attempts(pipeline, event_id) == [(2, "stored")]
    assert not pipeline.executions(event_id)


def test_a_time_out_in_the_middle_of_a_batch_repeats_nothing_and_loses_nothing(
    pipeline: Pipeline, controls: Controls, consumer: Consumer
) -> None:
    over, timeout, began = threading.Event(), 6, list[float]()

    def stop_halfway(forward: Callable[[], bytes], statements: list[dict[str, Any]]) -> bytes | None:
        if not began:
            began.append(time.monotonic())
            pipeline.client("dynamodb").batch_execute_statement(Statements=_decoded(statements[:5]))
        if time.monotonic() - began[0] > timeout + 1:
            return forward()
        over.wait(60)
        return None

    controls.set_queue(VisibilityTimeout=str(timeout + 2))
    controls.intercept_stores(stop_halfway)
    controls.configure(timeout=timeout)
    with controls.paused():
        event_ids = pipeline.enqueue(*[genesys_event() for _ in range(10)])
    pipeline.stored(event_ids[:5])
    before = {event_id: pipeline.item(event_id) for event_id in event_ids[:5]}
    assert not any(map(pipeline.item, event_ids[5:]))
    pipeline.stored(event_ids)
    over.set()
    eventually(controls.idle, "the queue is empty")
    assert {event_id: pipeline.item(event_id) for event_id in event_ids[:5]} == before
    assert [attempts(pipeline, event_id) for event_id in event_ids] == [[(2, "stored")]] * 10
    consumer.assert_published_once(*event_ids)
    assert not [one for event_id in event_ids for one in pipeline.executions(event_id)]


def _decoded(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statements of a request as boto3 takes them; in a request, binary values are base64 text."""

    def decoded(value: dict[str, Any]) -> dict[str, Any]:
        return {"B": base64.b64decode(value["B"])} if "B" in value else value

    return [{**one, "Parameters": [decoded(value) for value in one["Parameters"]]} for one in statements]


def test_a_poison_message_ends_as_crashed_and_its_batch_records_are_stored(
    pipeline: Pipeline, controls: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = with_user()
    killed: list[int] = []

    def kill(request: Request) -> None:
        if poison["detail"]["eventBody"]["userId"] in request.query["id"][0]:
            killed.append(controls.kill())

    on_lookup(pipeline, monkeypatch, kill)
    controls.use_one_environment()
    controls.set_queue(VisibilityTimeout="2")
    with controls.paused():
        poison_id, *others = pipeline.enqueue(poison, *[with_user() for _ in range(9)])
    pipeline.stored(others)
    document = pipeline.archived(poison_id, seconds=240)
    assert document["verdict"]["category"] == "CRASHED"
    assert document["verdict"]["rule"] == "worker-crashes-repeatedly"
    assert all(killed)
    eventually(controls.idle, "nothing is in flight")
    assert [one for ones in pipeline.executions_of(others).values() for one in ones] == []
    assert not pipeline.item(poison_id)
    timeline = read(pipeline.stack, poison_id, datetime.now(UTC)).timeline
    receives = [one.result for one in timeline if one.result.startswith("started")]
    assert receives
    assert all("Runtime.ExitError" in result for result in receives)


# -- unusual envelopes-----------------------------------------------------------------------------------------------


def test_an_envelope_without_a_detail_is_archived_with_the_exact_reason(pipeline: Pipeline) -> None:
    event = genesys_event()
    del event["detail"]
    (event_id,) = pipeline.enqueue(event)
    document = pipeline.archived(event_id)
    assert document["verdict"]["category"] == "INVALID"
    assert {record["errorMessage"] for record in document["attempts"]} == {"the envelope has no detail object"}


def test_every_form_of_event_time_is_processed(pipeline: Pipeline) -> None:
    forms = {
        1795435200456: "2026-11-23T12:00:00.456Z",
        "2026-11-23T14:00:00.456+02:00": "2026-11-23T12:00:00.456Z",
        "no time at all": "2026-11-23T12:00:00.123Z",
    }
    event_ids = pipeline.put(*[genesys_event(eventTime=form) for form in forms])
    pipeline.stored(event_ids)
    assert [(pipeline.item(event_id) or {})["eventTime"] for event_id in event_ids] == list(forms.values())
    kept = [pipeline.event(event_id)["detail"]["eventBody"]["eventTime"] for event_id in event_ids]
    assert kept == list(forms)


def test_an_unknown_detail_type_and_any_text_are_stored_unchanged(pipeline: Pipeline) -> None:
    event = genesys_event(note="Zoë 東京 🎧 \u202e \x00", Ключ="значение") | {"detail-type": "v9.not.known.это"}
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    assert pipeline.event(event_id) == event


# -- the Genesys API -----------------------------------------------------------------------------------------------


def test_events_survive_an_outage_with_growing_jittered_waits(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    event_ids = pipeline.enqueue(with_user(), with_user())

    def redriven_twice() -> bool:
        found = pipeline.executions_of(event_ids).values()
        return all(ones and ones[0].path.count("Redrive") == 2 for ones in found)

    eventually(redriven_twice, "both have been redriven twice")
    pipeline.genesys.set_faults(None)
    executions = [pipeline.settled(event_id) for event_id in event_ids]
    assert [one.result["outcome"] for one in executions] == ["RECOVERED", "RECOVERED"]
    delays = [one.delays for one in executions]
    for first, second, *_ in delays:
        assert 60 <= first <= 120
        assert 240 <= second <= 480
    assert delays[0] != delays[1]
    assert not controls.messages("DeadLetterQueueUrl")
    assert not [key for key in pipeline.objects("archive/") if any(one.name in key for one in executions)]


def test_a_retry_after_is_respected_by_the_environment_and_for_the_event(
    pipeline: Pipeline, controls: Controls
) -> None:
    controls.use_one_environment()
    controls.purge_at_the_end()
    before = requests_to(pipeline, USERS)
    pipeline.genesys.set_faults({"status": 429, "retryAfter": 120, "path": USERS})
    (first,) = pipeline.enqueue(with_user())
    (record,) = eventually(lambda: pipeline.attempts(first), "the failure has an attempt record")
    assert record["category"] == "THROTTLED_UPSTREAM"
    assert record["retryAfter"] == 120
    pipeline.genesys.set_faults(None)
    (other,) = pipeline.enqueue(with_user())
    (record,) = eventually(lambda: pipeline.attempts(other), "the other event fails at once")
    assert record["category"] == "THROTTLED_UPSTREAM"
    assert 0 < record["retryAfter"] < 120
    assert requests_to(pipeline, USERS) == before + 1
    (waiting,) = [message for message in controls.messages() if first in message["Body"]]
    assert waiting["ReceiveCount"] == 1
    assert waiting["VisibleAt"] - waiting["FirstReceiveTimestamp"] >= 119  # both times are whole seconds


def test_a_token_that_expires_early_is_renewed_once_and_no_event_fails(pipeline: Pipeline, controls: Controls) -> None:
    controls.use_one_environment()
    pipeline.stored(pipeline.enqueue(with_user()))
    issued = pipeline.genesys.stats()["tokensIssued"]
    pipeline.genesys.revoke()
    with controls.paused():
        event_ids = pipeline.enqueue(*[with_user() for _ in range(10)])
    pipeline.stored(event_ids)
    pipeline.stored(pipeline.enqueue(with_user()))
    assert pipeline.genesys.stats()["tokensIssued"] == issued + 1
    assert not [event_id for event_id in event_ids if pipeline.attempts(event_id)]


def test_events_with_wrong_credentials_wait_on_the_slow_schedule(pipeline: Pipeline, controls: Controls) -> None:
    controls.use_one_environment()
    controls.scale_waits()
    before = requests_to(pipeline, TOKEN)
    pipeline.genesys.set_faults({"rejectCredentials": True})
    with controls.paused():
        event_ids = pipeline.enqueue(*[with_user() for _ in range(5)])
    eventually(lambda: all(pipeline.executions_of(event_ids).values()), "all are dead letters")
    refused = requests_to(pipeline, TOKEN) - before
    batches = controls.batches()
    pipeline.genesys.set_faults(None)
    executions = [pipeline.settled(event_id) for event_id in event_ids]
    assert 1 <= refused <= len(batches)
    assert sum(batch["FailedMisconfigured"] for batch in batches) >= 25
    assert {one.verdicts[0]["category"] for one in executions} == {"MISCONFIGURED"}
    assert {one.verdicts[0]["schedule"] for one in executions} == {"slow"}
    assert all(one.delays[0] >= 10_800 for one in executions)
    assert {one.result["outcome"] for one in executions} == {"RECOVERED"}


def test_wrong_credentials_cause_one_login_and_not_one_for_every_batch(pipeline: Pipeline, controls: Controls) -> None:
    controls.use_one_environment()
    controls.purge_at_the_end()
    controls.set_batch_size(1)
    controls.configure(BACKOFF_BASE_SECONDS="300", BACKOFF_CAP_SECONDS="300")
    before = requests_to(pipeline, TOKEN)
    pipeline.genesys.set_faults({"rejectCredentials": True})
    event_ids = pipeline.enqueue(*[with_user() for _ in range(5)])
    eventually(lambda: all(pipeline.attempts(event_id) for event_id in event_ids), "each failure has an attempt record")
    found = [record for event_id in event_ids for record in pipeline.attempts(event_id)]
    assert [record["category"] for record in found] == ["MISCONFIGURED"] * 5
    assert len(controls.batches()) == 5
    assert requests_to(pipeline, TOKEN) == before + 1


@pytest.mark.parametrize("faults", [{"down": True}, {"status": 503}, {"rejectCredentials": True}])
def test_best_effort_stores_every_event_after_one_lookup_for_the_batch(
    pipeline: Pipeline, controls: Controls, faults: dict[str, Any]
) -> None:
    controls.configure(ENRICHMENT_POLICY="best-effort")
    before = sum(pipeline.genesys.stats()["requests"].values())
    pipeline.genesys.set_faults(faults)
    with controls.paused():
        event_ids = pipeline.enqueue(*[with_user() for _ in range(10)])
    pipeline.stored(event_ids)
    category = "MISCONFIGURED" if "rejectCredentials" in faults else "UNAVAILABLE"
    assert {pipeline.event(event_id)["detail"]["enrichmentError"] for event_id in event_ids} == {category}
    assert 1 <= sum(pipeline.genesys.stats()["requests"].values()) - before <= 3
    assert not [event_id for event_id in event_ids if pipeline.attempts(event_id)]


# -- large, and without an attempt log -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [300 * 1024, 1_048_576])
def test_a_large_event_with_ten_attributes_is_stored_whole(pipeline: Pipeline, controls: Controls, size: int) -> None:
    text = padded(with_user(), TEN_ATTRIBUTES, size)
    (event_id,) = pipeline.enqueue(text, MessageAttributes=TEN_ATTRIBUTES)
    pipeline.stored([event_id])
    stored = pipeline.event(event_id)
    body = stored["detail"]["eventBody"]
    assert body.pop("userName")
    assert body.pop("userEmail")
    assert stored == json.loads(text)
    assert ("eventPointer" in (pipeline.item(event_id) or {})) == (size > 409_600)
    eventually(controls.idle, "the message has left the queue")
    assert not pipeline.attempts(event_id)


def test_without_the_attempt_log_failing_events_still_go_to_triage(pipeline: Pipeline, controls: Controls) -> None:
    attempt_log = f"arn:aws:dynamodb:*:*:table/{pipeline.outputs['AttemptsTableName']}"
    for role in ("ProcessorRole", "ClassifyRole", "ArchiveRole"):
        controls.deny(role, "dynamodb:*", attempt_log)
    pipeline.genesys.set_faults({"status": 503})
    failing, malformed, valid = pipeline.enqueue(with_user(), f"no event {uuid.uuid4()}", genesys_event())
    pipeline.stored([valid])
    pipeline.dead(failing)
    pipeline.genesys.set_faults(None)
    assert pipeline.settled(failing).result["outcome"] == "RECOVERED"
    assert pipeline.item(failing)
    assert pipeline.archived(malformed)["verdict"]["category"] == "MALFORMED"
    assert not pipeline.attempts(failing)
    assert any("bookkeeping failed" in str(line.get("message")) for line in controls.logged())
