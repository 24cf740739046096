"""Which users an event names, and what is written beside their ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.envelope import decode
from holdfast.domain.errors import MalformedBody
from holdfast.domain.strict_json import NESTING_LIMIT
from holdfast.domain.users import User
from tests.unit.samples import OTHER_USER_ID, USER_ID, body, plain_envelope

ANNA = User("Anna Ito", "anna@example.com")


def places(detail: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((place.user_id, place.prefix) for place in decode(body(detail=detail)).references)


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
    assert [place.user_id for place in decode(json.dumps(plain_envelope())).references] == [USER_ID]


def test_name_and_address_are_added_beside_the_id() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID, "deep": {"answeredUserId": OTHER_USER_ID}}}))
    event.enrich({USER_ID: ANNA, OTHER_USER_ID: User("Ben", None)})
    assert event.payload == {
        "userId": USER_ID,
        "userName": "Anna Ito",
        "userEmail": "anna@example.com",
        "deep": {"answeredUserId": OTHER_USER_ID, "answeredUserName": "Ben"},
    }


def test_a_name_finds_its_place_in_an_event_that_was_marked_before() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID}}).replace(": ", ":"))
    event.mark("enrichmentError", "UNAVAILABLE")
    event.enrich({USER_ID: ANNA})
    detail = json.loads(event.text)["detail"]
    assert (detail["enrichmentError"], detail["eventBody"]["userName"]) == ("UNAVAILABLE", "Anna Ito")


def test_nothing_of_an_event_shows_where_it_is_printed() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID}}))
    assert USER_ID not in f"{event!r} {event.references[0]!r}"


def test_what_the_producer_sent_is_never_overwritten() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID, "userName": "as sent", "userEmail": None}}))
    event.enrich({USER_ID: ANNA})
    assert event.payload == {"userId": USER_ID, "userName": "as sent", "userEmail": None}


def test_a_user_that_the_api_does_not_show_changes_nothing() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID}}))
    event.enrich({USER_ID: None})
    event.enrich({})
    assert event.payload == {"userId": USER_ID}


def test_nesting_as_deep_as_the_decoder_allows_is_walked_through() -> None:
    nested: dict[str, Any] = {"userId": USER_ID}
    for _ in range((NESTING_LIMIT - 5) // 2):
        nested = {"in": [nested]}
    assert places({"eventBody": nested}) == [(USER_ID, "user")]


# -- the text of an enriched event -----------------------------------------------------------------------------------

#: Spellings of one envelope: as EventBridge writes it, as a person does, and escaped.
SPELLINGS = st.fixed_dictionaries(
    {
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]),
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 1]),
    }
)
#: What could be taken for the place beside a user's id: the same key or words elsewhere, in texts, escaped.
LURES = st.recursive(
    st.sampled_from([USER_ID, "userId", f'"userId":"{USER_ID}"', '\\"userId', "answeredUserId", "Zoë", "", 1.5]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["userId", "answeredUserId", '"userId', "userName", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    event_body=st.dictionaries(st.sampled_from(["userId", "answeredUserId", "userName", "x", "y"]), LURES),
    metadata=LURES,
    name=st.sampled_from(["Anna Ito", 'the "userId" of', "answeredUserId", "Zoë\n"]),
    spelling=SPELLINGS,
)
def test_the_text_of_an_enriched_event_says_what_its_envelope_says(
    event_body: dict[str, Any], metadata: Any, name: str, spelling: dict[str, Any]
) -> None:
    sent = json.loads(body(detail={"metadata": metadata, "eventBody": event_body}))
    event = decode(json.dumps(sent, **spelling))
    assert json.loads(event.text) == sent
    event.enrich({USER_ID: User(name, "anna@example.com")})
    assert json.loads(event.text) == event.envelope


def test_an_event_keeps_its_text_and_gets_the_names_beside_the_id() -> None:
    text = body(detail={"eventBody": {"amount": 1}}).replace('"amount": 1', f'"userId":"{USER_ID}", "amount": 1.50')
    event = decode(text)
    assert event.text == text
    event.enrich({USER_ID: ANNA})
    assert event.text == text.replace(
        f'"{USER_ID}"', f'"{USER_ID}","userName":"Anna Ito","userEmail":"anna@example.com"'
    )


def test_a_key_that_is_escaped_elsewhere_does_not_lead_astray() -> None:
    hidden = f'{{"user\\u0049d": "{USER_ID}"}}'
    text = body(detail={"metadata": {"userId": USER_ID}, "eventBody": {}}).replace(
        '"eventBody": {}', f'"eventBody": {hidden}'
    )
    event = decode(text)
    event.enrich({USER_ID: ANNA})
    detail = json.loads(event.text)["detail"]
    assert (detail["metadata"], detail["eventBody"]["userName"]) == ({"userId": USER_ID}, "Anna Ito")


def test_a_name_that_utf_8_cannot_carry_fails_its_event_only_when_it_is_written() -> None:
    event = decode(body(detail={"eventBody": {"userId": USER_ID}}).replace(": ", ":"))
    event.enrich({USER_ID: User("\ud800", None)})
    with pytest.raises(MalformedBody, match="UTF-8"):
        _ = event.text
