"""Which users an event names, and what is written beside their ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.domain.envelope import NESTING_LIMIT, decode
from holdfast.domain.users import User, enrich, references
from tests.unit.samples import OTHER_USER_ID, USER_ID, body, plain_envelope

ANNA = User("Anna Ito", "anna@example.com")


def places(detail: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((place.user_id, place.prefix) for place in references(decode(body(detail=detail))))


def test_a_user_is_found_at_any_depth_and_under_both_names() -> None:
    deep = {"list": [{"inner": {"userId": OTHER_USER_ID}}], "answeredUserId": USER_ID}
    assert places({"eventBody": deep}) == [(USER_ID, "answeredUser"), (OTHER_USER_ID, "user")]


def test_a_user_topic_names_the_user_that_its_body_does_not() -> None:
    assert places({"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {"primary": True}}) == [(USER_ID, "user")]


def test_a_user_topic_adds_nothing_where_the_body_names_its_user() -> None:
    detail = {"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {"userId": OTHER_USER_ID}}
    assert places(detail) == [(OTHER_USER_ID, "user")]


@pytest.mark.parametrize("topic", ["v2.routing.queues.q.users", "v2.users", f"x.v2.users.{USER_ID}.y", 5, None, []])
def test_another_topic_names_no_user(topic: Any) -> None:
    assert places({"topicName": topic, "eventBody": {}}) == []


@pytest.mark.parametrize("odd", [None, 5, "", "a b", "a,b", "x" * 65, "../me", [USER_ID], {"id": USER_ID}])
def test_what_is_no_user_id_is_not_asked_for(odd: Any) -> None:
    assert places({"eventBody": {"userId": odd}}) == []


def test_an_event_body_s_own_id_is_no_user() -> None:
    assert places({"eventBody": {"id": USER_ID}}) == []


def test_the_plain_shape_names_its_user_in_attributes() -> None:
    assert [place.user_id for place in references(decode(json.dumps(plain_envelope())))] == [USER_ID]


def test_name_and_address_are_added_beside_the_id() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID, "deep": {"answeredUserId": OTHER_USER_ID}}}))
    enrich(references(event), {USER_ID: ANNA, OTHER_USER_ID: User("Ben", None)})
    assert event.payload == {
        "userId": USER_ID,
        "userName": "Anna Ito",
        "userEmail": "anna@example.com",
        "deep": {"answeredUserId": OTHER_USER_ID, "answeredUserName": "Ben"},
    }


def test_what_the_producer_sent_is_never_overwritten() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID, "userName": "as sent", "userEmail": None}}))
    enrich(references(event), {USER_ID: ANNA})
    assert event.payload == {"userId": USER_ID, "userName": "as sent", "userEmail": None}


def test_a_user_that_the_api_does_not_show_changes_nothing() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID}}))
    enrich(references(event), {USER_ID: None})
    enrich(references(event), {})
    assert event.payload == {"userId": USER_ID}


def test_nesting_as_deep_as_the_decoder_allows_is_walked_through() -> None:
    nested: dict[str, Any] = {"userId": USER_ID}
    for _ in range((NESTING_LIMIT - 5) // 2):
        nested = {"in": [nested]}
    assert places({"eventBody": nested}) == [(USER_ID, "user")]
