"""A body is an event, or it is refused with a reason. No body raises another error."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.envelope import Event, examine, format_time, iso_time
from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.strict_json import serialise
from tests.unit.samples import PERSONAL, body, envelope, event_of, payload_of, plain_envelope

# -- what is an event ----------------------------------------------------------------------------------------------


def test_genesys_s_real_shape_is_an_event() -> None:
    event = event_of(body("event-1"))
    assert event.event_id == "event-1"
    assert event.detail_type == "v2.detail.events.conversation.{id}.acd.start"
    assert event.source.startswith("aws.partner/genesys.com")
    assert payload_of(event)["conversationId"] == event.conversation_id == "5f1c0a3e-0000-4000-8000-00000000000a"


def test_the_plain_shape_is_an_event_and_takes_its_id_from_the_detail() -> None:
    event = event_of(json.dumps(plain_envelope("plain-1")))
    assert (event.event_id, payload_of(event)["userId"]) == ("plain-1", payload_of(event)["userId"])
    assert event.time is None


def test_the_envelope_s_id_stands_before_the_detail_s() -> None:
    both = envelope("outer", detail={"id": "inner", "attributes": {}})
    assert event_of(json.dumps(both)).event_id == "outer"


@pytest.mark.parametrize("useless", [None, "", 7, [], {}, True])
def test_an_id_that_is_no_text_leaves_the_detail_s_id(useless: Any) -> None:
    both = {**envelope("outer", detail={"id": "inner", "attributes": {}}), "id": useless}
    assert event_of(json.dumps(both)).event_id == "inner"


def test_an_event_body_stands_before_attributes() -> None:
    detail = {"eventBody": {"from": "eventBody"}, "attributes": {"from": "attributes"}}
    assert payload_of(event_of(body(detail=detail))) == {"from": "eventBody"}


def test_attributes_carry_the_payload_where_the_event_body_is_no_object() -> None:
    assert payload_of(event_of(body(detail={"eventBody": "text", "attributes": {"a": 1}}))) == {"a": 1}


def test_an_unknown_detail_type_and_unknown_fields_are_an_event() -> None:
    event = event_of(body(detail_type="v9.never.heard.of", novelty={"deep": [1]}))
    assert (event.detail_type, event.envelope["novelty"]) == ("v9.never.heard.of", {"deep": [1]})


def test_text_beyond_ascii_survives_as_it_is() -> None:
    event = event_of(body(detail={"eventBody": {"name": "Zoë 🎧 山田"}}))
    assert "Zoë 🎧 山田" in serialise(event.envelope)


def test_a_long_empty_or_foreign_conversation_id_is_no_index_key() -> None:
    for value in ("", "x" * 257, 5, None, ["x"]):
        assert event_of(body(detail={"eventBody": {"conversationId": value}})).conversation_id is None
    assert event_of(body(detail={"eventBody": {"conversationId": "x" * 256}})).conversation_id == "x" * 256


CONVERSATION = "5f1c0a3e-0000-4000-8000-00000000000c"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"v2.conversations.{CONVERSATION}.transcription", {}),
        (f"v2.detail.events.conversation.{CONVERSATION}.acd.start", {"conversationId": ""}),
        (f"v2.users.{CONVERSATION[:-1]}9.conversations", {"id": CONVERSATION}),
        (f"v2.users.{CONVERSATION[:-1]}9.conversations.calls", {"id": CONVERSATION}),
        (f"v2.routing.queues.{CONVERSATION[:-1]}9.conversations.chats", {"id": CONVERSATION}),
        (f"v2.conversations.{CONVERSATION[:-1]}9.x", {"conversationId": CONVERSATION}),
    ],
)
def test_the_conversation_is_named_by_the_body_or_by_the_topic(topic: str, payload: dict[str, Any]) -> None:
    assert event_of(body(detail={"topicName": topic, "eventBody": payload})).conversation_id == CONVERSATION


@pytest.mark.parametrize(
    "topic",
    [
        f"v2.users.{CONVERSATION}.presence",
        f"v2.users.{CONVERSATION}.conversationsummary",
        "v2.conversations.x.y",
        5,
        None,
    ],
)
def test_the_id_of_a_body_is_no_conversation_for_other_topics(topic: Any) -> None:
    assert event_of(body(detail={"topicName": topic, "eventBody": {"id": CONVERSATION}})).conversation_id is None


# -- when it happened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_time", "expected"),
    [
        (1795428000123, "2026-11-23T10:00:00.123Z"),
        (1795428000123.0, "2026-11-23T10:00:00.123Z"),
        ("2026-11-23T11:00:00.5+01:00", "2026-11-23T10:00:00.500Z"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
        ("2026-11-23T10:00:00", "2026-11-23T10:00:00.000Z"),
        ("1770101211234", "2026-02-03T06:46:51.234Z"),
        (253402300799999, "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:59:59.999", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_the_event_time_is_read_as_a_number_and_as_text(event_time: Any, expected: str) -> None:
    assert event_of(body(detail={"eventBody": {"eventTime": event_time}})).time == expected


@pytest.mark.parametrize(
    "odd",
    [
        *(None, True, "soon", "", {}, [], 1e300, -(10**300), 10**30, "9999-12-31T23:59:59-23:59"),
        *(1795428000, "1795428000", 1795428000.5, 0, "0", "\u0661" * 13, "9" * 5_000),
    ],
)
def test_an_event_time_that_cannot_be_read_gives_way_to_the_next_one(odd: Any) -> None:
    detail = {"timestamp": "2026-11-23T10:00:00.250Z", "eventBody": {"eventTime": odd}}
    assert event_of(body(detail=detail)).time == "2026-11-23T10:00:00.250Z"
    assert event_of(body(detail={**detail, "timestamp": odd})).time == "2026-11-23T10:00:00.000Z"
    assert event_of(body(detail={**detail, "timestamp": odd}, time="?")).time is None


def test_times_are_written_in_one_form() -> None:
    assert format_time(datetime(2026, 11, 23, 10, 0, 0, 999_999, tzinfo=UTC)) == "2026-11-23T10:00:00.999Z"


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_any_value_is_a_time_or_none(value: Any) -> None:
    found = iso_time(value)
    assert found is None or found.endswith("Z")


# -- bodies that are not events --------------------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not JSON"),
        (" ", "not JSON"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{} trailing", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("{'single': 1}", "not JSON"),
        ('{"control": "\x01"}', "not JSON"),
        ('{"a": 1, "a": 1}', "repeats a key"),
        ('{"id": "x", "detail": {"b": 1, "b": 2}}', "repeats a key"),
        ("NaN", "finite"),
        ('{"a": Infinity}', "finite"),
        ('{"a": [-Infinity]}', "finite"),
        ('{"a": ' + "9" * 309 + "}", "finite"),
        ('{"a": ' + "9" * 10_000 + "}", "finite"),
        (DEEP, "nested"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
    ],
)
def test_json_that_parsers_read_differently_is_malformed(text: str, reason: str) -> None:
    with pytest.raises(MalformedBody, match=reason) as caught:
        event_of(text)
    assert caught.value.category == "MALFORMED"


@pytest.mark.parametrize(
    ("eventBody", "reason"),
    [
        ('{"n": 1e400}', "finite"),
        ('{"n": -1e999}', "finite"),
        ('{"t": "\\ud800"}', "UTF-8"),
        ('{"\\udfff": 1}', "UTF-8"),
    ],
)
def test_values_that_json_cannot_carry_are_malformed(eventBody: str, reason: str) -> None:  # noqa: N803 - the field's name
    text = body(detail={"eventBody": {}}).replace('"eventBody": {}', f'"eventBody": {eventBody}')
    with pytest.raises(MalformedBody, match=reason):
        event_of(text)
    assert examine(text).event_id == "event-1", "the id can still be read"


def test_a_surrogate_pair_and_the_largest_double_are_fine() -> None:
    text = body(detail={"eventBody": {}}).replace(
        '"eventBody": {}', '"eventBody": {"e": "\\ud83c\\udfa7", "n": 1.7e308}'
    )
    assert payload_of(event_of(text)) == {"e": "🎧", "n": 1.7e308}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('"x"', "not a JSON object"),
        ("1", "not a JSON object"),
        ("true", "not a JSON object"),
        ("{}", "no detail"),
        (body(detail=None), "no detail"),
        (body(detail="text"), "no detail"),
        (body(detail=[]), "no detail"),
        (body(source=None), "source"),
        (body(source=""), "source"),
        (body(source=7), "source"),
        (body(detail_type=None), "detail-type"),
        (body(detail_type=["x"]), "detail-type"),
        (json.dumps({**plain_envelope(), "detail": {"attributes": {}}}), "id"),
        (body(detail={}), "neither an eventBody nor attributes"),
        (body(detail={"eventBody": None, "attributes": []}), "neither an eventBody nor attributes"),
    ],
)
def test_json_that_is_not_an_event_is_invalid(text: str, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as caught:
        event_of(text)
    assert caught.value.category == "INVALID"


def test_a_reason_never_quotes_the_body() -> None:
    for text in (PERSONAL, f'{{"{PERSONAL}": 1, "{PERSONAL}": 2}}', f'["{PERSONAL}", oops]', json.dumps([PERSONAL])):
        with pytest.raises((MalformedBody, InvalidEvent)) as caught:
            event_of(text)
        assert "Zoë" not in str(caught.value)
        assert "5550100" not in str(caught.value)


# -- any body ------------------------------------------------------------------------------------------------

NASTY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY_TEXT, inner, max_size=4),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON_VALUES,
        "source": JSON_VALUES | st.just("genesys.cloud"),
        "detail-type": JSON_VALUES | st.just("x"),
        "time": JSON_VALUES,
        "detail": JSON_VALUES
        | st.fixed_dictionaries({}, optional={"id": JSON_VALUES, "eventBody": JSON_VALUES, "attributes": JSON_VALUES}),
    },
)
BODIES = NASTY_TEXT | st.builds(json.dumps, JSON_VALUES | ENVELOPES, ensure_ascii=st.booleans())


@given(BODIES)
def test_any_body_is_an_event_or_has_a_named_error(text: str) -> None:
    examined = examine(text)
    if isinstance(examined.content, Event):
        assert examined.content.event_id == examined.event_id
        assert examined.content.time is None or examined.content.time.endswith("Z")
        assert json.loads(examined.content.text) == examined.envelope
    else:
        assert isinstance(examined.content, MalformedBody | InvalidEvent)
    assert examined.kind in {"EVENT", "MALFORMED", "INVALID"}


@given(BODIES)
def test_any_body_has_an_event_id_that_can_be_a_key(text: str) -> None:
    examined = examine(text)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,71}", examined.event_id)
    words = (examined.description or {}).values()
    assert all(word is None or isinstance(word, str) for word in words)


def test_the_description_of_an_envelope_is_shortened() -> None:
    described = examine(body("event-1", detail_type="t" * 9_000, source=5)).description
    assert described == {"id": "event-1", "source": None, "detailType": "t" * 256, "time": "2026-11-23T10:00:00Z"}
