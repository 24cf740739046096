"""For everyone who is granted something: what they do with it, asked for directly and seen from outside.

A probe raises :class:`~tests.iam.world.Broken` at the first promise that does not hold. It needs no waiting for time to
pass, and a promise that is checked here is one that somebody would miss.
"""

from __future__ import annotations

import json
import random
import uuid
from typing import TYPE_CHECKING, Any

from holdfast.domain.identity import execution_name
from holdfast.domain.intake import Carried, execution_input
from tests.contract.project import EVENTS
from tests.e2e.pipeline import genesys_event, with_user
from tests.iam.world import Broken, accepted, dead_letter, eventually, letter_of, promise, stamped

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.domain.letters import DeadLetter
    from tests.iam.world import World

DAY = {"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"}
NOBODYS = "arn:aws:states:us-east-1:000000000000:execution:none:none"


def processor(world: World) -> None:
    """One batch with an event of every kind: new, large, redriven, unreadable, and one that may kill its worker."""
    _start_anew(world, "ProcessorFunction")
    world.drain("BufferQueue")
    new, large = dead_letter(json.dumps(with_user())), dead_letter(json.dumps(genesys_event(text=_incompressible())))
    redriven = stamped(dead_letter(json.dumps(genesys_event())), NOBODYS)
    unreadable, suspect = dead_letter(), dead_letter(json.dumps(genesys_event()))
    world.attempted(suspect)
    suspect["attributes"]["ApproximateReceiveCount"] = "2"
    for record in (new, unreadable):
        world.client("sqs").send_message(QueueUrl=world.name("BufferQueue"), MessageBody=record["body"])
    receipts = {message["Body"]: message["ReceiptHandle"] for message in world.received("BufferQueue")}
    records = [
        one | {"receiptHandle": receipts.get(one["body"], "none")}
        for one in (new, large, redriven, unreadable, suspect)
    ]

    answer = world.done("ProcessorFunction", {"Records": records}, "a batch is answered")

    failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    item = world.item(letter_of(new).event_id)
    promise(item and "userName" in json.dumps(item), "an event is stored with its user's name")
    promise(redriven["messageId"] not in failed, "a redriven event's execution is answered")
    promise(large["messageId"] not in failed, "an event too large for the table is stored")
    promise(failed == [unreadable["messageId"]], "what fails is what cannot be read")
    promise(world.attempts(letter_of(unreadable).event_id), "a failure is noted")
    promise(world.held("BufferQueue") == 1, "finished messages are deleted before a suspect is worked on")
    promise(world.received("BufferQueue"), "a message that no retry can help comes back at once")
    world.map_again("ProcessorFunction")
    world.logs("ProcessorFunction")


def fan_out(world: World) -> None:
    name, batch = "FanOutFunction", json.loads((EVENTS / "fan_out" / "stream-batch.json").read_text())
    published = world.done(name, batch, "new events are published")
    promise(not published["batchItemFailures"], "new events are published")
    given_up = world.put(f"aws/lambda/{uuid.uuid4()}", json.dumps({"payload": json.dumps(batch)}))
    world.done(name, {"republish": {"failure": given_up}}, "what the stream gave up is published again")
    world.store(str(uuid.uuid4()))
    again = world.done(name, {"republish": DAY}, "a range of the table is published again")
    promise(again["published"], "a range of the table is published again")
    _told_of_missing(world, name, {"republish": {"failure": "aws/lambda/none"}})
    world.map_again(name)
    world.logs(name)


def intake(world: World) -> None:
    name, settled = "DeadLetterIntakeFunction", _settled(world)
    aborted = dead_letter()
    _ended_unsettled(world, letter_of(aborted))

    def take_in(record: dict[str, Any], what: str) -> None:
        answer = world.done(name, {"Records": [record]}, what)
        promise(not answer["batchItemFailures"], what)

    take_in(settled, "a letter that was settled is taken in")
    promise(world.get(letter_of(settled).key) is None, "the evidence of a settled letter is released")
    world.evidence(letter_of(settled))
    take_in(settled, "a letter whose evidence stands is taken in")
    take_in(stamped(settled, NOBODYS), "a redriven letter is taken in whose execution does not wait")
    take_in(aborted, "a letter whose execution was aborted starts its next one")
    world.map_again(name)
    world.logs(name)


def classify(world: World) -> None:
    name, letter = "ClassifyFunction", letter_of(dead_letter(json.dumps(genesys_event())))
    for key in (world.evidence(letter), world.archived(letter, str(uuid.uuid4()))):
        verdict = world.done(name, _case(letter, key), f"a letter in {key.partition('/')[0]} is judged")
        promise(verdict["evidence"]["attemptLog"] == "read", "a letter's attempts are known")
    _told_of_missing(world, name, _case(letter, "dead-letters/none"))
    world.logs(name)


def redrive(world: World) -> None:
    name, letter = "RedriveFunction", letter_of(dead_letter(json.dumps(genesys_event())))
    more = {"execution": NOBODYS, "taskToken": "t"}
    for key in (world.evidence(letter), world.archived(letter, str(uuid.uuid4()))):
        world.done(name, _case(letter, key) | more, f"a letter in {key.partition('/')[0]} is sent back")
    _told_of_missing(world, name, _case(letter, "dead-letters/none") | more)
    world.drain("BufferQueue")
    world.logs(name)


def archive(world: World) -> None:
    name, record = "ArchiveFunction", dead_letter()
    letter = letter_of(record)
    world.attempted(record)
    verdict = json.loads((EVENTS / "archive" / "exhausted.json").read_text())["verdict"]
    for key in (world.evidence(letter), world.archived(letter, str(uuid.uuid4()))):
        more = {"verdict": verdict, "execution": f"arn:{uuid.uuid4()}", "archivedAt": "2026-11-24T00:00:00.000Z"}
        place = world.done(name, _case(letter, key) | more, f"a letter in {key.partition('/')[0]} is archived")
        promise(json.loads(world.get(place["key"]) or "{}")["attempts"], "the archive tells of the attempts")
    _told_of_missing(world, name, _case(letter, "dead-letters/none") | more)
    world.logs(name)


def settle(world: World) -> None:
    name, letter = "SettleFunction", letter_of(dead_letter())
    key, archived = world.evidence(letter), world.archived(letter, str(uuid.uuid4()))
    verdict = {"category": "ALREADY_STORED", "rule": "already-stored"}
    recovered = {"outcome": "RECOVERED", "verdict": verdict, "replayOf": {"key": archived}}
    told = _case(letter, archived, key) | recovered
    world.done(name, told, "the end of a letter is announced")
    promise(world.get(key) is None, "the evidence of a settled letter is released")
    tags = world.client("s3").get_object_tagging(**world.bucket, Key=archived)["TagSet"]
    promise(tags, "a replayed letter is marked as stored")
    world.logs(name)


def evidence_sweep(world: World) -> None:
    """Evidence of three letters: one is stored, one is archived, the execution of one was aborted."""
    for key in world.keys("dead-letters/"):
        world.client("s3").delete_object(**world.bucket, Key=key)
    stored, archived, aborted = (
        letter_of(dead_letter(json.dumps(genesys_event()))),
        letter_of(dead_letter()),
        letter_of(dead_letter()),
    )
    world.store(stored.event_id)
    world.archived(archived, execution_name(archived.detail_type, archived.event_id, archived.message.message_id))
    _ended_unsettled(world, aborted)
    for letter in (stored, archived, aborted):
        world.evidence(letter)
    report = world.done("EvidenceSweepFunction", {"olderThanHours": 0}, "evidence is looked at")
    counts = {name: report[name] for name in ("released", "adopted", "failed")}
    promise(counts == {"released": 2, "adopted": 1, "failed": 0}, f"two letters are released and one adopted: {counts}")
    world.logs("EvidenceSweepFunction")


def replay(world: World) -> None:
    name, letter = "ReplayFunction", letter_of(dead_letter())
    key = world.archived(letter, str(uuid.uuid4()))
    asked = {"prefix": key, "dryRun": True}
    times = {"run": str(uuid.uuid4()), "startedAt": "2099-01-01T00:00:00.000Z"}
    plan = world.done(name, {"step": "plan", "input": asked, **times}, "a dry run counts")
    promise(plan.pop("counts") == {"UNKNOWN": 1}, "a dry run counts")
    world.done(name, {"step": "prepare", "plan": plan, "key": key}, "a letter's replay is prepared")
    noted = {"step": "note", "plan": plan, "key": key, "result": {"outcome": "RECOVERED"}}
    world.done(name, noted, "what came of a letter is noted")
    report = world.done(name, {"step": "report", "plan": plan}, "a replay is reported on")
    promise(report["counts"] == {"UNKNOWN RECOVERED": 1}, "a replay is reported on")
    world.logs(name)


def triage_machine(world: World) -> None:
    """A replayed letter goes through every task: judged, sent back, judged again when it fails, archived, settled."""
    world.drain("BufferQueue")
    letter = letter_of(dead_letter(json.dumps(genesys_event())))
    key = world.archived(letter, str(uuid.uuid4()))
    execution = world.start("TriageStateMachine", str(uuid.uuid4()), _case(letter, key) | {"replayOf": {"key": key}})
    sent = eventually(lambda: world.received("BufferQueue") or world.ended(execution), "a letter is sent back")
    promise(isinstance(sent, list), "a letter is sent back")
    token = json.loads(sent[0]["MessageAttributes"]["Triage"]["StringValue"])["taskToken"]
    world.client("stepfunctions").send_task_failure(taskToken=token, error="DeadLetteredAgain", cause="{}")
    output = world.output(execution, "a letter that fails again is archived")
    promise(output["outcome"] == "ARCHIVED", "a letter that fails again is archived")


def replay_machine(world: World) -> None:
    key = world.archived(letter_of(dead_letter()), str(uuid.uuid4()))
    execution = world.start("ReplayStateMachine", str(uuid.uuid4()), {"prefix": key})
    output = world.output(execution, "a replay ends")
    promise(output["counts"] == {"UNKNOWN ARCHIVED": 1}, f"a replayed letter goes through triage: {output['counts']}")
    machine = {"stateMachineArn": world.name("ReplayStateMachine")}
    definition = world.client("stepfunctions").describe_state_machine(**machine)["definition"]
    with accepted("Step Functions takes a machine that waits for executions"):
        world.client("stepfunctions").update_state_machine(**machine, definition=definition)


def buffer_queue_policy(world: World) -> None:
    world.drain("BufferQueue")
    _publish(world)
    promise(world.received("BufferQueue"), "EventBridge delivers to the buffer")


def dead_letter_queue_policy(world: World) -> None:
    """Without the buffer, EventBridge has to be able to put the event aside."""
    world.drain("DeadLetterQueue")
    buffer = {"QueueUrl": world.name("BufferQueue")}
    policy = world.arn("BufferQueue", "Policy")
    world.client("sqs").set_queue_attributes(**buffer, Attributes={"Policy": ""})
    try:
        _publish(world)
    finally:
        world.client("sqs").set_queue_attributes(**buffer, Attributes={"Policy": policy})
    promise(world.received("DeadLetterQueue"), "EventBridge puts aside what it cannot deliver")


def alarm_topic_policy(world: World) -> None:
    topic, sqs = world.name("AlarmTopic"), world.client("sqs")
    url = sqs.create_queue(QueueName=f"told-{uuid.uuid4()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    sqs.set_queue_attributes(
        QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [told]})}
    )
    subscription = world.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    alarm = {"AlarmName": world.name("ProcessorErrorsAlarm"), "StateReason": "asked for"}
    for state in ("OK", "ALARM"):
        world.client("cloudwatch").set_alarm_state(**alarm, StateValue=state)
    told = sqs.receive_message(QueueUrl=url).get("Messages")
    world.client("sns").unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=url)
    promise(told, "an alarm tells somebody")


PROBES: dict[str, Callable[[World], None]] = {
    "ProcessorFunction": processor,
    "FanOutFunction": fan_out,
    "DeadLetterIntakeFunction": intake,
    "TriageStateMachine": triage_machine,
    "ClassifyFunction": classify,
    "RedriveFunction": redrive,
    "ArchiveFunction": archive,
    "SettleFunction": settle,
    "EvidenceSweepFunction": evidence_sweep,
    "ReplayFunction": replay,
    "ReplayStateMachine": replay_machine,
    "BufferQueuePolicy": buffer_queue_policy,
    "DeadLetterQueuePolicy": dead_letter_queue_policy,
    "AlarmTopicPolicy": alarm_topic_policy,
}


def broken(world: World, who: str) -> str | None:
    """The first promise of this probe that does not hold."""
    try:
        PROBES[who](world)
    except Broken as error:
        return str(error)
    return None


# -- helpers ---------------------------------------------------------------------------------------------------------


def _case(letter: DeadLetter, *evidence: str) -> dict[str, Any]:
    """The input of an execution, and of every function behind it."""
    return execution_input(letter, Carried(evidence))


def _told_of_missing(world: World, function: str, payload: dict[str, Any]) -> None:
    """Without the permission to list, S3 does not say that an object is missing, and the story would be a wrong one."""
    error = world.invoke(function, payload).get("errorType")
    promise(error == "SnapshotMissing", f"an object that is gone is told from one that may not be read ({error})")


def _start_anew(world: World, function: str) -> None:
    """Let the function forget what it has cached, such as the secret."""
    asked = {"FunctionName": world.name(function)}
    client = world.client("lambda")
    client.update_function_configuration(**asked, Timeout=client.get_function_configuration(**asked)["Timeout"])


def _settled(world: World) -> dict[str, Any]:
    """A dead letter whose execution has archived and settled it."""
    record = dead_letter()
    letter = letter_of(record)
    given = _case(letter, world.evidence(letter))
    name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id)
    world.output(world.start("TriageStateMachine", name, given), "a dead letter is settled")
    return record


def _ended_unsettled(world: World, letter: DeadLetter) -> None:
    """The letter's execution, aborted before it did anything."""
    name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id)
    execution = world.start("TriageStateMachine", name, {})
    world.client("stepfunctions").stop_execution(executionArn=execution)


def _incompressible() -> str:
    """More text than a table item holds, however it is packed."""
    return random.Random(0).randbytes(450_000).hex()  # noqa: S311 - no secret


def _publish(world: World) -> None:
    event = genesys_event()
    entry = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": json.dumps(event["detail"])}
    bus = world.stack.outputs["EventBusName"]
    world.client("events").put_events(Entries=[{"EventBusName": bus, **entry}])
