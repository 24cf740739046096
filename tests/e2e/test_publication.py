"""What consumers of the enriched bus get, seen on the deployed stack."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.e2e.consumer import Consumer
from tests.e2e.pipeline import genesys_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pipeline import Pipeline


@pytest.fixture
def consumer(pipeline: Pipeline) -> Iterator[Consumer]:
    made = Consumer(pipeline, "holdfast.events")
    yield made
    made.leave()


def test_a_stored_event_is_published_whole_with_a_stable_id(pipeline: Pipeline, consumer: Consumer) -> None:
    (event_id,) = pipeline.put(genesys_event(note="hello"))
    (published,) = pipeline.eventually(lambda: consumer.of(event_id), "it is published")
    assert published["detail"]["event"] == pipeline.event(event_id)
    assert published["detail-type"] == published["detail"]["event"]["detail-type"]


def test_a_range_of_the_table_is_published_again_on_demand(pipeline: Pipeline, consumer: Consumer) -> None:
    begin = datetime.now(UTC)
    (event_id,) = pipeline.put(genesys_event())
    pipeline.eventually(lambda: consumer.of(event_id), "it is published")
    end = datetime.now(UTC) + timedelta(seconds=1)
    asked = {"republish": {"from": begin.isoformat(), "to": end.isoformat()}}
    name = pipeline.stack.stack.resources["FanOutFunction"]
    answer = json.loads(
        pipeline.client("lambda").invoke(FunctionName=name, Payload=json.dumps(asked))["Payload"].read()
    )
    assert answer == {"published": 1, "refused": [], "startAt": None}
    first, second = pipeline.eventually(lambda: consumer.of(event_id)[1:] and consumer.of(event_id), "it comes again")
    assert first["detail"] == second["detail"]


def test_the_outcome_of_triage_is_announced(pipeline: Pipeline) -> None:
    consumer = Consumer(pipeline, "holdfast.triage")
    try:
        (event_id,) = pipeline.enqueue("{ no event")
        told = pipeline.eventually(lambda: consumer.of(event_id, "eventId"), "its outcome is announced")[0]
    finally:
        consumer.leave()
    assert told["detail-type"] == "Dead Letter Archived"
    assert told["detail"] == pipeline.settled(event_id).output
