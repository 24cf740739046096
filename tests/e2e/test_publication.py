"""What consumers of the enriched bus receive."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from local.eventually import eventually
from tests.e2e.pipeline import genesys_event
from tests.e2e.subscribers import Consumer

if TYPE_CHECKING:
    from tests.e2e.pipeline import Pipeline


def test_a_time_range_of_the_table_is_published_again_on_demand(pipeline: Pipeline, consumer: Consumer) -> None:
    begin = datetime.now(UTC)
    (event_id,) = pipeline.put(genesys_event())
    eventually(lambda: consumer.of(event_id), "the event is published")
    end = datetime.now(UTC) + timedelta(seconds=1)
    answer = pipeline.invoke("FanOutFunction", {"republish": {"from": begin.isoformat(), "to": end.isoformat()}})
    assert answer == {"published": 1, "refused": [], "setAside": 0, "startAt": None}
    first, second = eventually(lambda: consumer.of(event_id)[1:] and consumer.of(event_id), "the event comes again")
    assert first["detail"] == second["detail"]


def test_the_outcome_of_triage_is_published(pipeline: Pipeline) -> None:
    with closing(Consumer(pipeline, "holdfast.triage")) as consumer:
        (event_id,) = pipeline.enqueue("{ no event")
        published = eventually(lambda: consumer.of(event_id), "the outcome is published")[0]
    assert published["detail-type"] == "Dead Letter Archived"
    assert published["detail"] == pipeline.settled(event_id).output
