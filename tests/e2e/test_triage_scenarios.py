"""The promises of triage and replay under faults."""

from __future__ import annotations

import json
import secrets
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from holdfast.domain.envelope import format_time
from holdfast.domain.intake import Carried, execution_input
from holdfast.domain.letters import MAX_MESSAGE_BYTES, RULE_ATTRIBUTES, DeadLetter, Message, message_bytes
from local.eventually import eventually
from tests.e2e.letters import archived_as_unknown, with_topic
from tests.e2e.messages import (
    TEN_ATTRIBUTES,
    TEXT,
    archived_attributes,
    attributes_of_every_type,
    padded,
    sent_attributes,
)
from tests.e2e.pipeline import PARAMETERS, SECONDS, UNDELIVERED, event_id_of, genesys_event, with_user

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Execution, Pipeline
    from tests.e2e.subscribers import Consumer

    #: Body, attributes and message group.
    Sent = tuple[str, dict[str, Any], str | None]

#: The MaxConcurrency of the replay's Map.
REPLAY_CONCURRENCY = 20
#: The MaximumConcurrency of the intake's mapping.
INTAKE_CONCURRENCY = 2
#: The template's default.
MAX_AGE_HOURS = 168


def outcomes(ended: dict[str, list[Execution]]) -> Counter[str]:
    """How often each outcome occurs; every event has exactly one execution."""
    assert {len(found) for found in ended.values()} == {1}
    return Counter(found[0].result["outcome"] for found in ended.values())


def rejected_event() -> dict[str, Any]:
    """A valid event that DynamoDB always rejects: its attributes beside the payload are too large."""
    return genesys_event() | {"source": "genesys.cloud/" + secrets.token_hex(220_000)}


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_an_item_that_dynamodb_rejects_is_archived_without_a_retry(pipeline: Pipeline, controls: Controls) -> None:
    event = rejected_event()
    with controls.paused():
        valid_id, event_id = pipeline.enqueue(genesys_event(), event)
    document = pipeline.archived(event_id)
    (execution,) = pipeline.executions(event_id)
    assert execution.path == ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]
    assert document["verdict"]["category"] == "REJECTED"
    assert execution.result["redrives"] == 0
    assert {attempt["errorType"] for attempt in document["attempts"]} == {"Rejected"}
    assert document["message"]["body"] == json.dumps(event)
    assert pipeline.item(valid_id)
    assert not pipeline.item(event_id)


def test_a_different_error_after_a_redrive_gives_a_different_verdict(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_receives(1)
    controls.scale_waits()
    controls.configure()  # a new execution environment has no token
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.enqueue(with_user())
    pipeline.dead(event_id)
    pipeline.genesys.set_faults({"rejectCredentials": True})

    def reclassified() -> bool:
        (execution,) = pipeline.executions(event_id)
        return "MISCONFIGURED" in [verdict["category"] for verdict in execution.verdicts]

    eventually(reclassified, "the error is a different one")
    pipeline.genesys.set_faults(None)
    execution = pipeline.settled(event_id)
    categories = [verdict["category"] for verdict in execution.verdicts]
    assert categories[0] == "UNAVAILABLE"
    assert categories[-2:] == ["MISCONFIGURED", "ALREADY_STORED"]
    assert execution.result["redrives"] == execution.path.count("Redrive") == len(categories) - 1
    assert len(execution.delays) == len(categories) - 1
    assert len(pipeline.executions(event_id)) == 1
    assert pipeline.item(event_id)


def test_a_redrive_without_an_outcome_is_unconfirmed_and_a_late_success_does_no_harm(
    pipeline: Pipeline, controls: Controls, consumer: Consumer
) -> None:
    controls.scale_waits()
    with controls.paused():
        event_id = pipeline.bury(genesys_event(), UNDELIVERED)
        redriven = eventually(controls.take_from_buffer, "the message is redriven", SECONDS)
    execution = pipeline.settled(event_id)
    assert execution.result["category"] == "UNCONFIRMED"
    archive = execution.result["archive"]["key"]
    assert pipeline.document(archive)["eventId"] == event_id
    assert not pipeline.item(event_id)
    pipeline.enqueue(redriven["Body"], MessageAttributes=redriven["MessageAttributes"])
    pipeline.stored([event_id])
    eventually(controls.idle, "the late message is processed")
    eventually(lambda: consumer.of(event_id), "it is published")
    stored = pipeline.item(event_id)
    assert pipeline.replay(prefix=archive, reason="is it stored?")["counts"] == {"UNCONFIRMED RECOVERED": 1}
    (again,) = [one for one in pipeline.executions(event_id) if one.arn != execution.arn]
    assert again.path == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert pipeline.item(event_id) == stored
    consumer.assert_published_once(event_id)


def test_a_pause_during_a_redrive_archives_nothing(pipeline: Pipeline, controls: Controls) -> None:
    controls.scale_waits()
    with controls.paused():
        event_id = pipeline.bury(genesys_event(), UNDELIVERED)
        pipeline.dead(event_id)
        eventually(
            lambda: "AwaitProcessing" in pipeline.executions(event_id)[0].path, "triage waits for processing", SECONDS
        )
    settled = pipeline.settled(event_id)
    assert (settled.result["outcome"], settled.result["redrives"]) == ("RECOVERED", 1)
    assert "processing-paused" in {verdict["rule"] for verdict in settled.verdicts}
    assert settled.path.count("Redrive") == 1


def test_a_letter_in_triage_for_max_age_is_archived_as_expired_without_a_retry(pipeline: Pipeline) -> None:
    letter = DeadLetter.of(Message(str(uuid.uuid4()), json.dumps(genesys_event())))
    bucket = pipeline.outputs["ArchiveBucketName"]
    pipeline.client("s3").put_object(Bucket=bucket, Key=letter.key, Body=letter.as_json().encode())
    # A later execution of a letter whose first one started long ago.
    since = format_time(datetime.now(UTC) - timedelta(hours=MAX_AGE_HOURS + 1))
    pipeline.start("Triage", execution_input(letter, Carried((letter.key,), in_triage_since=since)))
    execution = pipeline.settled(letter.event_id)
    assert (execution.result["outcome"], execution.result["category"]) == ("ARCHIVED", "EXPIRED")
    assert execution.delays == []
    assert pipeline.document(execution.result["archive"]["key"])["message"]["body"] == letter.message.body
    assert not pipeline.snapshots(letter.event_id)


def test_an_event_that_eventbridge_cannot_deliver_is_redriven(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_queue(Policy="")
    (event_id,) = pipeline.put(genesys_event())
    execution = pipeline.settled(event_id)
    assert [verdict["category"] for verdict in execution.verdicts] == ["UNDELIVERED", "ALREADY_STORED"]
    assert execution.verdicts[0]["evidence"]["errorCode"] == "NO_PERMISSIONS"
    assert execution.result["outcome"] == "RECOVERED"
    pipeline.stored([event_id])


# -- triage itself cannot work -------------------------------------------------------------------------------------


def test_dead_letters_stay_in_their_queue_until_executions_can_start(pipeline: Pipeline, controls: Controls) -> None:
    controls.set_queue("DeadLetterQueueUrl", VisibilityTimeout="3")
    before = [pipeline.bury(genesys_event(), UNDELIVERED) for _ in range(4)]
    pipeline.all_settled(before)
    with controls.denied("DeadLetterIntakeRole", "states:StartExecution", "*"):
        waiting = [pipeline.bury(genesys_event(), UNDELIVERED) for _ in range(8)]
        eventually(lambda: all(map(pipeline.snapshots, waiting)), "the intake has received every dead letter")
        assert len(controls.messages("DeadLetterQueueUrl")) == 8
        assert not any(pipeline.executions_of(waiting).values())
    assert outcomes(pipeline.all_settled([*before, *waiting])) == {"RECOVERED": 12}
    eventually(controls.idle, "the dead-letter queue is empty")
    assert not any(map(pipeline.snapshots, waiting))
    assert all(map(pipeline.item, [*before, *waiting]))


def test_a_dead_letter_waits_in_archive_until_the_permission_is_back(pipeline: Pipeline, controls: Controls) -> None:
    body = f"not an event {uuid.uuid4()}"
    bucket = f"arn:aws:s3:::{pipeline.outputs['ArchiveBucketName']}"
    with controls.denied("ArchiveRole", "s3:PutObject", f"{bucket}/archive/*"):
        (event_id,) = pipeline.enqueue(body)
        eventually(
            lambda: any(one.path[-1:] == ["Archive"] for one in pipeline.executions(event_id)), "Archive is retried"
        )
        (snapshot,) = pipeline.snapshots(event_id)
        assert pipeline.document(snapshot)["message"]["body"] == body
    document = pipeline.document(pipeline.settled(event_id).result["archive"]["key"])
    assert (document["verdict"]["category"], document["message"]["body"]) == ("MALFORMED", body)
    assert not pipeline.snapshots(event_id)


# -- many ----------------------------------------------------------------------------------------------------------


def test_two_dead_letters_of_one_event_at_once_are_stored_and_published_once(
    pipeline: Pipeline, controls: Controls, consumer: Consumer
) -> None:
    body = json.dumps(with_user())
    with controls.paused():
        event_id, _ = pipeline.bury(body, UNDELIVERED), pipeline.bury(body, UNDELIVERED)
        eventually(lambda: len(controls.messages()) == 2, "both are redriven")
    both = pipeline.all_settled([event_id])[event_id]
    assert [one.result["outcome"] for one in both] == ["RECOVERED"] * 2
    eventually(controls.idle, "both copies are processed")
    consumer.assert_published_once(event_id)
    assert len(pipeline.executions(event_id)) == 2
    assert not pipeline.snapshots(event_id)


def test_a_storm_of_dead_letters_does_not_hold_up_new_events(
    pipeline: Pipeline, controls: Controls, letters: int
) -> None:
    controls.set_receives(1)
    controls.scale_waits(0.05)
    engine = pipeline.local.engine
    engine.reset_concurrency()
    pipeline.genesys.set_faults({"status": 503})
    # On a slow machine the outage lasts longer than three redrives.
    with controls.changed(pipeline.stack.resources["ClassifyFunction"], MAX_RETRIES="10"):
        event_ids = set(pipeline.enqueue(*(with_user() for _ in range(letters))))
        during = pipeline.enqueue(*(genesys_event() for _ in range(20)))
        pipeline.stored(during)
        eventually(lambda: pipeline.attempted() >= event_ids, "all have failed", 240, every=1)
        pipeline.genesys.set_faults(None)
        after = pipeline.enqueue(*(genesys_event() for _ in range(20)))
        # When the outage ends, letters can be in their fourth wait, which takes up to 384 s here.
        eventually(controls.idle, "all executions have ended", 700, every=1)
    ended = pipeline.executions_of(event_ids)
    others = [found[0].verdicts for found in ended.values() if found[0].result["outcome"] != "RECOVERED"]
    assert outcomes(ended) == {"RECOVERED": letters}, others
    assert {found[0].verdicts[0]["category"] for found in ended.values()} == {"UNAVAILABLE"}
    pipeline.stored([*event_ids, *after])
    assert not any(pipeline.executions_of([*during, *after]).values())
    peak = engine.concurrency()["peak"]
    assert peak[pipeline.outputs["ProcessorFunctionName"]] <= int(PARAMETERS["MaxConcurrency"])
    assert peak[pipeline.stack.resources["DeadLetterIntakeFunction"]] <= INTAKE_CONCURRENCY


# -- replay --------------------------------------------------------------------------------------------------------


def test_the_report_of_a_partly_failed_replay_agrees_with_the_archive(pipeline: Pipeline, controls: Controls) -> None:
    events = [*(genesys_event() for _ in range(7)), *(rejected_event() for _ in range(3))]
    keys = archived_as_unknown(pipeline, controls, [with_topic(event, "failing.part") for event in events])
    good, bad = list(keys)[:7], list(keys)[7:]
    prefix = f"{keys[good[0]].rpartition('/')[0]}/failing-part-"
    before = set(pipeline.objects("archive/"))
    assert {key for key in before if key.startswith(prefix)} == set(keys.values())
    assert pipeline.replay(prefix=prefix, dryRun=True)["counts"] == {"UNKNOWN": 10}
    assert set(pipeline.objects("archive/")) == before

    done = pipeline.replay(prefix=prefix, reason="fixed for most")
    assert (done["letters"], done["counts"]) == (10, {"UNKNOWN ARCHIVED": 3, "UNKNOWN RECOVERED": 7})
    assert all(map(pipeline.item, good))
    assert not any(map(pipeline.item, bad))
    again = set(pipeline.objects("archive/")) - before
    documents = [pipeline.document(key) for key in again]
    assert sorted(document["eventId"] for document in documents) == sorted(bad)
    assert {document["verdict"]["category"] for document in documents} == {"REJECTED"}
    folder = str(done["report"]).rpartition("/")[0]
    results = [pipeline.document(key) for key in pipeline.objects(f"{folder}/letters/")]
    assert {result["archive"]["key"] for result in results if result["outcome"] == "ARCHIVED"} == again
    assert not any(map(pipeline.snapshots, keys))

    whole = pipeline.replay(prefix=prefix, reason="fixed for most")["counts"]
    assert whole == {"UNKNOWN ARCHIVED_BEFORE": 3, "UNKNOWN RECOVERED_BEFORE": 7}
    assert pipeline.replay(prefix=prefix, dryRun=True)["counts"] == {"SKIPPED": 7, "UNKNOWN": 3}
    other = pipeline.replay(prefix=prefix, reason="fixed for all")
    assert other["counts"] == {"UNKNOWN ARCHIVED": 3, "UNKNOWN SKIPPED": 7}
    assert set(pipeline.objects("archive/")) - before > again


def test_a_replay_without_letters_reports_zero(pipeline: Pipeline) -> None:
    report = pipeline.replay(prefix="archive/category=UNKNOWN/dt=1999-01-01/", reason="none")
    assert (report["letters"], report["counts"]) == (0, {})


def test_a_stopped_replay_that_is_started_again_does_only_the_rest(pipeline: Pipeline, controls: Controls) -> None:
    keys = archived_as_unknown(pipeline, controls, [with_topic(genesys_event(), "stopped") for _ in range(23)])
    asked = {"prefix": f"{next(iter(keys.values())).rpartition('/')[0]}/stopped-", "reason": "stopped"}
    assert len(pipeline.objects(asked["prefix"])) == len(keys)
    with controls.paused():
        replay = pipeline.start("Replay", asked)
        eventually(lambda: len(controls.messages()) == REPLAY_CONCURRENCY, "the first events are redriven")
        pipeline.client("stepfunctions").stop_execution(executionArn=replay)
    again = pipeline.replay(**asked)
    assert again["letters"] == len(keys)
    # The engine, unlike AWS, does not stop the triage executions, so some may still run.
    assert set(again["outcomes"]) <= {"RECOVERED", "RECOVERED_BEFORE", "SKIPPED"}
    assert again["letters"] - again["outcomes"].get("RECOVERED", 0) >= REPLAY_CONCURRENCY
    ended = pipeline.all_settled(keys)
    pipeline.stored(keys)
    replays = [one for found in ended.values() for one in found if "replayOf" in one.input]
    assert len(replays) == len(keys)
    assert {one.result["outcome"] for one in replays} == {"RECOVERED"}


def test_a_replay_with_an_invalid_input_fails_with_the_reason_and_changes_nothing(pipeline: Pipeline) -> None:
    before = pipeline.objects("replays/")
    execution = pipeline.end_of(pipeline.start("Replay", {"prefix": "archive/", "dryrun": True}))
    assert (execution["status"], execution["error"]) == ("FAILED", "InvalidInput")
    assert "unknown fields: dryrun" in execution["cause"]
    assert pipeline.objects("replays/") == before


# -- byte for byte -------------------------------------------------------------------------------------------------


def received(pipeline: Pipeline, event_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Receive and delete the messages of these events from the buffer."""
    sqs, url = pipeline.client("sqs"), pipeline.outputs["BufferQueueUrl"]
    found: dict[str, dict[str, Any]] = {}

    def complete() -> bool:
        asked = {"QueueUrl": url, "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
        for message in sqs.receive_message(MaxNumberOfMessages=10, **asked).get("Messages", []):
            found[event_id_of(message["Body"])] = message
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found.keys() >= set(event_ids)

    eventually(complete, "every message is in the buffer")
    return found


def as_sent(message: dict[str, Any]) -> Sent:
    attributes = {name: value for name, value in message.get("MessageAttributes", {}).items() if name != "Triage"}
    return message["Body"], attributes, message["Attributes"].get("MessageGroupId")


def test_redriven_and_replayed_messages_are_unchanged_byte_for_byte(pipeline: Pipeline, controls: Controls) -> None:
    controls.scale_waits()

    def event(**body: Any) -> dict[str, Any]:
        return with_topic(genesys_event(**body), "round.trip")

    unescaped = json.dumps(event(note=TEXT), ensure_ascii=False)
    indented = " \r\n\t" + json.dumps(event(note="\t\0" + TEXT), indent=3).replace("\n", "\r\n") + "\n"
    nine = dict(list(TEN_ATTRIBUTES.items())[:9])
    sent: list[Sent] = [
        (unescaped, {}, None),
        (json.dumps(event(note=TEXT)), {}, "a-group"),
        (indented, attributes_of_every_type("a"), "!\"#$%&'"),
        (json.dumps(event()), nine, None),
        (json.dumps(event()), TEN_ATTRIBUTES, "g" * 128),
        (padded(event(), {}, 300_000), {}, None),
        (padded(event(), {}, MAX_MESSAGE_BYTES), {}, None),
        (padded(event(), TEN_ATTRIBUTES, MAX_MESSAGE_BYTES), TEN_ATTRIBUTES, "a-group"),
    ]
    with controls.paused():
        letters: dict[str, Sent] = {}
        for body, attributes, group in sent:
            optional = {"MessageGroupId": group} if group else {}
            letters[pipeline.bury(body, attributes, **optional)] = (body, attributes, group)
        undelivered, attributes = json.dumps(event(note=TEXT), ensure_ascii=False), attributes_of_every_type("c")
        letters[pipeline.bury(undelivered, attributes | UNDELIVERED)] = (undelivered, attributes, None)
        redriven = received(pipeline, letters)
        assert {event_id: as_sent(message) for event_id, message in redriven.items()} == letters
        stamped = [one for one in redriven.values() if "Triage" in one.get("MessageAttributes", {})]
        assert len(stamped) == len(letters) - 3, "all but the three that have no room for one more attribute"
        pipeline.client("sqs").purge_queue(QueueUrl=pipeline.outputs["BufferQueueUrl"])
    ended = pipeline.all_settled(letters)
    assert outcomes(ended) == {"ARCHIVED": len(letters)}
    keys = [found[0].result["archive"]["key"] for found in ended.values()]
    assert {key.split("/")[1] for key in keys} == {"category=UNCONFIRMED"}
    with controls.paused():
        for folder in {key.rpartition("/")[0] for key in keys}:
            pipeline.start("Replay", {"prefix": f"{folder}/round-trip-"})
        replayed = received(pipeline, letters)
        assert {event_id: as_sent(message) for event_id, message in replayed.items()} == letters
        assert not RULE_ATTRIBUTES & {name for one in replayed.values() for name in one.get("MessageAttributes", {})}


def test_archived_messages_are_unchanged_byte_for_byte(pipeline: Pipeline) -> None:
    salt = uuid.uuid4().hex
    sent: dict[str, dict[str, Any]] = {
        f"\t{salt}": {},
        f"\U0010ffff{salt}": {},
        f"{salt}\r\n\r\x7f\u0085\ud7ff\ue000\ufffd": TEN_ATTRIBUTES,
        "é" * ((MAX_MESSAGE_BYTES - message_bytes("", TEN_ATTRIBUTES)) // 2): TEN_ATTRIBUTES,
        salt * (MAX_MESSAGE_BYTES // len(salt)): {},
    }
    for body, attributes in sent.items():
        (event_id,) = pipeline.enqueue(body, MessageAttributes=attributes)
        document = pipeline.archived(event_id)
        assert document["message"]["body"] == body
        assert archived_attributes(document) == sent_attributes(attributes)
