"""The users that an event names, and the fields that are added beside their ids."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.envelope import Event
from holdfast.domain.strict_json import NESTING_LIMIT
from holdfast.domain.users import USERS_ONLY, Entity, Kind
from tests.unit.samples import OTHER_USER_ID, USER_ID, body, event_of, payload_of, plain_envelope

QUEUE_ID = "5f1c0a3e-0000-4000-8000-0000000000aa"
CODE_ID = "5f1c0a3e-0000-4000-8000-0000000000bb"
ANNA = Entity("Anna Ito", "anna@example.com")


def places(detail: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((place.id, place.prefix) for place in event_of(body(detail=detail)).references())


def enrich(event: Event, users: dict[str, Entity | None], kinds: Collection[Kind] = USERS_ONLY) -> None:
    event.enrich(event.references(kinds), dict.fromkeys(Kind, users))


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


@pytest.mark.parametrize(
    "odd", [None, 5, "", "a b", "a,b", "x" * 65, "../me", [USER_ID], "customer-0001", f"{USER_ID}0"]
)
def test_values_that_are_not_user_ids_are_ignored(odd: Any) -> None:
    assert places({"eventBody": {"userId": odd}}) == []


def test_the_id_of_an_event_body_is_not_a_user() -> None:
    assert places({"eventBody": {"id": USER_ID}}) == []


def test_the_plain_shape_names_its_user_in_attributes() -> None:
    assert [place.id for place in event_of(json.dumps(plain_envelope())).references()] == [USER_ID]


TOPIC = f"v2.routing.queues.{QUEUE_ID}.users"


def test_the_id_of_an_event_body_is_a_user_where_the_topic_says_so() -> None:
    detail = {"topicName": TOPIC, "eventBody": {"id": USER_ID, "joined": True}}
    event = event_of(body(detail=detail).replace(": ", ":").replace(", ", ","))
    enrich(event, {USER_ID: ANNA})
    added = {"id": USER_ID, "userName": "Anna Ito", "userEmail": "anna@example.com", "joined": True}
    assert payload_of(event) == json.loads(event.text)["detail"]["eventBody"] == added
    assert places({"topicName": TOPIC + ".x", "eventBody": {"id": USER_ID}}) == []
    assert places({"topicName": TOPIC, "eventBody": {"id": "customer-0001"}}) == []


def test_an_id_in_upper_case_is_looked_up_in_lower_case_and_stays_as_it_was_sent() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID.upper()}}))
    assert [place.id for place in event.references()] == [USER_ID]
    enrich(event, {USER_ID: ANNA})
    assert (payload_of(event)["userId"], payload_of(event)["userName"]) == (USER_ID.upper(), "Anna Ito")


@pytest.mark.parametrize(
    "free", ["attributes", "participantData", "customAttributes", "additionalProperties", "context"]
)
def test_nothing_is_found_in_a_dictionary_of_the_customer_s_own_making(free: str) -> None:
    inner = {free: {"userId": OTHER_USER_ID, "deep": [{"user": {"id": OTHER_USER_ID}}]}}
    assert places({"eventBody": {**inner, "userId": USER_ID}}) == [(USER_ID, "user")]
    assert places({"eventBody": {"participants": [{**inner, "userId": USER_ID}]}}) == [(USER_ID, "user")]


@pytest.mark.parametrize("field", ["user", "agent", "createdBy", "evaluator", "assignee"])
@pytest.mark.parametrize("compact", [True, False])
def test_an_object_with_the_id_of_a_user_receives_name_and_email(field: str, compact: bool) -> None:
    sent = body(detail={"eventBody": {"n": 1, field: {"id": USER_ID, "selfUri": "/x"}}})
    event = event_of(sent.replace(": ", ":").replace(", ", ",") if compact else sent)
    enrich(event, {USER_ID: ANNA})
    named = {"id": USER_ID, "selfUri": "/x", "name": "Anna Ito", "email": "anna@example.com"}
    assert payload_of(event) == json.loads(event.text)["detail"]["eventBody"] == {"n": 1, field: named}


@pytest.mark.parametrize(
    ("field", "prefix"),
    [("targetUserId", "targetUser"), ("sourceUserId", "sourceUser"), ("createdBy", "createdBy"), ("agent", "agent")],
)
def test_a_field_with_the_id_of_a_user_is_completed_beside_it(field: str, prefix: str) -> None:
    event = event_of(body(detail={"eventBody": {field: USER_ID}}))
    enrich(event, {USER_ID: ANNA})
    assert payload_of(event) == {field: USER_ID, f"{prefix}Name": "Anna Ito", f"{prefix}Email": "anna@example.com"}


def test_queues_and_wrap_up_codes_are_found_only_if_they_are_wanted() -> None:
    event = event_of(body(detail={"eventBody": {"queueId": QUEUE_ID, "wrapupCode": CODE_ID, "userId": USER_ID}}))
    assert [place.kind for place in event.references()] == ["users"]
    assert [place.kind for place in event.references(Kind)] == ["users", "queues", "wrapupcodes"]
    enrich(event, {QUEUE_ID: Entity("Support"), CODE_ID: Entity("Solved"), USER_ID: None}, Kind)
    names = {"queueId": QUEUE_ID, "queueName": "Support", "wrapupCode": CODE_ID, "wrapupCodeName": "Solved"}
    assert payload_of(event) == json.loads(event.text)["detail"]["eventBody"] == {**names, "userId": USER_ID}


def test_a_name_that_the_event_has_is_kept() -> None:
    event = event_of(body(detail={"eventBody": {"queue": {"id": QUEUE_ID, "name": "as sent"}}}))
    enrich(event, {QUEUE_ID: Entity("Support")}, Kind)
    assert payload_of(event) == {"queue": {"id": QUEUE_ID, "name": "as sent"}}


def test_name_and_email_are_added_beside_the_id() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID, "deep": {"answeredUserId": OTHER_USER_ID}}}))
    enrich(event, {USER_ID: ANNA, OTHER_USER_ID: Entity("Ben", None)})
    assert payload_of(event) == {
        "userId": USER_ID,
        "userName": "Anna Ito",
        "userEmail": "anna@example.com",
        "deep": {"answeredUserId": OTHER_USER_ID, "answeredUserName": "Ben"},
    }


def test_an_event_can_be_marked_and_enriched() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}).replace(": ", ":"))
    event.mark("enrichmentError", "UNAVAILABLE")
    enrich(event, {USER_ID: ANNA})
    detail = json.loads(event.text)["detail"]
    assert (detail["enrichmentError"], detail["eventBody"]["userName"]) == ("UNAVAILABLE", "Anna Ito")


def test_the_repr_of_an_event_contains_no_personal_data() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}))
    assert USER_ID not in f"{event!r} {event.references()[0]!r}"


def test_fields_of_the_producer_are_never_overwritten() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID, "userName": "as sent", "userEmail": None}}))
    enrich(event, {USER_ID: ANNA})
    assert payload_of(event) == {"userId": USER_ID, "userName": "as sent", "userEmail": None}


def test_an_unknown_user_changes_nothing() -> None:
    event = event_of(body(detail={"eventBody": {"userId": USER_ID}}))
    enrich(event, {USER_ID: None})
    enrich(event, {})
    assert payload_of(event) == {"userId": USER_ID}


def test_users_are_found_at_the_deepest_nesting_that_is_allowed() -> None:
    nested: dict[str, Any] = {"userId": USER_ID}
    for _ in range((NESTING_LIMIT - 5) // 2):
        nested = {"in": [nested]}
    assert places({"eventBody": nested}) == [(USER_ID, "user")]


# -- the text of an enriched event -----------------------------------------------------------------------------------


@given(
    event_body=st.dictionaries(
        st.sampled_from(["userId", "answeredUserId", "userName", "x", "id", "user", "queueId", "attributes"]),
        st.sampled_from(
            [USER_ID, "userId", "Zoë", "", 1.5, [{"userId": USER_ID}], {"id": USER_ID}, {"x": 1, "id": USER_ID.upper()}]
        ),
    ),
    name=st.sampled_from(["Anna Ito", 'the "userId" of', "Zoë\n"]),
    ascii_only=st.booleans(),
    compact=st.booleans(),
    topic=st.sampled_from([TOPIC, f"v2.users.{USER_ID}.presence", "v2.x", None]),
)
def test_text_and_envelope_of_an_enriched_event_are_equal(
    event_body: dict[str, Any], name: str, ascii_only: bool, compact: bool, topic: str | None
) -> None:
    sent = json.loads(body(detail={"topicName": topic, "eventBody": event_body}))
    separators = (",", ":") if compact else None
    event = event_of(json.dumps(sent, ensure_ascii=ascii_only, separators=separators))
    assert json.loads(event.text) == sent
    enrich(event, {USER_ID: Entity(name, "anna@example.com")}, Kind)
    assert json.loads(event.text) == event.envelope


def test_an_event_to_which_nothing_is_added_keeps_its_text() -> None:
    text = body(detail={"eventBody": {"amount": 1}}).replace('"amount": 1', f'"userId":"{USER_ID}", "amount": 1.50')
    event = event_of(text)
    enrich(event, {USER_ID: None})
    assert event.text == text


def test_an_enriched_event_keeps_the_rest_of_its_text() -> None:
    text = body(detail={"eventBody": {"amount": 1}}).replace('"amount": 1', f'"userId":"{USER_ID}", "amount": 1.50')
    event = event_of(text)
    enrich(event, {USER_ID: ANNA})
    assert event.text == text.replace(
        f'"{USER_ID}"', f'"{USER_ID}","userName":"Anna Ito","userEmail":"anna@example.com"'
    )


def test_an_escaped_key_is_found() -> None:
    text = body(detail={"eventBody": {}}).replace('"eventBody": {}', f'"eventBody": {{"user\\u0049d": "{USER_ID}"}}')
    event = event_of(text)
    enrich(event, {USER_ID: ANNA})
    assert payload_of(event)["userName"] == "Anna Ito"
