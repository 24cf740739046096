"""One probe for each grantee: it makes the grantee use every permission and checks the effects from outside.

A probe raises :class:`~tests.iam.world.BrokenPromise` at the first promise that does not hold.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from holdfast.domain.identity import event_digest, execution_name
from holdfast.domain.intake import Carried, execution_input
from local.eventually import NotReachedError, eventually
from tests.contract.project import EVENTS
from tests.e2e.pipeline import genesys_event, with_user
from tests.e2e.subscribers import AlarmSubscriber, Consumer
from tests.iam.world import BrokenPromise, accepted, dead_letter, letter_of, promise, stamped, without_room
from tests.integration.cloud import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.domain.letters import DeadLetter
    from tests.iam.world import World

DAY = {"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"}
NO_EXECUTION = "arn:aws:states:us-east-1:000000000000:execution:none:none"


def processor(world: World) -> None:
    """One batch with an event of every kind: new, large, redriven, malformed, and a suspect."""
    _start_anew(world, "ProcessorFunction")
    token = token_of_a_stopped_execution(world)
    world.drain("BufferQueue")
    new, large = dead_letter(with_user()), dead_letter(genesys_event(text=_incompressible()))
    redriven = stamped(dead_letter(genesys_event()), NO_EXECUTION, token)
    malformed, suspect = dead_letter(), dead_letter(genesys_event())
    world.put_attempt(suspect)
    suspect["attributes"]["ApproximateReceiveCount"] = "2"
    for record in (new, malformed):
        world.client("sqs").send_message(QueueUrl=world.name("BufferQueue"), MessageBody=record["body"])
    receipts = {message["Body"]: message["ReceiptHandle"] for message in world.received("BufferQueue")}
    records = [
        one | {"receiptHandle": receipts.get(one["body"], "none")} for one in (new, large, redriven, malformed, suspect)
    ]

    answer = world.done("ProcessorFunction", {"Records": records}, "a batch is answered")

    failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    item = world.item(letter_of(new).event_id)
    promise("userName" in str(item), "an event is stored with its user's name")
    promise(redriven["messageId"] not in failed, "the execution of a redriven event gets its outcome")
    promise(large["messageId"] not in failed, "an event too large for the table is stored")
    promise(failed == [malformed["messageId"]], "only the malformed event fails")
    promise(world.attempts(letter_of(malformed).event_id), "a failure has an attempt record")
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    left = sum(int(world.queue_attribute("BufferQueue", count)) for count in counts)
    promise(left == 1, "finished messages are deleted before a suspect is processed")
    promise(world.received("BufferQueue"), "a malformed message is visible again at once")
    world.map_again("ProcessorFunction")
    world.logs("ProcessorFunction")


def fan_out(world: World) -> None:
    name, batch = "FanOutFunction", json.loads((EVENTS / "fan_out" / "stream-batch.json").read_text())
    published = world.done(name, batch, "new events are published")
    promise(not published["batchItemFailures"], "new events are published")
    failed = world.write(f"aws/lambda/{uuid.uuid4()}", json.dumps({"payload": json.dumps(batch)}))
    world.done(name, {"republish": {"failure": failed}}, "failed stream records are published again")
    world.store(str(uuid.uuid4()))
    again = world.done(name, {"republish": DAY}, "a range of the table is published again")
    promise(again["published"], "a range of the table is published again")
    _finds_no_snapshot(world, name, {"republish": {"failure": "aws/lambda/none"}})
    world.map_again(name)
    world.logs(name)


def intake(world: World) -> None:
    name, settled = "DeadLetterIntakeFunction", _settled(world)
    aborted = dead_letter()
    _ended_unsettled(world, letter_of(aborted))

    def take_in(record: dict[str, Any], what: str) -> None:
        answer = world.done(name, {"Records": [record]}, what)
        promise(not answer["batchItemFailures"], what)

    take_in(settled, "a settled dead letter is taken in")
    promise(not world.objects(letter_of(settled).key), "the snapshot of a settled dead letter is deleted")
    world.snapshot(letter_of(settled))
    take_in(settled, "a dead letter with a snapshot is taken in")
    # The token is used only if the name of the execution in the stamp is one of this event.
    own = f"{NO_EXECUTION}-{event_digest(letter_of(settled).event_id)}"
    take_in(
        stamped(settled, own, token_of_a_stopped_execution(world)),
        "a redriven dead letter whose execution does not wait is taken in",
    )
    take_in(aborted, "a dead letter whose execution was aborted is taken in")
    unstamped = without_room(dead_letter())
    world.redrive_record(letter_of(unstamped), NO_EXECUTION)
    take_in(unstamped, "a redriven dead letter without room for a stamp is taken in")
    world.map_again(name)
    world.logs(name)


def classify(world: World) -> None:
    name, letter = "ClassifyFunction", letter_of(dead_letter(genesys_event()))
    for key in (world.snapshot(letter), world.archive(letter, str(uuid.uuid4()))):
        verdict = world.done(name, _case(letter, key), f"a dead letter in {key.partition('/')[0]} is classified")
        promise(verdict["evidence"]["attemptLog"] == "read", "the attempt log is read")
    _finds_no_snapshot(world, name, _case(letter, "dead-letters/none"))
    _classify_without_an_outcome(world)
    world.logs(name)


def _classify_without_an_outcome(world: World) -> None:
    """The outcome of a redrive did not come: while processing is paused, and while the buffer holds a message."""
    name, record = "ClassifyFunction", without_room(dead_letter(genesys_event()))
    letter, late = letter_of(record), letter_of(record | {"messageId": str(uuid.uuid4())})
    silent = {"redriveOutcome": "SILENT", "redrivenAt": "2099-01-01T00:00:00.000Z", "execution": NO_EXECUTION}
    case = _case(letter, world.snapshot(letter)) | silent
    verdict = world.done(name, case, "a redrive without an outcome is classified")
    promise(verdict["rule"] == "processing-paused", "triage waits while processing is paused")
    world.drain("BufferQueue")
    world.client("sqs").send_message(QueueUrl=world.name("BufferQueue"), MessageBody="{}", DelaySeconds=600)
    with world.processing():
        verdict = world.done(name, case, "a redrive without an outcome is classified while processing runs")
    promise(verdict["rule"] == "still-in-buffer", "triage waits while the message may be in the buffer")
    world.drain("BufferQueue")
    world.snapshot(late)
    world.redrive_record(late, NO_EXECUTION)
    verdict = world.done(name, case, "a late dead letter without room for a stamp is found")
    promise(verdict.get("lateSnapshot"), "a late dead letter without room for a stamp is found")


def redrive(world: World) -> None:
    name, letter = "RedriveFunction", letter_of(dead_letter(genesys_event()))
    more = {"execution": NO_EXECUTION, "taskToken": "t"}
    for key in (world.snapshot(letter), world.archive(letter, str(uuid.uuid4()))):
        world.done(name, _case(letter, key) | more, f"a dead letter in {key.partition('/')[0]} is redriven")
    _finds_no_snapshot(world, name, _case(letter, "dead-letters/none") | more)
    unstamped = letter_of(without_room(dead_letter(genesys_event())))
    world.done(
        name, _case(unstamped, world.snapshot(unstamped)) | more, "a message without room for a stamp is redriven"
    )
    world.drain("BufferQueue")
    world.logs(name)


def archive(world: World) -> None:
    name, record = "ArchiveFunction", dead_letter(genesys_event())
    letter = letter_of(record)
    world.put_attempt(record)
    verdict = json.loads((EVENTS / "archive" / "exhausted.json").read_text())["verdict"]
    for key in (world.snapshot(letter), world.archive(letter, str(uuid.uuid4()))):
        more = {"verdict": verdict, "execution": f"arn:{uuid.uuid4()}", "archivedAt": "2026-11-24T00:00:00.000Z"}
        place = world.done(name, _case(letter, key) | more, f"a dead letter in {key.partition('/')[0]} is archived")
        promise(world.document(place["key"])["attempts"], "the archive object has the attempt records")
    _finds_no_snapshot(world, name, _case(letter, "dead-letters/none") | more)
    world.store(letter.event_id)
    answer = world.invoke(name, _case(letter, world.snapshot(letter)) | more | {"execution": f"arn:{uuid.uuid4()}"})
    promise(answer.get("errorType") == "AlreadyStored", "a stored event is not archived")
    world.logs(name)


def settle(world: World) -> None:
    name, letter = "SettleFunction", letter_of(dead_letter())
    key, archived = world.snapshot(letter), world.archive(letter, str(uuid.uuid4()))
    verdict = {"category": "ALREADY_STORED", "rule": "already-stored"}
    recovered = {"outcome": "RECOVERED", "verdict": verdict, "replayOf": {"key": archived}}
    world.done(name, _case(letter, archived, key) | recovered, "the outcome is published")
    promise(not world.objects(key), "the snapshot of a settled dead letter is deleted")
    tags = world.client("s3").get_object_tagging(**world.bucket, Key=archived)["TagSet"]
    promise(tags, "a replayed archive object is tagged")
    world.logs(name)


def evidence_sweep(world: World) -> None:
    """Three snapshots: one event is stored, one is archived, and the execution of one was aborted."""
    for key in world.objects("dead-letters/"):
        world.client("s3").delete_object(**world.bucket, Key=key)
    records = dead_letter(genesys_event()), without_room(dead_letter()), dead_letter()
    stored, archived, aborted = map(letter_of, records)
    world.redrive_record(archived, NO_EXECUTION)
    world.store(stored.event_id)
    world.archive(archived, _name(archived))
    _ended_unsettled(world, aborted)
    for letter in (stored, archived, aborted):
        world.snapshot(letter)
    report = world.done("EvidenceSweepFunction", {"olderThanHours": 0}, "the snapshots are swept")
    counts = {name: report[name] for name in ("released", "adopted", "failed")}
    promise(
        counts == {"released": 2, "adopted": 1, "failed": 0}, f"two snapshots are deleted and one is adopted: {counts}"
    )
    world.logs("EvidenceSweepFunction")


def replay(world: World) -> None:
    name, letter = "ReplayFunction", letter_of(dead_letter())
    key = world.archive(letter, str(uuid.uuid4()))
    asked = {"prefix": key, "dryRun": True}
    times = {"run": str(uuid.uuid4()), "startedAt": "2099-01-01T00:00:00.000Z"}
    plan = world.done(name, {"step": "plan", "input": asked, **times}, "a dry run counts")
    promise(plan.pop("counts") == {"UNKNOWN": 1}, "a dry run counts")
    world.done(name, {"step": "prepare", "plan": plan, "key": key}, "the replay of an archive object is prepared")
    noted = {"step": "note", "plan": plan, "key": key, "result": {"outcome": "RECOVERED"}}
    world.done(name, noted, "the result of a replay is noted")
    report = world.done(name, {"step": "report", "plan": plan}, "the report of a replay is written")
    promise(report["counts"] == {"UNKNOWN RECOVERED": 1}, "the report of a replay is written")
    world.logs(name)


def triage_machine(world: World) -> None:
    """A replayed dead letter goes through every task: classified, redriven, classified again, archived, settled."""
    execution, token = _waiting_execution(world)
    workflows = world.client("stepfunctions")
    promise("BackOffUnlisted" not in states_of(world, execution), "a person can end the wait of a letter")
    case = json.loads(workflows.describe_execution(executionArn=execution)["input"])
    cause = json.dumps({"eventId": case["eventId"], "snapshot": case["snapshots"][-1]})
    workflows.send_task_failure(taskToken=token, error="DeadLetteredAgain", cause=cause)
    result = world.result(execution, "a dead letter that fails again is archived")
    promise(result["outcome"] == "ARCHIVED", "a dead letter that fails again is archived")


def replay_machine(world: World) -> None:
    key = world.archive(letter_of(dead_letter()), str(uuid.uuid4()))
    execution = world.start("Replay", {"prefix": key})
    counts = world.result(execution, "a replay ends")["counts"]
    promise(counts == {"UNKNOWN ARCHIVED": 1}, f"a replayed event goes through triage: {counts}")
    machine = {"stateMachineArn": world.name("ReplayStateMachine")}
    definition = world.client("stepfunctions").describe_state_machine(**machine)["definition"]
    with accepted("Step Functions accepts a state machine that waits for executions"):
        world.client("stepfunctions").update_state_machine(**machine, definition=definition)


def buffer_queue_policy(world: World) -> None:
    world.drain("BufferQueue")
    world.put(genesys_event())
    promise(world.received("BufferQueue"), "EventBridge delivers to the buffer")


def dead_letter_queue_policy(world: World) -> None:
    """Without access to the buffer, EventBridge sends the event to the dead-letter queue."""
    world.drain("DeadLetterQueue")
    buffer, policy = {"QueueUrl": world.name("BufferQueue")}, world.queue_attribute("BufferQueue", "Policy")
    world.client("sqs").set_queue_attributes(**buffer, Attributes={"Policy": ""})
    try:
        world.put(genesys_event())
    finally:
        world.client("sqs").set_queue_attributes(**buffer, Attributes={"Policy": policy})
    promise(world.received("DeadLetterQueue"), "EventBridge delivers to the dead-letter queue")


def operations_dead_letter_queue_policy(world: World) -> None:
    """A schedule of the stack is a rule on the default bus, and EventBridge sends with that rule's permission."""
    world.drain("OperationsDeadLetterQueue")
    events, source = world.client("events"), str(uuid.uuid4())
    name = f"{world.stack.name}-{source}"
    queue = {"Id": "queue", "Arn": world.queue_attribute("OperationsDeadLetterQueue", "QueueArn")}
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
    try:
        events.put_targets(Rule=name, Targets=[queue])
        events.put_events(Entries=[{"Source": source, "DetailType": "probe", "Detail": "{}"}])
    finally:
        events.remove_targets(Rule=name, Ids=["queue"])
        events.delete_rule(Name=name)
    promise(world.received("OperationsDeadLetterQueue"), "EventBridge delivers what a schedule could not")


def alarm_topic_policy(world: World) -> None:
    with closing(AlarmSubscriber(world)) as alarms:
        for state in ("OK", "ALARM"):
            world.client("cloudwatch").set_alarm_state(
                AlarmName=world.name("ProcessorErrorsAlarm"), StateReason="a probe", StateValue=state
            )
        promise(alarms.received(), "an alarm is notified")


def states_of(world: World, execution: str) -> set[str]:
    """The states that an execution has entered."""
    events = world.client("stepfunctions").get_execution_history(executionArn=execution)["events"]
    return {event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event}


def circuit_breaker(world: World) -> None:
    """One call of each kind; every mapping is disabled, so processing is paused."""
    name = "CircuitBreakerFunction"
    machine = world.outputs["CircuitBreakerStateMachineArn"]
    ended = world.result(world.start("CircuitBreaker", {"manual": False, "reason": "a probe"}), "an execution ends")
    promise(ended["outcome"] == "ALREADY_OPEN", "processing that is paused stays paused")
    state = {
        "execution": machine.replace(":stateMachine:", ":execution:") + ":a-probe",
        "startedAt": "2026-11-26T00:00:00.000Z",
        "openedAt": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
    }
    opened = world.done(name, state | {"action": "inspect", "manual": True}, "a pause by hand begins")
    promise(opened["step"] == "open", "a pause by hand takes over")
    pause = world.start("CircuitBreaker", {"manual": True, "reason": "a probe"})
    try:
        within(10, lambda: "Paused" in states_of(world, pause))
        later = world.done(name, state | {"action": "check"}, "a later pause is found")
        promise(later.get("outcome") == "SUPERSEDED", "the execution that opened the circuit last owns it")
    finally:
        world.client("stepfunctions").stop_execution(executionArn=pause)
    world.drain("BufferQueue")
    world.enqueue(genesys_event())
    probed = world.done(name, state | {"action": "check"}, "a probe runs")
    promise(probed["step"] == "close", "a healthy probe closes the circuit")
    processor = {"FunctionName": world.name("ProcessorFunction")}
    world.client("lambda").put_function_concurrency(**processor, ReservedConcurrentExecutions=0)
    try:
        world.enqueue(genesys_event())
        refused = world.done(name, state | {"action": "check"}, "a probe is refused")
        promise(refused["step"] == "wait", "a probe that is refused is not healthy")
    finally:
        world.client("lambda").delete_function_concurrency(**processor)
    promise(world.received("BufferQueue"), "a message that could not be handed over is visible again")
    world.drain("BufferQueue")
    world.logs(name)


def circuit_breaker_machine(world: World) -> None:
    world.drain("BufferQueue")
    with closing(Consumer(world, "holdfast.circuit-breaker")) as announced, world.processing():
        execution = world.start("CircuitBreaker", {"manual": False, "reason": "a probe"})
        try:
            result = world.result(execution, "the circuit opens and closes")
        finally:
            with suppress(ClientError):  # it has ended
                world.client("stepfunctions").stop_execution(executionArn=execution)
        promise(result["outcome"] == "CLOSED", "an empty buffer closes the circuit")
        kinds = [event["detail-type"] for event in announced.take()]
    promise(kinds == ["Circuit Breaker Opened", "Circuit Breaker Closed"], "both changes are published")


def circuit_breaker_rule(world: World) -> None:
    """The alarm starts an execution. Processing is paused, so that it ends at once."""
    machine = {"stateMachineArn": world.outputs["CircuitBreakerStateMachineArn"]}
    workflows, alarms = world.client("stepfunctions"), world.client("cloudwatch")
    before = len(workflows.list_executions(**machine)["executions"])
    for state in ("OK", "ALARM"):
        alarms.set_alarm_state(
            AlarmName=world.name("EverythingFailsEventsMetricAlarm"), StateReason="a probe", StateValue=state
        )
    started = within(10, lambda: len(workflows.list_executions(**machine)["executions"]) > before)
    promise(started, "the alarm starts the circuit breaker")


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
    "CircuitBreakerFunction": circuit_breaker,
    "CircuitBreakerStateMachine": circuit_breaker_machine,
    "CircuitBreakerRule": circuit_breaker_rule,
    "BufferQueuePolicy": buffer_queue_policy,
    "DeadLetterQueuePolicy": dead_letter_queue_policy,
    "OperationsDeadLetterQueuePolicy": operations_dead_letter_queue_policy,
    "AlarmTopicPolicy": alarm_topic_policy,
}


def broken(world: World, grantee: str) -> str | None:
    """The first promise of this probe that does not hold."""
    try:
        PROBES[grantee](world)
    except (BrokenPromise, NotReachedError) as error:
        return str(error)
    return None


# -- helpers ---------------------------------------------------------------------------------------------------------


def _case(letter: DeadLetter, *keys: str) -> dict[str, Any]:
    """The input of a triage execution and of its functions."""
    return execution_input(letter, Carried(keys))


def _waiting_execution(world: World) -> tuple[str, str]:
    """A triage execution that waits for the outcome of a redrive, and its task token."""
    world.drain("BufferQueue")
    letter = letter_of(dead_letter(genesys_event()))
    key = world.archive(letter, str(uuid.uuid4()))
    execution = world.start("Triage", _case(letter, key) | {"replayOf": {"key": key}})

    def sent() -> list[dict[str, Any]]:
        status = world.client("stepfunctions").describe_execution(executionArn=execution)["status"]
        promise(status == "RUNNING", f"a dead letter is redriven ({status})")
        return world.received("BufferQueue")

    (message,) = eventually(sent, "a dead letter is redriven")
    return execution, json.loads(message["MessageAttributes"]["Triage"]["StringValue"])["taskToken"]


def token_of_a_stopped_execution(world: World) -> str:
    """A task token for which no execution waits. The state machine that issued it still decides who may send it."""
    execution, token = _waiting_execution(world)
    world.client("stepfunctions").stop_execution(executionArn=execution)
    return token


def _finds_no_snapshot(world: World, function: str, payload: dict[str, Any]) -> None:
    """Without ``s3:ListBucket``, S3 answers AccessDenied for a missing object, which would give a wrong verdict."""
    error = world.invoke(function, payload).get("errorType")
    promise(error == "SnapshotMissing", f"a missing object is distinguished from a denied one ({error})")


def _start_anew(world: World, function: str) -> None:
    """Replace the execution environments, and with them the cached secret."""
    asked = {"FunctionName": world.name(function)}
    client = world.client("lambda")
    client.update_function_configuration(**asked, Timeout=client.get_function_configuration(**asked)["Timeout"])


def _settled(world: World) -> dict[str, Any]:
    """A dead letter whose execution has archived and settled it."""
    record = dead_letter()
    letter = letter_of(record)
    given = _case(letter, world.snapshot(letter))
    world.result(world.start("Triage", given, name=_name(letter)), "a dead letter is settled")
    return record


def _ended_unsettled(world: World, letter: DeadLetter) -> None:
    """Start and abort the execution of a dead letter."""
    execution = world.start("Triage", {}, name=_name(letter))
    world.client("stepfunctions").stop_execution(executionArn=execution)


def _name(letter: DeadLetter) -> str:
    return execution_name(letter.detail_type, letter.event_id, letter.message.message_id)


def _incompressible() -> str:
    """A text that is too large for an item even when it is packed."""
    return random.Random(0).randbytes(450_000).hex()  # noqa: S311 - no secret
