"""The content of an event is the same however it was delivered and enriched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.domain.content import content_fields
from holdfast.domain.strict_json import NESTING_LIMIT
from holdfast.domain.users import ALL_KINDS, Entity, Kind
from tests.unit.samples import OTHER_USER_ID, USER_ID, body, envelope, event_of, plain_envelope

ANNA, BEN = Entity("Anna Ito", "anna@example.com"), Entity("Ben", None)
CORRELATION = "5f1c0a3e-0000-4000-8000-00000000000b"


def content_id(text: str) -> str:
    return content_fields(text)["contentId"]


def changed(**detail: Any) -> str:
    """The sample with other parts of its detail."""
    return body(detail={**envelope()["detail"], **detail})


def test_an_event_that_was_sent_twice_has_one_content() -> None:
    first = body("event-1")
    again = body("event-2", time="2026-11-23T10:05:00Z", account="2", region="us-east-1", resources=["r"], version="1")
    assert content_fields(first) == content_fields(again)
    assert content_fields(first)["correlationId"] == CORRELATION


def test_the_time_at_which_genesys_sent_it_is_not_part_of_the_content() -> None:
    assert content_id(changed(timestamp="2026-11-23T10:05:00.000Z", version="3")) == content_id(body())


@pytest.mark.parametrize(
    "other",
    [
        body(detail_type="v2.detail.events.conversation.{id}.acd.end"),
        body(source="aws.partner/genesys.com/cloud/another"),
        changed(topicName="v2.detail.events.conversation.other.acd.start"),
        changed(metadata={"CorrelationId": "another"}),
        changed(eventBody={**envelope()["detail"]["eventBody"], "eventTime": 1795428000124}),
        changed(id="one"),
        changed(attributes={}),
    ],
)
def test_another_content_has_another_id(other: str) -> None:
    assert content_id(other) != content_id(body())


def test_two_plain_events_with_the_same_attributes_differ_by_the_id_of_their_producer() -> None:
    one, same, other = (
        content_id(json.dumps(envelope_))
        for envelope_ in (plain_envelope("a"), {**plain_envelope("a"), "id": "event-1"}, plain_envelope("b"))
    )
    assert one == same != other


DEEP = {"userId": USER_ID, "deep": [{"answeredUserId": OTHER_USER_ID}]}


@pytest.mark.parametrize(
    "text",
    [
        body(),
        changed(eventBody=DEEP),
        changed(topicName=f"v2.users.{USER_ID}.presence", eventBody={"primary": True}),
        json.dumps(plain_envelope(score=7)),
        json.dumps(envelope(), separators=(",", ":")),
    ],
)
@pytest.mark.parametrize("users", [{USER_ID: ANNA, OTHER_USER_ID: BEN}, {USER_ID: BEN}, {}])
def test_enrichment_changes_nothing(text: str, users: dict[str, Entity | None]) -> None:
    event = event_of(text)
    event.enrich(event.references(ALL_KINDS), dict.fromkeys(Kind, users))
    assert content_id(event.text) == content_id(text)
    event.mark("enrichmentError", "UNAVAILABLE")
    assert content_id(event.text) == content_id(text)


def test_the_order_of_keys_and_the_spelling_of_text_change_nothing() -> None:
    reordered = json.loads(body())
    reordered["detail"] = dict(reversed(reordered["detail"].items()))
    assert content_id(json.dumps(reordered, ensure_ascii=False, indent=1)) == content_id(body())


@pytest.mark.parametrize("odd", [None, 5, "", "x" * 257, ["a"], {}])
def test_a_correlation_id_that_is_no_short_text_is_left_out(odd: Any) -> None:
    assert content_fields(changed(metadata={"CorrelationId": odd})).keys() == {"contentId"}
    assert content_fields(changed(metadata=odd)).keys() == {"contentId"}


@pytest.mark.parametrize("text", ["", '""', "[]", "{", "{}", '{"detail": 5}', "[" * 100_000])
def test_what_is_no_event_has_no_content(text: str) -> None:
    assert content_fields(text) == {}


def test_a_body_that_is_nested_as_deeply_as_allowed_has_a_content() -> None:
    deep: Any = {"userId": USER_ID}
    for _ in range(NESTING_LIMIT - 4):
        deep = [deep]
    assert content_id(changed(eventBody={"deep": deep}))
