"""A dead letter without room for a stamp has one execution, and its retries end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holdfast.domain.letters import MAX_MESSAGE_BYTES
from tests.e2e.messages import TEN_ATTRIBUTES, archived_attributes, padded, sent_attributes
from tests.e2e.pipeline import PARAMETERS, with_user

if TYPE_CHECKING:
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline


def test_retries_of_a_message_without_room_for_a_stamp_end_at_max_retries(
    pipeline: Pipeline, controls: Controls
) -> None:
    redrives = int(PARAMETERS["MaxRetries"])
    controls.set_receives(1)
    controls.scale_waits()
    pipeline.genesys.set_faults({"status": 503})
    with_ten_attributes = json.dumps(with_user())
    (first,) = pipeline.enqueue(with_ten_attributes, MessageAttributes=TEN_ATTRIBUTES)
    as_large_as_sqs_allows = padded(with_user(), {}, MAX_MESSAGE_BYTES)
    (second,) = pipeline.enqueue(as_large_as_sqs_allows)
    archived = []
    for event_id, body, attributes in (
        (first, with_ten_attributes, TEN_ATTRIBUTES),
        (second, as_large_as_sqs_allows, {}),
    ):
        execution = pipeline.settled(event_id)
        assert pipeline.executions(event_id) == [execution]
        assert (execution.result["outcome"], execution.result["category"]) == ("ARCHIVED", "EXHAUSTED")
        assert execution.result["redrives"] == execution.path.count("Redrive") == redrives
        assert len(execution.result["messageIds"]) == redrives + 1
        archived += [key for key in pipeline.objects("archive/") if execution.name in key]
        document = pipeline.document(archived[-1])
        assert document["verdict"]["evidence"]["redriveOutcome"] == "DEAD_LETTERED_AGAIN"
        assert "bodyAltered" not in document["verdict"]["evidence"]
        assert document["message"]["body"] == body
        assert archived_attributes(document) == sent_attributes(attributes)
        assert not pipeline.snapshots(event_id)
    assert len(archived) == 2

    replayed = pipeline.replay(prefix=archived[0], reason="the outage goes on")
    assert replayed["counts"] == {"EXHAUSTED ARCHIVED": 1}
    (execution,) = [one for one in pipeline.executions(first) if one.name.startswith("replay-")]
    assert execution.path.count("Redrive") == 1
    assert len(pipeline.executions(first)) == 2

    pipeline.genesys.set_faults(None)
    assert pipeline.replay(prefix=archived[1], reason="the outage is over")["counts"] == {"EXHAUSTED RECOVERED": 1}
    assert pipeline.item(second)
