"""The promises of the processor under faults, seen on the deployed stack with IAM enforced."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import uuid
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import WAIT_SCALE
from tests.e2e.pipeline import genesys_event, with_user
from tests.e2e.processor import Processor
from tests.e2e.test_publication import Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.genesys import Answer, Request
    from tests.e2e.pipeline import Pipeline

USERS = "/api/v2/users"
TOKEN = "/oauth/token"


@pytest.fixture
def processor(pipeline: Pipeline) -> Iterator[Processor]:
    """The processor with nothing left to do, and as it was once the test is over."""
    made = Processor(pipeline)
    try:
        pipeline.eventually(made.quiet, "earlier tests have left nothing in flight")
    except AssertionError:
        made.clear()
    yield made
    pipeline.genesys.set_faults(None)
    made.restore()
    if not made.quiet():  # a test that failed must not fail the next ones too
        made.clear()


@pytest.fixture
def consumer(pipeline: Pipeline) -> Iterator[Consumer]:
    made = Consumer(pipeline, "holdfast.events")
    yield made
    made.leave()


def asked(pipeline: Pipeline, path: str) -> int:
    """How many requests to a path the Genesys API has seen."""
    counts = pipeline.genesys.stats()["requests"]
    return sum(count for kind, count in counts.items() if kind.split()[1] == path)


def lookups(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, see: Callable[[Request], None]) -> None:
    """Be told of every user lookup before it is answered."""
    plain = pipeline.genesys.answer

    def answer(request: Request) -> Answer | None:
        if request.path == USERS:
            see(request)
        return plain(request)

    monkeypatch.setattr(pipeline.genesys, "answer", answer)


def lines(pipeline: Pipeline, event_id: str) -> list[tuple[int, str]]:
    """The attempt log on an event: receive count and status."""
    found = pipeline.attempts(event_id)
    return sorted((int(line["attempt"]["S"].rpartition("#")[2]), line["status"]["S"]) for line in found)


# -- once ----------------------------------------------------------------------------------------------------------


def test_a_valid_event_is_stored_once_and_published_once(
    pipeline: Pipeline, processor: Processor, consumer: Consumer
) -> None:
    first, last = pipeline.put(with_user(), genesys_event())
    pipeline.eventually(lambda: consumer.of(first) and consumer.of(last), "both are published")
    assert len(consumer.of(first)) == 1
    pipeline.eventually(lambda: processor.total("Stored") == 2, "the processor tells of both")
    assert processor.total("Received") == 2
    assert processor.quiet()
    assert not pipeline.attempts(first)
    assert not pipeline.executions(first)


def test_copies_of_one_event_in_a_batch_are_one_item_and_no_failure(pipeline: Pipeline, processor: Processor) -> None:
    event = with_user()
    with processor.paused():
        event_id, *_ = pipeline.enqueue(event, event, event)
    pipeline.stored([event_id])
    pipeline.eventually(processor.quiet, "all copies are gone")
    pipeline.eventually(lambda: processor.total("Received") == 3, "the processor tells of all three")
    assert len(processor.batches()) == 1
    assert processor.total("Failed") == 0
    assert not pipeline.attempts(event_id)


def test_copies_of_one_event_in_two_batches_at_once_are_one_item_and_no_failure(
    pipeline: Pipeline, processor: Processor, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = with_user()
    processor.set_batch_size(1)
    workers: set[str] = set()
    both = threading.Event()

    def hold(request: Request) -> None:
        workers.add(request.headers["authorization"])  # each execution environment has a token of its own
        if len(workers) == 2:
            both.set()
        both.wait(20)

    lookups(pipeline, monkeypatch, hold)
    with processor.paused():
        event_id, _ = pipeline.enqueue(event, event)
    pipeline.stored([event_id])
    assert both.is_set()
    pipeline.eventually(processor.quiet, "both copies are gone")
    pipeline.eventually(lambda: processor.total("Received") == 2, "the processor tells of both")
    assert (processor.total("Stored"), processor.total("Duplicate")) == (1, 1)
    assert not pipeline.attempts(event_id)
    (marker,) = pipeline.enqueue(genesys_event())
    pipeline.eventually(lambda: consumer.of(marker), "a later event is published")
    assert len(consumer.of(event_id)) == 1


def test_a_copy_that_comes_long_after_changes_nothing(pipeline: Pipeline, processor: Processor) -> None:
    event = with_user()
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    first = pipeline.item(event_id)
    processor.configure()  # whatever an execution environment remembered is forgotten
    pipeline.enqueue(event)
    pipeline.eventually(lambda: processor.total("Duplicate") == 1, "the copy was seen")
    pipeline.eventually(processor.quiet, "the copy is gone")
    assert pipeline.item(event_id) == first
    assert processor.total("Failed") == 0


# -- batches -------------------------------------------------------------------------------------------------------


def test_of_ten_with_one_bad_record_only_that_one_comes_again(pipeline: Pipeline, processor: Processor) -> None:
    with processor.paused():
        bad, *good = pipeline.enqueue(f"no event {uuid.uuid4()}", *[genesys_event() for _ in range(9)])
    pipeline.stored(good)
    assert pipeline.archived(bad)["verdict"]["category"] == "MALFORMED"
    pipeline.eventually(lambda: processor.total("Failed") == 5, "the processor tells of five failures")
    first, *later = processor.batches()
    assert (first["Received"], first["Stored"], first["Failed"]) == (10, 9, 1)
    assert [batch["Received"] for batch in later] == [1, 1, 1, 1]
    assert not [letter for letter in good if pipeline.attempts(letter)]


def test_ten_that_all_fail_are_each_reported_and_each_come_again(pipeline: Pipeline, processor: Processor) -> None:
    pipeline.genesys.set_faults({"status": 503, "path": USERS})
    with processor.paused():
        letters = pipeline.enqueue(*[with_user() for _ in range(10)])
    pipeline.eventually(lambda: all(lines(pipeline, letter) for letter in letters), "each failure is noted")
    pipeline.genesys.set_faults(None)
    # Only a record that was reported by its id, and whose time-out was set, comes again before eight minutes have gone.
    pipeline.stored(letters)
    told = [line for line in processor.logged() if line.get("message") == "record failed" and line["receiveCount"] == 1]
    assert sorted(line["eventId"] for line in told) == sorted(letters)
    assert (processor.batches()[0]["Received"], processor.batches()[0]["Failed"]) == (10, 10)


# -- deaths --------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_after_storing_leaves_a_silent_success(pipeline: Pipeline, processor: Processor) -> None:
    killed: list[int] = []

    def die_once(forward: Callable[[], bytes], _statements: list[dict[str, Any]]) -> bytes | None:
        answer = forward()
        if not killed:
            killed.append(processor.kill())
            return None
        return answer

    processor.set_visibility_timeout(5)
    processor.tap(die_once)
    event = genesys_event()
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    first = pipeline.item(event_id)
    assert not processor.quiet()
    pipeline.eventually(processor.quiet, "the redelivery is gone")
    assert killed[0]
    assert pipeline.item(event_id) == first
    assert lines(pipeline, event_id) == [(2, "stored")]
    assert not pipeline.executions(event_id)


def test_a_timeout_in_the_middle_of_a_batch_redoes_nothing_and_loses_nothing(
    pipeline: Pipeline, processor: Processor, consumer: Consumer
) -> None:
    over = threading.Event()
    requests = count(1)

    def stop_halfway(forward: Callable[[], bytes], statements: list[dict[str, Any]]) -> bytes | None:
        match next(requests):
            case 1:  # the direct one, which gives up first
                pipeline.client("dynamodb").batch_execute_statement(Statements=_readable(statements[:5]))
            case 2:  # the client's, in which the function's time ends
                pass
            case _:
                return forward()
        over.wait(60)
        return None

    processor.set_visibility_timeout(8)
    processor.tap(stop_halfway)
    processor.configure(timeout=6)
    with processor.paused():
        letters = pipeline.enqueue(*[genesys_event() for _ in range(10)])
    finished = pipeline.eventually(lambda: [one for one in letters if pipeline.item(one)], "some of them are stored")
    pipeline.stored(finished)
    before = {letter: pipeline.item(letter) for letter in letters[:5]}
    assert all(before.values())
    assert not any(pipeline.item(letter) for letter in letters[5:])
    pipeline.stored(letters)
    over.set()
    pipeline.eventually(processor.quiet, "all have left the queue")
    assert {letter: pipeline.item(letter) for letter in letters[:5]} == before
    assert [lines(pipeline, letter) for letter in letters] == [[(2, "stored")]] * 10
    pipeline.eventually(lambda: all(consumer.of(letter) for letter in letters), "all are published")
    assert [len(consumer.of(letter)) for letter in letters] == [1] * 10
    assert not [one for letter in letters for one in pipeline.executions(letter)]


def _readable(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statements off the wire as boto3 takes them: there binary values are base64 text."""

    def bare(value: dict[str, Any]) -> dict[str, Any]:
        return {"B": base64.b64decode(value["B"])} if "B" in value else value

    return [{**one, "Parameters": [bare(value) for value in one["Parameters"]]} for one in statements]


def test_a_record_that_kills_its_worker_takes_nobody_with_it(
    pipeline: Pipeline, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = with_user()
    deaths: list[int] = []

    def kill(request: Request) -> None:
        if poison["detail"]["eventBody"]["userId"] in request.query["id"][0]:
            deaths.append(processor.kill())

    lookups(pipeline, monkeypatch, kill)
    processor.run_alone()
    processor.set_visibility_timeout(2)
    with processor.paused():
        deadly, *mates = pipeline.enqueue(poison, *[with_user() for _ in range(9)])
    pipeline.stored(mates)
    document = pipeline.archived(deadly, seconds=240)
    assert document["verdict"]["category"] == "CRASHED"
    assert document["verdict"]["rule"] == "worker-crashes-repeatedly"
    assert all(deaths)
    pipeline.eventually(processor.quiet, "nothing is left")
    assert [one.output for mate in mates for one in pipeline.executions(mate)] == []
    assert not pipeline.item(deadly)


# -- odd envelopes -------------------------------------------------------------------------------------------------


def test_an_envelope_without_a_detail_is_archived_with_the_exact_reason(pipeline: Pipeline) -> None:
    event = genesys_event()
    del event["detail"]
    (event_id,) = pipeline.enqueue(event)
    document = pipeline.archived(event_id)
    assert document["verdict"]["category"] == "INVALID"
    assert {line["errorMessage"] for line in document["attempts"]} == {"the envelope has no detail object"}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (1795435200456, "2026-11-23T12:00:00.456Z"),
        ("2026-11-23T14:00:00.456+02:00", "2026-11-23T12:00:00.456Z"),
        ("no time at all", "2026-11-23T12:00:00.123Z"),
    ],
)
def test_any_form_of_event_time_is_processed(pipeline: Pipeline, given: float | str, read: str) -> None:
    (event_id,) = pipeline.put(genesys_event(eventTime=given))
    pipeline.stored([event_id])
    item = pipeline.item(event_id)
    assert item
    assert item["eventTime"]["S"] == read
    assert pipeline.event(event_id)["detail"]["eventBody"]["eventTime"] == given


def test_an_unknown_detail_type_and_any_text_are_processed_as_they_are(pipeline: Pipeline) -> None:
    event = genesys_event(note="Zoë 東京 🎧 \u202e \x00", Ключ="значение") | {"detail-type": "v9.nobody.knows.это"}
    (event_id,) = pipeline.enqueue(event)
    pipeline.stored([event_id])
    assert pipeline.event(event_id) == event


# -- the Genesys API -----------------------------------------------------------------------------------------------


def test_an_outage_is_waited_out_with_growing_jittered_waits(pipeline: Pipeline) -> None:
    pipeline.genesys.set_faults({"status": 503})
    letters = pipeline.enqueue(with_user(), with_user())

    def both_wait_again() -> bool:
        return all(one.path.count("Redrive") == 2 for letter in letters for one in pipeline.executions(letter))

    pipeline.eventually(lambda: all(pipeline.executions(letter) for letter in letters), "both are dead letters")
    pipeline.eventually(both_wait_again, "both have been sent back twice")
    pipeline.genesys.set_faults(None)
    executions = [pipeline.settled(letter) for letter in letters]
    assert [one.output["outcome"] for one in executions if one.output] == ["RECOVERED", "RECOVERED"]
    delays = [one.delays for one in executions]
    for first, second, *_ in delays:
        assert 60 <= first <= 120
        assert 240 <= second <= 480
    assert delays[0] != delays[1]
    assert not Processor(pipeline).messages("DeadLetterQueueUrl")
    assert not [key for key in pipeline.objects("archive/") if any(one.name in key for one in executions)]


def test_a_retry_after_is_heeded_by_the_environment_and_by_the_event(pipeline: Pipeline, processor: Processor) -> None:
    processor.run_alone()
    processor.empty_the_queue_at_the_end()
    before = asked(pipeline, USERS)
    pipeline.genesys.set_faults({"status": 429, "retryAfter": 120, "path": USERS})
    (told,) = pipeline.enqueue(with_user())
    (line,) = pipeline.eventually(lambda: pipeline.attempts(told), "the failure is noted")
    assert line["category"]["S"] == "THROTTLED_UPSTREAM"
    assert float(line["retryAfter"]["N"]) == 120
    pipeline.genesys.set_faults(None)
    (other,) = pipeline.enqueue(with_user())
    (line,) = pipeline.eventually(lambda: pipeline.attempts(other), "the other event fails at once")
    assert line["category"]["S"] == "THROTTLED_UPSTREAM"
    assert 0 < float(line["retryAfter"]["N"]) < 120
    assert asked(pipeline, USERS) == before + 1
    (waiting,) = [message for message in processor.messages() if told in message["Body"]]
    assert waiting["ReceiveCount"] == 1
    assert waiting["VisibleAt"] - waiting["FirstReceiveTimestamp"] >= 119  # both are cut to whole seconds


def test_a_token_that_ends_early_is_renewed_once_and_no_event_fails(pipeline: Pipeline, processor: Processor) -> None:
    processor.run_alone()
    pipeline.stored(pipeline.enqueue(with_user()))
    issued = pipeline.genesys.stats()["tokensIssued"]
    pipeline.genesys.revoke()
    with processor.paused():
        letters = pipeline.enqueue(*[with_user() for _ in range(10)])
    pipeline.stored(letters)
    pipeline.stored(pipeline.enqueue(with_user()))
    assert pipeline.genesys.stats()["tokensIssued"] == issued + 1
    assert not [letter for letter in letters if pipeline.attempts(letter)]


def test_wrong_credentials_wait_on_the_slow_schedule_and_storm_nobody(pipeline: Pipeline, processor: Processor) -> None:
    processor.run_alone()
    processor.scale_waits(0.0005, usual=WAIT_SCALE)
    before = asked(pipeline, TOKEN), asked(pipeline, USERS)
    pipeline.genesys.set_faults({"rejectCredentials": True})
    with processor.paused():
        letters = pipeline.enqueue(*[with_user() for _ in range(5)])
    pipeline.eventually(lambda: all(pipeline.executions(letter) for letter in letters), "all are dead letters")
    refused = asked(pipeline, TOKEN) - before[0]
    batches = processor.batches()
    pipeline.genesys.set_faults(None)
    executions = [pipeline.settled(letter) for letter in letters]
    assert 1 <= refused <= len(batches)
    assert sum(batch["FailedMisconfigured"] for batch in batches) >= 25
    assert {one.verdicts[0]["category"] for one in executions} == {"MISCONFIGURED"}
    assert {one.verdicts[0]["schedule"] for one in executions} == {"slow"}
    assert all(one.delays[0] >= 10_800 for one in executions)
    assert {one.output["outcome"] for one in executions if one.output} == {"RECOVERED"}


def test_wrong_credentials_are_tried_once_and_not_by_every_batch(pipeline: Pipeline, processor: Processor) -> None:
    processor.run_alone()
    processor.empty_the_queue_at_the_end()
    processor.set_batch_size(1)
    processor.configure(BACKOFF_BASE_SECONDS="300", BACKOFF_CAP_SECONDS="300")
    before = asked(pipeline, TOKEN)
    pipeline.genesys.set_faults({"rejectCredentials": True})
    letters = pipeline.enqueue(*[with_user() for _ in range(5)])
    pipeline.eventually(lambda: all(pipeline.attempts(letter) for letter in letters), "each failure is noted")
    found = [line for letter in letters for line in pipeline.attempts(letter)]
    assert [line["category"]["S"] for line in found] == ["MISCONFIGURED"] * 5
    assert len(processor.batches()) == 5
    assert asked(pipeline, TOKEN) == before + 1


@pytest.mark.parametrize("faults", [{"down": True}, {"status": 503}, {"rejectCredentials": True}])
def test_best_effort_lets_every_event_go_on_after_one_try_for_the_batch(
    pipeline: Pipeline, processor: Processor, faults: dict[str, Any]
) -> None:
    processor.configure(ENRICHMENT_POLICY="best-effort")
    before = sum(pipeline.genesys.stats()["requests"].values())
    pipeline.genesys.set_faults(faults)
    with processor.paused():
        letters = pipeline.enqueue(*[with_user() for _ in range(10)])
    pipeline.stored(letters)
    category = "MISCONFIGURED" if "rejectCredentials" in faults else "UNAVAILABLE"
    assert {pipeline.event(letter)["detail"]["enrichmentError"] for letter in letters} == {category}
    assert 1 <= sum(pipeline.genesys.stats()["requests"].values()) - before <= 3
    assert not [letter for letter in letters if pipeline.attempts(letter)]


# -- large, and without an attempt log -----------------------------------------------------------------------------------


def ten_attributes() -> dict[str, dict[str, Any]]:
    """As many as SQS takes, of each type."""
    texts = {f"text-{number}": {"DataType": "String", "StringValue": "Zoë"} for number in range(4)}
    numbers = {f"number-{number}": {"DataType": "Number.float", "StringValue": "1.50"} for number in range(3)}
    binaries = {f"binary-{number}": {"DataType": "Binary", "BinaryValue": b"\x00\xff\x10"} for number in range(3)}
    return texts | numbers | binaries


def attribute_bytes(attributes: dict[str, dict[str, Any]]) -> int:
    return sum(
        len(name) + len(one["DataType"]) + len(one.get("BinaryValue") or one["StringValue"].encode())
        for name, one in attributes.items()
    )


@pytest.mark.parametrize("size", [300 * 1024, 1_048_576])
def test_a_large_event_with_ten_attributes_is_stored_whole(pipeline: Pipeline, processor: Processor, size: int) -> None:
    attributes = ten_attributes()
    event = with_user(transcript="")
    room = size - len(json.dumps(event)) - attribute_bytes(attributes)
    event["detail"]["eventBody"]["transcript"] = secrets.token_hex(room)[:room]
    (event_id,) = pipeline.enqueue(event, MessageAttributes=attributes)
    pipeline.stored([event_id])
    item = pipeline.item(event_id)
    assert item
    beside = "eventPointer" in item
    stored = pipeline.event(event_id)
    body = stored["detail"]["eventBody"]
    assert body.pop("userName")
    assert body.pop("userEmail")
    assert stored == event
    assert beside == (size > 409_600)
    pipeline.eventually(processor.quiet, "it has left the queue")
    assert not pipeline.attempts(event_id)


def test_a_large_dead_letter_with_ten_attributes_is_archived_byte_for_byte(pipeline: Pipeline) -> None:
    attributes = ten_attributes()
    head = f"no JSON, {uuid.uuid4()} "
    body = head + secrets.token_hex(600_000)[: 1_048_576 - len(head) - attribute_bytes(attributes)]
    (event_id,) = pipeline.enqueue(body, MessageAttributes=attributes)
    message = pipeline.archived(event_id)["message"]
    assert message["body"] == body
    kept = {
        name: (one["dataType"], base64.b64decode(one["binaryValue"]) if "binaryValue" in one else one["stringValue"])
        for name, one in message["messageAttributes"].items()
    }
    assert kept == {
        name: (one["DataType"], one.get("BinaryValue", one.get("StringValue"))) for name, one in attributes.items()
    }


def test_without_the_ledger_events_still_die_and_are_still_triaged(pipeline: Pipeline, processor: Processor) -> None:
    attempt_log = f"arn:aws:dynamodb:*:*:table/{pipeline.outputs['AttemptsTableName']}"
    for role in ("ProcessorRole", "ClassifyRole", "ArchiveRole"):
        processor.deny(role, "dynamodb:*", attempt_log)
    pipeline.genesys.set_faults({"status": 503})
    failing, broken, fine = pipeline.enqueue(with_user(), f"no event {uuid.uuid4()}", genesys_event())
    pipeline.stored([fine])
    pipeline.eventually(lambda: pipeline.executions(failing), "the outage makes a dead letter")
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(failing)
    assert execution.output
    assert execution.output["outcome"] == "RECOVERED"
    assert pipeline.item(failing)
    assert pipeline.archived(broken)["verdict"]["category"] == "MALFORMED"
    assert not pipeline.attempts(failing)
    assert any("bookkeeping failed" in str(line.get("message")) for line in processor.logged())
