"""What is published matches docs/schemas, for every fixture."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import ValidationError

from holdfast.adapters.eventbridge import TRIAGE_SOURCE
from holdfast.domain.circuit_breaker import BreakerOutcome
from holdfast.domain.envelope import Event
from holdfast.domain.fan_out import MAX_REQUEST_BYTES, SOURCE, Publication, publication, published
from holdfast.domain.processing import Record
from holdfast.domain.users import ALL_KINDS, Entity, Kind
from tests.contract.project import EVENTS, ROOT, fixtures
from tests.contract.test_breaker_machine import BY_ALARM, BY_HAND, OPEN, walk
from tests.schemas import FOLDER, check, validators

ANNA = Entity("Anna Ito", "anna@example.com")


def delivered(source: str, detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    """What a rule on the enriched bus sends to its target."""
    return {
        "version": "0",
        "id": "4b2ce25c-0000-4000-8000-000000000000",
        "detail-type": detail_type,
        "source": source,
        "account": "123456789012",
        "time": "2026-11-23T09:30:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }


def event_of(made: Publication) -> dict[str, Any]:
    return delivered(SOURCE, made.detail_type, json.loads(made.detail))


def streamed() -> Iterator[dict[str, Any]]:
    """What the fan-out publishes of the fixtures with stream records."""
    for path in fixtures("fan_out"):
        for record in json.loads(path.read_text()).get("Records", []):
            made = publication(record)
            if isinstance(made, Publication):
                yield event_of(made)


def processed() -> Iterator[dict[str, Any]]:
    """What the fan-out publishes of the events that the processor receives, with and without names."""
    for path in fixtures("processor"):
        for raw in json.loads(path.read_text())["Records"]:
            event = Record.of(raw).event
            if isinstance(event, Event):
                named = event.references(ALL_KINDS)
                for found in ({kind: {} for kind in Kind}, {kind: {one.id: ANNA for one in named} for kind in Kind}):
                    event.enrich(named, found)
                    item = {"eventId": event.event_id, "detailType": event.detail_type, "event": event.text}
                    indexed = {"conversationId": event.conversation_id, "eventTime": event.time}
                    yield event_of(published(item | indexed, "1"))


def settled() -> Iterator[dict[str, Any]]:
    for path in (EVENTS / "settle" / "expected").glob("*.json"):
        output = json.loads(path.read_text())["answer"]
        yield delivered(TRIAGE_SOURCE, f"Dead Letter {output['outcome'].capitalize()}", output)


def announced() -> Iterator[dict[str, Any]]:
    for outcome in (BreakerOutcome.CLOSED, BreakerOutcome.MAX_HOURS_REACHED):
        ends = {"step": "close", "outcome": outcome.value, "probes": 1}
        _, _, asked = walk(BY_ALARM, {"Inspect": [OPEN], "Probe": [ends], "ConfirmClosed": [{"step": "announce"}]})
        yield from _entries(asked)
    resumed = {"step": "announce", "outcome": "RESUMED_BY_HAND"}
    yield from _entries(walk(BY_HAND, {"Inspect": [OPEN], "CheckPause": [resumed]})[2])


def _entries(asked: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, payload in asked:
        if name.startswith("Announce"):
            (entry,) = payload["Entries"]
            yield delivered(entry["Source"], entry["DetailType"], entry["Detail"])


EXAMPLES = {"streamed": streamed, "processed": processed, "settled": settled, "announced": announced}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_everything_that_is_published_matches_its_schema(kind: str) -> None:
    found = [*EXAMPLES[kind]()]
    assert found
    for event in found:
        check(event)


def test_an_event_above_the_limit_of_the_bus_matches_too() -> None:
    large = {"source": "s", "detail-type": "t", "detail": {"attributes": {"text": "x" * MAX_REQUEST_BYTES}}}
    made = published({"eventId": "event-1", "detailType": "t", "event": json.dumps(large)}, "1")
    assert "eventPointer" in json.loads(made.detail)
    check(event_of(made))


def test_the_examples_contain_every_source_every_type_of_ours_and_every_field() -> None:
    every = [event for kind in EXAMPLES.values() for event in kind()]
    for source, validator in validators().items():
        properties = validator.schema["properties"]
        found = [event for event in every if event["source"] == source]
        assert {name for event in found for name in event["detail"]} == properties["detail"]["properties"].keys()
        assert {*properties["detail-type"].get("enum", [])} <= {event["detail-type"] for event in found}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_schema_refuses_an_event_without_a_field_or_with_another(kind: str) -> None:
    event = next(EXAMPLES[kind]())
    detail = event["detail"]
    optional = {"conversationId", "eventTime", "contentId", "correlationId"}
    broken = [
        {**event, "detail": {key: value for key, value in detail.items() if key != name}}
        for name in {*detail} - optional
    ]
    broken += [{**event, "detail": {**detail, "another": 1}}, {**event, "detail-type": ""}]
    for one in broken:
        with pytest.raises(ValidationError):
            check(one)


def test_a_schema_refuses_a_mistake_in_each_of_its_conditions() -> None:
    settled_event, (opened, closed, *_) = next(settled()), [*announced()]
    swapped = {"Dead Letter Recovered": "Dead Letter Archived", "Dead Letter Archived": "Dead Letter Recovered"}
    both = copy.deepcopy(next(processed()))
    both["detail"]["eventPointer"] = {"eventId": both["detail"]["eventId"]}
    for one in (
        {**settled_event, "detail-type": swapped[settled_event["detail-type"]]},
        {**opened, "detail-type": "Circuit Breaker Closed"},
        {**closed, "detail-type": "Circuit Breaker Opened"},
        both,
    ):
        with pytest.raises(ValidationError):
            check(one)


def test_a_consumer_that_validates_accepts_a_field_that_a_later_version_adds() -> None:
    for path in FOLDER.glob("*.json"):
        assert "additionalProperties" not in path.read_text()


def test_the_page_about_consumers_names_every_schema() -> None:
    page = (ROOT / "docs" / "adapting.md").read_text()
    assert all(f"schemas/{path.name}" in page for path in FOLDER.glob("*.json"))
