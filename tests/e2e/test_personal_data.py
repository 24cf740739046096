"""Payloads are personal data: they are only where events are kept, in no log, history, metric or notification."""

from __future__ import annotations

import json
import secrets
import uuid
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from local.eventually import eventually
from local.genesys import user
from ops.deployed import history
from tests.e2e.pipeline import UNDELIVERED, genesys_event, with_user
from tests.e2e.subscribers import AlarmSubscriber, Consumer

if TYPE_CHECKING:
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline

#: Personal data in fields that the product reads and in others.
PERSON: dict[str, Any] = {
    "ani": "tel:+15550100042",
    "note": "Zoë says the card number is 4111-2222-3333",
    "mail": "zoe.mark@example.com",
    "participants": [{"name": "Mark Personal", "address": "sip:mark.personal@example.com"}],
}
MARKS = ["+15550100042", "Zoë", "Zo\\u00eb", "4111-2222", "zoe.mark", "Mark Personal", "mark.personal"]


def test_personal_data_is_in_no_log_history_metric_or_notification(pipeline: Pipeline, controls: Controls) -> None:
    with closing(AlarmSubscriber(pipeline)) as alarms, closing(Consumer(pipeline, "holdfast.triage")) as triage_events:
        event_ids, known = drive_every_path(pipeline, controls)
        for event_id in event_ids:
            eventually(partial(triage_events.of, event_id), "the outcome is published")
        eventually(alarms.received, "an alarm is notified")
        written = {
            "logs": every_log(pipeline),
            "histories": every_history(pipeline),
            "metrics": every_metric(pipeline),
            "notifications": as_text([alarms.notices, triage_events.seen]),
        }
    kept = as_text(pipeline.event(event_ids[0]))
    assert all(mark in kept for mark in (PERSON["ani"], PERSON["note"], known["email"])), "the table has it all"
    assert all(event_ids[0] in written[place] for place in ("logs", "histories", "notifications"))
    marks = [*MARKS, known["id"], known["name"], known["email"]]
    assert [(place, mark) for place, text in written.items() for mark in marks if mark in text] == []


def drive_every_path(pipeline: Pipeline, controls: Controls) -> tuple[list[str], dict[str, Any]]:
    """Send events about one person down every path.

    Returns:
        The events whose outcome triage publishes, and the user with whom one of them was enriched.
    """
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    event = with_user(**PERSON)
    (failing,) = pipeline.put(event)
    aborted, malformed, invalid = pipeline.enqueue(
        with_user(**PERSON),
        f"no JSON at all {uuid.uuid4()} {json.dumps(PERSON)}",
        {"id": str(uuid.uuid4()), "detail": PERSON},
    )
    too_large = genesys_event(**PERSON) | {"source": "genesys.cloud/" + json.dumps(PERSON) + secrets.token_hex(220_000)}
    (rejected,) = pipeline.enqueue(too_large)
    undelivered = pipeline.bury(
        genesys_event(**PERSON),
        UNDELIVERED | {"ERROR_MESSAGE": {"DataType": "String", "StringValue": PERSON["note"]}},
    )
    pipeline.dead(failing)
    pipeline.client("stepfunctions").stop_execution(executionArn=pipeline.dead(aborted).arn)
    pipeline.genesys.set_faults(None)
    pipeline.sweep()
    archived = pipeline.archived(malformed)
    event_ids = [failing, invalid, rejected, undelivered]
    for event_id in event_ids:
        pipeline.settled(event_id)
    pipeline.stored([aborted])
    prefix = f"archive/category=MALFORMED/dt={archived['archivedAt'][:10]}/"
    pipeline.replay(prefix=prefix, reason=f"test {uuid.uuid4()}")

    controls.deny("FanOutRole", "events:PutEvents", "*")
    pipeline.stored(pipeline.enqueue(genesys_event(**PERSON)))
    eventually(lambda: "not published" in every_log(pipeline), "a publication has failed")
    user_id = event["detail"]["eventBody"]["userId"]
    return [*event_ids, malformed], {"id": user_id, **user(user_id)}


def every_log(pipeline: Pipeline) -> str:
    """Everything that the functions have logged."""
    logs = pipeline.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    pages = [logs.get_paginator("filter_log_events").paginate(logGroupName=group) for group in groups]
    return "".join(event["message"] for found in pages for page in found for event in page["events"])


def every_history(pipeline: Pipeline) -> str:
    """Input, output and history of all executions of both state machines."""
    workflows = pipeline.client("stepfunctions")
    found: list[Any] = []
    for output in ("TriageStateMachineArn", "ReplayStateMachineArn"):
        for page in workflows.get_paginator("list_executions").paginate(stateMachineArn=pipeline.outputs[output]):
            for arn in (execution["executionArn"] for execution in page["executions"]):
                found += [workflows.describe_execution(executionArn=arn), *history(pipeline.stack, arn)]
    return as_text(found)


def every_metric(pipeline: Pipeline) -> str:
    """The names and dimensions of all metrics."""
    pages = pipeline.client("cloudwatch").get_paginator("list_metrics").paginate()
    return as_text([page["Metrics"] for page in pages])


def as_text(found: Any) -> str:
    return json.dumps(found, default=str, ensure_ascii=False)
