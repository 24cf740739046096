"""The promises of triage and replay under faults, seen on the deployed stack with IAM enforced."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.domain.envelope import identify
from holdfast.domain.intake import Carried, execution_input
from holdfast.domain.letters import MAX_MESSAGE_BYTES, RULE_ATTRIBUTES, DeadLetter, Message, message_bytes
from tests.e2e.conftest import PARAMETERS, WAIT_SCALE
from tests.e2e.pipeline import genesys_event, with_user
from tests.e2e.processor import Processor
from tests.e2e.test_publication import Consumer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.e2e.pipeline import Execution, Pipeline

#: Waits so short that a callback's time-out falls to the session's floor.
HURRY = 0.0005
#: The MaxConcurrency of the replay's Map.
REPLAYED_AT_ONCE = 20
#: The MaximumConcurrency of the intake's mapping.
INTAKE_AT_ONCE = 2
#: The template's default.
MAX_AGE_HOURS = 168
UNDELIVERED = {"ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"}}


class Triage(Processor):
    """What can be changed around triage, and is put back when the test is over."""

    def set_queue(self, output: str, **attributes: str) -> None:
        sqs, url = self.pipeline.client("sqs"), self.pipeline.outputs[output]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(attributes))["Attributes"]
        self._undo.callback(sqs.set_queue_attributes, QueueUrl=url, Attributes=before)
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def die_at_once(self) -> None:
        """One failed receive makes a dead letter."""
        sqs = self.pipeline.client("sqs")
        asked = {"QueueUrl": self.pipeline.outputs["DeadLetterQueueUrl"], "AttributeNames": ["QueueArn"]}
        arn = sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"]
        self.set_queue("BufferQueueUrl", RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1}))

    @contextlib.contextmanager
    def denied(self, role: str, action: str, resource: str) -> Iterator[None]:
        """Take a permission away for a while."""
        with contextlib.ExitStack() as healing:
            self._undo, before = healing, self._undo
            try:
                self.deny(role, action, resource)
                yield
            finally:
                self._undo = before

    def hurry(self) -> None:
        self.scale_waits(HURRY, WAIT_SCALE)

    def bury(self, body: str, attributes: dict[str, Any] | None = None, **optional: Any) -> str:
        """Send a message straight into the dead-letter queue."""
        url = self.pipeline.outputs["DeadLetterQueueUrl"]
        sent = {"QueueUrl": url, "MessageBody": body, "MessageAttributes": attributes or {}, **optional}
        self.pipeline.client("sqs").send_message(**sent)
        return identify(body)[0]

    def stories(self, event_ids: Collection[str]) -> dict[str, list[Execution]]:
        """The executions of these letters."""
        found: dict[str, list[Execution]] = {event_id: [] for event_id in event_ids}
        for execution in self.pipeline.executions():
            if execution.input.get("eventId") in found:
                found[execution.input["eventId"]].append(execution)
        return found

    def started(self) -> int:
        """How many executions there are: cheaper than their stories."""
        pages = self.pipeline.client("stepfunctions").get_paginator("list_executions")
        found = pages.paginate(stateMachineArn=self.pipeline.outputs["TriageStateMachineArn"])
        return sum(len(page["executions"]) for page in found)

    def all_ended(self, event_ids: Collection[str], seconds: float = 120) -> dict[str, list[Execution]]:
        """Wait until each letter has an execution and none of them runs."""

        def ended() -> dict[str, list[Execution]] | None:
            found = self.stories(event_ids)
            done = all(ones and all(one.status != "RUNNING" for one in ones) for ones in found.values())
            return found if done else None

        found = self.pipeline.eventually(ended, f"{len(event_ids)} letters have ended", seconds)
        assert found
        return found


@pytest.fixture
def triage(pipeline: Pipeline) -> Iterator[Triage]:
    """A stack with nothing in flight, and as it was once the test is over."""
    made = Triage(pipeline)
    pipeline.eventually(made.quiet, "earlier tests have left nothing in flight", seconds=240)
    with contextlib.ExitStack() as leaving:
        leaving.callback(made.restore)
        leaving.callback(pipeline.genesys.set_faults, None)
        yield made


@pytest.fixture
def consumer(pipeline: Pipeline) -> Iterator[Consumer]:
    made = Consumer(pipeline, "holdfast.events")
    yield made
    made.leave()


def output(execution: Execution) -> dict[str, Any]:
    assert execution.status == "SUCCEEDED", execution.history[-1]
    assert execution.output
    return execution.output


def ends(stories: dict[str, list[Execution]]) -> Counter[str]:
    """How the letters ended; each of them has one story."""
    assert {len(executions) for executions in stories.values()} == {1}
    return Counter(output(executions[0])["outcome"] for executions in stories.values())


def topic(name: str) -> str:
    """A detail-type of one test alone: the archive's names begin with its last words."""
    return f"v2.detail.events.conversation.{{id}}.{name}"


def refused_event() -> dict[str, Any]:
    """An event that is sound but for its size beside the payload: the table refuses the item, whenever it is tried."""
    return genesys_event() | {"source": "genesys.cloud/" + secrets.token_hex(220_000)}


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_an_item_that_the_table_refuses_is_archived_at_the_first_triage(pipeline: Pipeline, triage: Triage) -> None:
    event = refused_event()
    with triage.paused():
        mate_id, event_id = pipeline.enqueue(genesys_event(), event)
    document = pipeline.archived(event_id)
    (execution,) = pipeline.executions(event_id)
    assert execution.path == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
    assert document["verdict"]["category"] == "REJECTED"
    assert output(execution)["redrives"] == 0
    assert {attempt["errorType"] for attempt in document["attempts"]} == {"Rejected"}
    assert document["message"]["body"] == json.dumps(event)
    assert pipeline.item(mate_id)
    assert not pipeline.item(event_id)


def test_another_error_in_the_next_round_is_another_verdict_and_the_rounds_are_carried_over(
    pipeline: Pipeline, triage: Triage
) -> None:
    triage.die_at_once()
    triage.hurry()
    triage.configure()  # no token is left from before
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.enqueue(with_user())
    pipeline.eventually(lambda: pipeline.executions(event_id), "the outage makes a dead letter")
    pipeline.genesys.set_faults({"rejectCredentials": True})

    def reclassified() -> bool:
        (execution,) = pipeline.executions(event_id)
        return "MISCONFIGURED" in [verdict["category"] for verdict in execution.verdicts]

    pipeline.eventually(reclassified, "the error is another one now")
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(event_id)
    categories = [verdict["category"] for verdict in execution.verdicts]
    assert categories[0] == "UNAVAILABLE"
    assert categories[-2:] == ["MISCONFIGURED", "ALREADY_STORED"]
    assert output(execution)["redrives"] == execution.path.count("Redrive") == len(categories) - 1
    assert len(execution.delays) == len(categories) - 1
    assert len(pipeline.executions(event_id)) == 1
    assert pipeline.item(event_id)


def test_a_redrive_that_is_never_heard_of_is_unconfirmed_and_its_late_success_is_no_harm(
    pipeline: Pipeline, triage: Triage, consumer: Consumer
) -> None:
    triage.hurry()
    with triage.paused():
        event_id = triage.bury(json.dumps(genesys_event()), UNDELIVERED)
        execution = pipeline.settled(event_id)
        assert output(execution)["category"] == "UNCONFIRMED"
        archive = output(execution)["archive"]["key"]
        assert pipeline.document(archive)["eventId"] == event_id
        assert not pipeline.item(event_id)
    pipeline.stored([event_id])
    pipeline.eventually(triage.quiet, "the late message is gone")
    pipeline.eventually(lambda: consumer.of(event_id), "it is published")
    stored = pipeline.item(event_id)
    assert pipeline.replay({"prefix": archive, "reason": "was it lost?"})["counts"] == {"UNCONFIRMED RECOVERED": 1}
    (again,) = [one for one in pipeline.executions(event_id) if one.arn != execution.arn]
    assert again.path == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert pipeline.item(event_id) == stored
    (marker,) = pipeline.enqueue(genesys_event())
    pipeline.eventually(lambda: consumer.of(marker), "a later event is published")
    assert len(consumer.of(event_id)) == 1


def test_a_letter_that_is_too_old_is_archived_as_expired_and_not_retried(pipeline: Pipeline) -> None:
    """Nobody can send an old message, so its execution is started by hand, as an operator may."""
    letter = DeadLetter.of(Message(str(uuid.uuid4()), json.dumps(genesys_event())))
    bucket = pipeline.outputs["ArchiveBucketName"]
    pipeline.client("s3").put_object(Bucket=bucket, Key=letter.key, Body=letter.as_json().encode())
    began = int((time.time() - (MAX_AGE_HOURS + 1) * 3600) * 1000)
    given = execution_input(letter, Carried((letter.key,), first_sent_at=began))
    arn = pipeline.outputs["TriageStateMachineArn"]
    pipeline.client("stepfunctions").start_execution(stateMachineArn=arn, input=json.dumps(given))
    execution = pipeline.settled(letter.event_id)
    assert (output(execution)["outcome"], output(execution)["category"]) == ("ARCHIVED", "EXPIRED")
    assert execution.delays == []
    assert pipeline.document(output(execution)["archive"]["key"])["message"]["body"] == letter.message.body
    assert not pipeline.objects(f"dead-letters/{letter.event_id}/")


def test_what_eventbridge_cannot_deliver_to_the_buffer_comes_to_triage_and_is_redriven(
    pipeline: Pipeline, triage: Triage
) -> None:
    triage.set_queue("BufferQueueUrl", Policy="")
    (event_id,) = pipeline.put(genesys_event())
    execution = pipeline.settled(event_id)
    assert [verdict["category"] for verdict in execution.verdicts] == ["UNDELIVERED", "ALREADY_STORED"]
    assert execution.verdicts[0]["evidence"]["errorCode"] == "NO_PERMISSIONS"
    assert output(execution)["outcome"] == "RECOVERED"
    pipeline.stored([event_id])


# -- what triage itself needs is down ------------------------------------------------------------------------------


def test_letters_that_cannot_be_started_stay_in_their_queue_and_are_taken_in_later(
    pipeline: Pipeline, triage: Triage
) -> None:
    triage.set_queue("DeadLetterQueueUrl", VisibilityTimeout="3")
    bodies = [json.dumps(genesys_event()) for _ in range(12)]
    event_ids = [identify(body)[0] for body in bodies]
    before = [triage.bury(body, UNDELIVERED) for body in bodies[:4]]
    triage.all_ended(before)
    with triage.denied("DeadLetterIntakeRole", "states:StartExecution", "*"):
        for body in bodies[4:]:
            triage.bury(body, UNDELIVERED)
        evidence = [f"dead-letters/{event_id}/" for event_id in event_ids[4:]]
        pipeline.eventually(lambda: all(map(pipeline.objects, evidence)), "the intake has seen every letter")
        assert len(triage.messages("DeadLetterQueueUrl")) == 8
        assert not any(triage.stories(event_ids[4:]).values())
    assert ends(triage.all_ended(event_ids)) == {"RECOVERED": 12}
    pipeline.eventually(triage.quiet, "the dead-letter queue is empty")
    assert not any(map(pipeline.objects, evidence))
    assert all(map(pipeline.item, event_ids))


def test_a_letter_that_cannot_be_archived_keeps_its_evidence_until_the_sweep_archives_it(
    pipeline: Pipeline, triage: Triage
) -> None:
    body = f"not an event {uuid.uuid4()}"
    bucket = f"arn:aws:s3:::{pipeline.outputs['ArchiveBucketName']}"
    with triage.denied("ArchiveRole", "s3:PutObject", f"{bucket}/archive/*"):
        (event_id,) = pipeline.enqueue(body)
        failed = pipeline.settled(event_id)
    assert (failed.status, failed.path[-1]) == ("FAILED", "Archive")
    (evidence,) = pipeline.objects(f"dead-letters/{event_id}/")
    assert pipeline.document(evidence)["message"]["body"] == body
    assert pipeline.sweep()["adopted"] >= 1
    (adopted,) = [one for one in triage.all_ended([event_id])[event_id] if one.arn != failed.arn]
    assert adopted.name == f"{failed.name}-g1"
    document = pipeline.document(output(adopted)["archive"]["key"])
    assert (document["verdict"]["category"], document["message"]["body"]) == ("MALFORMED", body)
    assert not pipeline.objects(f"dead-letters/{event_id}/")


def test_a_letter_that_cannot_be_classified_is_archived_as_unknown_and_can_be_replayed(
    pipeline: Pipeline, triage: Triage
) -> None:
    with triage.denied("ClassifyRole", "dynamodb:GetItem", "*"):
        event_id = triage.bury(json.dumps(genesys_event()), UNDELIVERED)
        execution = pipeline.settled(event_id)
    assert execution.path == ["Classify", "Archive", "SettleArchived", "Archived"]
    assert (output(execution)["category"], output(execution)["rule"]) == ("UNKNOWN", "classify-failed")
    counts = pipeline.replay({"prefix": output(execution)["archive"]["key"], "reason": "healed"})["counts"]
    assert counts == {"UNKNOWN RECOVERED": 1}
    assert pipeline.item(event_id)


# -- many ----------------------------------------------------------------------------------------------------------


def test_two_copies_of_one_event_that_die_at_once_have_one_effect(
    pipeline: Pipeline, triage: Triage, consumer: Consumer
) -> None:
    body = json.dumps(with_user())
    with triage.paused():
        event_id, _ = triage.bury(body, UNDELIVERED), triage.bury(body, UNDELIVERED)
        pipeline.eventually(lambda: len(triage.messages()) == 2, "both are redriven")
    both = triage.all_ended([event_id])[event_id]
    assert [output(one)["outcome"] for one in both] == ["RECOVERED"] * 2
    pipeline.eventually(triage.quiet, "both copies are gone")
    (marker,) = pipeline.enqueue(genesys_event())
    pipeline.eventually(lambda: consumer.of(marker) and consumer.of(event_id), "both are published")
    assert len(consumer.of(event_id)) == 1
    assert len(pipeline.executions(event_id)) == 2
    assert not pipeline.objects(f"dead-letters/{event_id}/")


def test_a_thousand_letters_of_one_cause_have_one_story_each_at_a_bounded_concurrency_and_live_traffic_goes_on(
    pipeline: Pipeline, triage: Triage
) -> None:
    triage.die_at_once()
    pipeline.stack.engine.reset_concurrency()
    pipeline.genesys.set_faults({"status": 503})
    before = triage.started()
    event_ids = set(pipeline.enqueue(*(with_user() for _ in range(1_000))))
    live = pipeline.enqueue(*(genesys_event() for _ in range(20)))
    pipeline.eventually(lambda: triage.started() >= before + 1_000, "the outage makes dead letters", 240)
    pipeline.stored(live)
    more = pipeline.enqueue(*(genesys_event() for _ in range(20)))
    pipeline.genesys.set_faults(None)
    pipeline.eventually(triage.quiet, "all letters have ended", 240)
    stories = triage.stories(event_ids)
    assert ends(stories) == {"RECOVERED": 1_000}
    assert {executions[0].verdicts[0]["category"] for executions in stories.values()} == {"UNAVAILABLE"}
    pipeline.stored([*event_ids, *more])
    assert not any(triage.stories([*live, *more]).values())
    peak = pipeline.stack.engine.concurrency()["peak"]
    assert peak[pipeline.outputs["ProcessorFunctionName"]] <= int(PARAMETERS["MaxConcurrency"])
    assert peak[pipeline.stack.stack.resources["DeadLetterIntakeFunction"]] <= INTAKE_AT_ONCE


# -- replay --------------------------------------------------------------------------------------------------------


def test_a_replay_whose_letters_fail_again_in_part_agrees_with_the_archive(pipeline: Pipeline, triage: Triage) -> None:
    named = {"detail-type": topic("failing.part")}
    events = [*(genesys_event() for _ in range(7)), *(refused_event() for _ in range(3))]
    with triage.denied("ClassifyRole", "dynamodb:GetItem", "*"):
        event_ids = [triage.bury(json.dumps(event | named)) for event in events]
        stories = triage.all_ended(event_ids)
    good, bad = event_ids[:7], event_ids[7:]
    keys = [output(executions[0])["archive"]["key"] for executions in stories.values()]
    prefix = f"{keys[0].rpartition('/')[0]}/failing-part-"
    before = set(pipeline.objects("archive/"))
    assert {key for key in before if key.startswith(prefix)} == set(keys)
    asked: dict[str, object] = {"prefix": prefix, "reason": "fixed for most"}
    assert pipeline.replay({**asked, "dryRun": True})["counts"] == {"UNKNOWN": 10}
    assert set(pipeline.objects("archive/")) == before

    done = pipeline.replay(asked)
    assert (done["letters"], done["counts"]) == (10, {"UNKNOWN ARCHIVED": 3, "UNKNOWN RECOVERED": 7})
    assert all(map(pipeline.item, good))
    assert not any(map(pipeline.item, bad))
    again = set(pipeline.objects("archive/")) - before
    documents = [pipeline.document(key) for key in again]
    assert sorted(document["eventId"] for document in documents) == sorted(bad)
    assert {document["verdict"]["category"] for document in documents} == {"REJECTED"}
    folder = str(done["report"]).rpartition("/")[0]
    lines = [pipeline.document(key) for key in pipeline.objects(f"{folder}/letters/")]
    assert {line["archive"]["key"] for line in lines if line["outcome"] == "ARCHIVED"} == again
    assert not [key for event_id in event_ids for key in pipeline.objects(f"dead-letters/{event_id}/")]

    assert pipeline.replay(asked)["counts"] == {"UNKNOWN SKIPPED": 10}
    assert pipeline.replay({**asked, "dryRun": True})["counts"] == {"SKIPPED": 7, "UNKNOWN": 3}
    other = pipeline.replay({**asked, "reason": "fixed for all, they say"})
    assert other["counts"] == {"UNKNOWN ARCHIVED": 3, "UNKNOWN SKIPPED": 7}
    assert set(pipeline.objects("archive/")) - before > again


def test_a_stopped_replay_that_is_started_again_does_the_rest_only(pipeline: Pipeline, triage: Triage) -> None:
    with triage.denied("ClassifyRole", "dynamodb:GetItem", "*"):
        event_ids = [triage.bury(json.dumps(genesys_event() | {"detail-type": topic("stopped")})) for _ in range(23)]
        stories = triage.all_ended(event_ids)
    first = output(stories[event_ids[0]][0])["archive"]["key"]
    asked: dict[str, object] = {"prefix": f"{first.rpartition('/')[0]}/stopped-", "reason": "stopped"}
    assert len(pipeline.objects(str(asked["prefix"]))) == len(event_ids)
    workflows = pipeline.client("stepfunctions")
    with triage.paused():
        arn = workflows.start_execution(
            stateMachineArn=pipeline.outputs["ReplayStateMachineArn"], input=json.dumps(asked)
        )["executionArn"]
        pipeline.eventually(lambda: len(triage.messages()) == REPLAYED_AT_ONCE, "the first letters are redriven")
        workflows.stop_execution(executionArn=arn)
    again = pipeline.replay(asked)
    assert again["letters"] == len(event_ids)
    counts = again["counts"]
    assert isinstance(counts, dict)
    assert set(counts) == {"UNKNOWN RECOVERED", "UNKNOWN SKIPPED"}
    assert counts["UNKNOWN SKIPPED"] >= REPLAYED_AT_ONCE
    triage.all_ended(event_ids)
    pipeline.stored(event_ids)
    replays = [one for ones in triage.stories(event_ids).values() for one in ones if "replayOf" in one.input]
    assert len(replays) == len(event_ids)
    assert {output(one)["outcome"] for one in replays} == {"RECOVERED"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "prefix has to name archived letters"),
        ({"prefix": "events/"}, "prefix has to name archived letters"),
        ({"prefix": ""}, "prefix has to name archived letters"),
        ({"prefix": 7}, "prefix has to name archived letters"),
        ({"prefix": "archive/", "dryrun": True}, "unknown fields: dryrun"),
        ({"prefix": "archive/", "dryRun": "yes"}, "dryRun has to be true or false"),
    ],
)
def test_a_replay_that_is_asked_for_wrongly_fails_in_words_before_it_does_anything(
    pipeline: Pipeline, asked: dict[str, Any], told: str
) -> None:
    workflows, machine = pipeline.client("stepfunctions"), pipeline.outputs["ReplayStateMachineArn"]
    before = pipeline.objects("replays/")
    arn = workflows.start_execution(stateMachineArn=machine, input=json.dumps(asked))["executionArn"]

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = workflows.describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    execution = pipeline.eventually(ended, "the replay has ended")
    assert execution
    assert (execution["status"], execution["error"]) == ("FAILED", "InvalidInput")
    assert told in execution["cause"]
    history = workflows.get_execution_history(executionArn=arn)["events"]
    assert [one["stateEnteredEventDetails"]["name"] for one in history if "stateEnteredEventDetails" in one] == ["Plan"]
    assert pipeline.objects("replays/") == before


# -- the same bytes ------------------------------------------------------------------------------------------------

TEXT = 'Zoë \U0001f4de 汉字 \u0085\u2028\ue000\ufffd\x7f \\ " / \\u0000'


def typed(name: str) -> dict[str, dict[str, Any]]:
    """Attributes of every type that SQS knows."""
    return {
        f"{name}.text": {"DataType": "String", "StringValue": TEXT + "\t\r\n"},
        f"{name}.own": {"DataType": "String.genesys", "StringValue": "x"},
        f"{name}.number": {"DataType": "Number", "StringValue": "-12345678901234567890.0123456789"},
        f"{name}.float": {"DataType": "Number.float", "StringValue": "1e125"},
        f"{name}.bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
        f"{name}.gzip": {"DataType": "Binary.gzip", "BinaryValue": b"\x00"},
    }


def padded(event: dict[str, Any], attributes: dict[str, Any], size: int) -> str:
    """An event that is this many bytes long with its attributes."""
    event["detail"]["eventBody"]["note"] = ""
    missing = size - message_bytes(json.dumps(event, ensure_ascii=False), attributes)
    event["detail"]["eventBody"]["note"] = "é" * (missing // 2) + "x" * (missing % 2)
    return json.dumps(event, ensure_ascii=False)


def received(pipeline: Pipeline, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """Take these letters' messages out of the buffer."""
    sqs, url = pipeline.client("sqs"), pipeline.outputs["BufferQueueUrl"]
    found: dict[str, dict[str, Any]] = {}

    def all_came() -> bool:
        asked = {"QueueUrl": url, "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
        for message in sqs.receive_message(MaxNumberOfMessages=10, **asked).get("Messages", []):
            found[identify(message["Body"])[0]] = message
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return set(found) >= set(wanted)

    pipeline.eventually(all_came, "every message is in the buffer")
    return found


def seen_by_a_consumer(message: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
    attributes = {name: value for name, value in message.get("MessageAttributes", {}).items() if name != "Triage"}
    return message["Body"], attributes, message["Attributes"].get("MessageGroupId")


def test_what_is_redriven_and_what_is_replayed_is_what_was_sent_byte_for_byte(
    pipeline: Pipeline, triage: Triage
) -> None:
    triage.hurry()

    def event(**body: Any) -> dict[str, Any]:
        return genesys_event(**body) | {"detail-type": topic("round.trip")}

    ten = typed("a") | dict(list(typed("b").items())[:4])
    nine = dict(list(ten.items())[:9])
    sent: list[tuple[str, dict[str, Any], str | None]] = [
        (json.dumps(event(note=TEXT), ensure_ascii=False), {}, None),
        (json.dumps(event(note=TEXT)), {}, "a-group"),
        (
            " \r\n\t" + json.dumps(event(note="\t\0" + TEXT), indent=3).replace("\n", "\r\n") + "\n",
            typed("a"),
            "!\"#$%&'",
        ),
        (json.dumps(event()), nine, None),
        (json.dumps(event()), ten, "g" * 128),
        (padded(event(), {}, 300_000), {}, None),
        (padded(event(), {}, MAX_MESSAGE_BYTES), {}, None),
        (padded(event(), ten, MAX_MESSAGE_BYTES), ten, "a-group"),
    ]
    marked = [(json.dumps(event(note=TEXT), ensure_ascii=False), typed("c"), None)]
    letters: dict[str, tuple[str, dict[str, Any], str | None]] = {}
    with triage.paused():
        for body, attributes, group in [*sent, *marked]:
            rule = UNDELIVERED if (body, attributes, group) in marked else {}
            optional = {"MessageGroupId": group} if group else {}
            letters[triage.bury(body, attributes | rule, **optional)] = (body, attributes, group)
        redriven = received(pipeline, letters)
        assert {event_id: seen_by_a_consumer(message) for event_id, message in redriven.items()} == letters
        stamped = [
            event_id for event_id, message in redriven.items() if "Triage" in message.get("MessageAttributes", {})
        ]
        assert len(stamped) == len(letters) - 3
        stories = triage.all_ended(letters)
        assert ends(stories) == {"ARCHIVED": len(letters)}
        keys = [output(executions[0])["archive"]["key"] for executions in stories.values()]
        assert {key.split("/")[1] for key in keys} == {"category=UNCONFIRMED"}
        arn = pipeline.client("stepfunctions").start_execution(
            stateMachineArn=pipeline.outputs["ReplayStateMachineArn"],
            input=json.dumps({"prefix": f"{keys[0].rpartition('/')[0]}/round-trip-"}),
        )["executionArn"]
        replayed = received(pipeline, letters)
        assert {event_id: seen_by_a_consumer(message) for event_id, message in replayed.items()} == letters
        assert not RULE_ATTRIBUTES & {name for one in replayed.values() for name in one.get("MessageAttributes", {})}
        workflows = pipeline.client("stepfunctions")
        pipeline.eventually(
            lambda: workflows.describe_execution(executionArn=arn)["status"] == "SUCCEEDED", "the replay has ended"
        )


def test_what_is_archived_without_a_retry_is_what_was_sent_byte_for_byte(pipeline: Pipeline, triage: Triage) -> None:
    salt = uuid.uuid4().hex
    ten = typed("a") | dict(list(typed("b").items())[:4])
    sent = {
        "x": {},
        "\t": {},
        "\U0010ffff": {},
        f"{salt}\r\n\r\x7f\u0085\ud7ff\ue000\ufffd": ten,
        "é" * ((MAX_MESSAGE_BYTES - message_bytes("", ten)) // 2): ten,
        salt * (MAX_MESSAGE_BYTES // len(salt)): {},
    }
    letters = {triage.bury(body, attributes): (body, attributes) for body, attributes in sent.items()}
    stories = triage.all_ended(letters)
    for event_id, (body, attributes) in letters.items():
        document = pipeline.document(output(stories[event_id][0])["archive"]["key"])
        assert document["message"]["body"] == body
        kept = document["message"]["messageAttributes"]
        assert {name: (value["dataType"], plain(value)) for name, value in kept.items()} == {
            name: (value["DataType"], value.get("BinaryValue") or value["StringValue"].encode())
            for name, value in attributes.items()
        }


def plain(value: dict[str, str]) -> bytes:
    return base64.b64decode(value["binaryValue"]) if "binaryValue" in value else value["stringValue"].encode()
