"""Payloads are personal data: they are where events are kept, and nowhere that tells of events."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from local.genesys import user
from tests.e2e.consumer import Consumer
from tests.e2e.on_call import OnCall
from tests.e2e.pipeline import genesys_event, with_user
from tests.e2e.processor import Processor

if TYPE_CHECKING:
    from tests.e2e.pipeline import Pipeline

#: What an event may hold of a person, in fields that the product reads and in others.
PERSON = {
    "ani": "tel:+15550100042",
    "note": "Zoë says the card number is 4111-2222-3333",
    "mail": "zoe.mark@example.com",
    "participants": [{"name": "Mark Personal", "address": "sip:mark.personal@example.com"}],
}
MARKS = ["+15550100042", "Zoë", "Zo\\u00eb", "4111-2222", "zoe.mark", "Mark Personal", "mark.personal"]


def test_a_person_is_in_no_log_no_history_no_metric_and_no_notification_whatever_became_of_the_event(
    pipeline: Pipeline,
) -> None:
    on_call, triage_events, processor = OnCall(pipeline), Consumer(pipeline, "holdfast.triage"), Processor(pipeline)
    try:
        letters, known = drive_every_path(pipeline, processor)
        for letter in letters:
            pipeline.eventually(lambda one=letter: triage_events.of(one, "eventId"), "its end is announced")
        pipeline.eventually(on_call.hears, "an alarm rings")
        written = {
            "logs": every_log(pipeline),
            "histories": every_history(pipeline),
            "metrics": every_metric(pipeline),
            "notifications": text_of([on_call.heard, triage_events.seen]),
        }
    finally:
        processor.restore()
        triage_events.leave()
        on_call.hangs_up()
    kept = text_of(pipeline.event(letters[0]))
    assert all(mark in kept for mark in (PERSON["ani"], PERSON["note"], known["email"])), "the table has it all"
    assert all(letters[0] in written[place] for place in ("logs", "histories", "notifications"))
    marks = [*MARKS, known["id"], known["name"], known["email"]]
    assert {
        place: found for place, text in written.items() if (found := [mark for mark in marks if mark in text])
    } == {}


def drive_every_path(pipeline: Pipeline, processor: Processor) -> tuple[list[str], dict[str, Any]]:
    """Let events about one person be stored, fail, recover, be refused, be archived, adopted, replayed, and not published.

    Returns:
        The letters whose end triage announces, and the user whose name and e-mail were added.
    """
    pipeline.genesys.set_faults({"status": 503})
    event = with_user(**PERSON)
    (failing,) = pipeline.put(event)
    unreadable, invalid = pipeline.enqueue(
        f"no JSON at all {uuid.uuid4()} {json.dumps(PERSON)}", json.dumps({"id": str(uuid.uuid4()), "detail": PERSON})
    )
    refused = genesys_event(**PERSON) | {"source": "genesys.cloud/" + json.dumps(PERSON) + secrets.token_hex(220_000)}
    (rejected,) = pipeline.enqueue(refused)
    undelivered = pipeline.bury(genesys_event(**PERSON), ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE=PERSON["note"])
    pipeline.eventually(lambda: pipeline.executions(failing), "the outage makes a dead letter")
    (aborted,) = pipeline.enqueue(with_user(**PERSON))
    execution = pipeline.eventually(lambda: pipeline.executions(aborted), "and another one")[0]
    pipeline.client("stepfunctions").stop_execution(executionArn=execution.arn)
    pipeline.genesys.set_faults(None)
    pipeline.sweep()
    archived = pipeline.archived(unreadable)
    letters = [failing, invalid, rejected, undelivered]
    for letter in letters:
        pipeline.settled(letter)
    pipeline.stored([aborted])
    prefix = f"archive/category=MALFORMED/dt={archived['archivedAt'][:10]}/"
    pipeline.replay({"prefix": prefix, "reason": f"test {uuid.uuid4()}"})

    processor.deny("FanOutRole", "events:PutEvents", "*")
    pipeline.stored(pipeline.enqueue(genesys_event(**PERSON)))
    pipeline.eventually(lambda: "not published" in every_log(pipeline), "the bus refuses")
    user_id = event["detail"]["eventBody"]["userId"]
    return [*letters, unreadable], {"id": user_id, **user(user_id)}


def every_log(pipeline: Pipeline) -> str:
    """All that the functions have logged."""
    logs = pipeline.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    pages = [logs.get_paginator("filter_log_events").paginate(logGroupName=group) for group in groups]
    return "".join(event["message"] for found in pages for page in found for event in page["events"])


def every_history(pipeline: Pipeline) -> str:
    """All executions of both machines: input, output, history."""
    workflows = pipeline.client("stepfunctions")
    told: list[Any] = []
    for output in ("TriageStateMachineArn", "ReplayStateMachineArn"):
        for page in workflows.get_paginator("list_executions").paginate(stateMachineArn=pipeline.outputs[output]):
            for execution in page["executions"]:
                arn = execution["executionArn"]
                told.append(workflows.describe_execution(executionArn=arn))
                told += workflows.get_paginator("get_execution_history").paginate(executionArn=arn)
    return text_of(told)


def every_metric(pipeline: Pipeline) -> str:
    """The names and dimensions of all metrics."""
    pages = pipeline.client("cloudwatch").get_paginator("list_metrics").paginate()
    return text_of([page["Metrics"] for page in pages])


def text_of(found: Any) -> str:
    return json.dumps(found, default=str, ensure_ascii=False)
