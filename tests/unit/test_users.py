"""The users that an event names, and the fields that are added beside their ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.strict_json import NESTING_LIMIT
from holdfast.domain.users import User
from tests.unit.samples import OTHER_USER_ID, USER_ID, body, event_of, payload_of, plain_envelope

ANNA = User("Anna Ito", "anna@example.com")


def places(detail: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((place.user_id, place.prefix) for place in event_of(body(detail=detail)).references)


def test_users_are_found_at_any_depth_and_in_both_fields() -> None:
    deep = {"list": [{"inner": {"userId": OTHER_USER_ID}}], "answeredUserId": USER_ID}
    assert places({"eventBody": deep}) == [(USER_ID, "answeredUser"), (OTHER_USER_ID, "user")]


def test_a_user_topic_names_the_user_if_the_body_does_not() -> None:
    assert places({"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {"primary": True}}) == [(USER_ID, "user")]


def test_a_user_topic_is_ignored_if_the_body_names_a_user() -> None:
    detail = {"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {"userId": OTHER_USER_ID}}
    assert places(detail) == [(OTHER_USER_ID, "user")]


@pytest.mark.parametrize("topic", ["v2.routing.queues.q.users", "v2.users", f"x.v2.users.{USER_ID}.y", 5, None, []])
def test_other_topics_name_no_user(topic: Any) -> None:
    assert places({"topicName": topic, "eventBody": {}}) == []


@pytest.mark.parametrize("odd", [None, 5, "", "a b", "a,b", "x" * 65, "../me", [USER_ID], {"id": USER_ID}])
def test_values_that_are_not_user_ids_are_ignored(odd: Any) -> None:
    assert places({"eventBody": {"userId": odd}}) == []


def test_the_id_of_an_event_body_is_not_a_user() -> None:
    assert places({"eventBody": {"id": USER_ID}}) == []


def test_the_plain_shape_names_its_user_in_attributes() -> None:
    assert [place.user_id for place in event_of(json.dumps(plain_envelope())).references] == [USER_ID]


def test_name_and_email_are_added_beside_the_id() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID, "deep": {"answeredUserId": OTHER_USER_ID}}}))
    event.enrich({USER_ID: ANNA, OTHER_USER_ID: User("Ben", None)})
    assert payload_of(event) == {
        "userId": USER_ID,
        "userName": "Anna Ito",
        "userEmail": "anna@example.com",
        "deep": {"answeredUserId": OTHER_USER_ID, "answeredUserName": "Ben"},
    }


def test_an_event_can_be_marked_and_enriched() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}).replace(": ", ":"))
    event.mark("enrichmentError", "UNAVAILABLE")
    event.enrich({USER_ID: ANNA})
    detail = json.loads(event.text)["detail"]
    assert (detail["enrichmentError"], detail["eventBody"]["userName"]) == ("UNAVAILABLE", "Anna Ito")


def test_the_repr_of_an_event_contains_no_personal_data() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}))
    assert USER_ID not in f"{event!r} {event.references[0]!r}"


def test_fields_of_the_producer_are_never_overwritten() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID, "userName": "as sent", "userEmail": None}}))
    event.enrich({USER_ID: ANNA})
    assert payload_of(event) == {"userId": USER_ID, "userName": "as sent", "userEmail": None}


def test_an_unknown_user_changes_nothing() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}))
    event.enrich({USER_ID: None})
    event.enrich({})
    assert payload_of(event) == {"userId": USER_ID}


def test_users_are_found_at_the_deepest_nesting_that_is_allowed() -> None:
    nested: dict[str, Any] = {"userId": USER_ID}
    for _ in range((NESTING_LIMIT - 5) // 2):
        nested = {"in": [nested]}
    assert places({"eventBody": nested}) == [(USER_ID, "user")]


# -- the text of an enriched event -----------------------------------------------------------------------------------


@given(
    event_body=st.dictionaries(
        st.sampled_from(["userId", "answeredUserId", "userName", "x"]),
        st.sampled_from([USER_ID, "userId", "Zoë", "", 1.5, [{"userId": USER_ID}]]),
    ),
    name=st.sampled_from(["Anna Ito", 'the "userId" of', "Zoë\n"]),
    ascii_only=st.booleans(),
)
def test_text_and_envelope_of_an_enriched_event_are_equal(
    event_body: dict[str, Any], name: str, ascii_only: bool
) -> None:
    sent = json.loads(body(detail={"eventBody": event_body}))
    event = event_of(json.dumps(sent, ensure_ascii=ascii_only))
    assert json.loads(event.text) == sent
    event.enrich({USER_ID: User(name, "anna@example.com")})
    assert json.loads(event.text) == event.envelope


def test_an_event_to_which_nothing_is_added_keeps_its_text() -> None:
    text = body(detail={"eventBody": {"amount": 1}}).replace('"amount": 1', f'"userId":"{USER_ID}", "amount": 1.50')
    event = event_of(text)
    event.enrich({USER_ID: None})
    assert event.text == text


def test_an_enriched_event_keeps_the_rest_of_its_text() -> None:
    text = body(detail={"eventBody": {"amount": 1}}).replace('"amount": 1', f'"userId":"{USER_ID}", "amount": 1.50')
    event = event_of(text)
    event.enrich({USER_ID: ANNA})
    assert event.text == text.replace(
        f'"{USER_ID}"', f'"{USER_ID}","userName":"Anna Ito","userEmail":"anna@example.com"'
    )


def test_an_escaped_key_is_found() -> None:
    text = body(detail={"eventBody": {}}).replace('"eventBody": {}', f'"eventBody": {{"user\\u0049d": "{USER_ID}"}}')
    event = event_of(text)
    event.enrich({USER_ID: ANNA})
    assert payload_of(event)["userName"] == "Anna Ito"
