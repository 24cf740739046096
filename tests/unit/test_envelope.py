"""A body is an event, or it is refused for exactly one reason; nothing that a producer sends trips the reader."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.envelope import (
    decode,
    examine,
    format_time,
    identify,
    iso_time,
)
from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.strict_json import serialise
from tests.unit.samples import PERSONAL, body, envelope, plain_envelope

# -- what is an event ----------------------------------------------------------------------------------------------


def test_genesys_s_real_shape_is_an_event() -> None:
    event = decode(body("event-1"))
    assert event.event_id == "event-1"
    assert event.detail_type == "v2.detail.events.conversation.{id}.acd.start"
    assert event.source.startswith("aws.partner/genesys.com")
    assert event.payload["conversationId"] == event.conversation_id == "5f1c0a3e-0000-4000-8000-00000000000a"


def test_the_plain_shape_is_an_event_and_takes_its_id_from_the_detail() -> None:
    event = decode(json.dumps(plain_envelope("plain-1")))
    assert (event.event_id, event.payload["userId"]) == ("plain-1", event.payload["userId"])
    assert event.time is None


def test_the_envelope_s_id_stands_before_the_detail_s() -> None:
    both = envelope("outer", detail={"id": "inner", "attributes": {}})
    assert decode(json.dumps(both)).event_id == "outer"


@pytest.mark.parametrize("useless", [None, "", 7, [], {}, True])
def test_an_id_that_is_no_text_leaves_the_detail_s_id(useless: Any) -> None:
    both = {**envelope("outer", detail={"id": "inner", "attributes": {}}), "id": useless}
    assert decode(json.dumps(both)).event_id == "inner"


def test_an_event_body_stands_before_attributes() -> None:
    detail = {"eventBody": {"from": "eventBody"}, "attributes": {"from": "attributes"}}
    assert decode(body(detail=detail)).payload == {"from": "eventBody"}


def test_attributes_carry_the_payload_where_the_event_body_is_no_object() -> None:
    assert decode(body(detail={"eventBody": "text", "attributes": {"a": 1}})).payload == {"a": 1}


def test_an_unknown_detail_type_and_unknown_fields_are_an_event() -> None:
    event = decode(body(detail_type="v9.never.heard.of", novelty={"deep": [1]}))
    assert (event.detail_type, event.envelope["novelty"]) == ("v9.never.heard.of", {"deep": [1]})


def test_text_beyond_ascii_survives_as_it_is() -> None:
    event = decode(body(detail={"eventBody": {"name": "Zoë 🎧 山田"}}))
    assert "Zoë 🎧 山田" in serialise(event.envelope)


def test_a_long_empty_or_foreign_conversation_id_is_no_index_key() -> None:
    for value in ("", "x" * 257, 5, None, ["x"]):
        assert decode(body(detail={"eventBody": {"conversationId": value}})).conversation_id is None
    assert decode(body(detail={"eventBody": {"conversationId": "x" * 256}})).conversation_id == "x" * 256


# -- when it happened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_time", "expected"),
    [
        (1795428000123, "2026-11-23T10:00:00.123Z"),
        (1795428000123.0, "2026-11-23T10:00:00.123Z"),
        ("2026-11-23T11:00:00.5+01:00", "2026-11-23T10:00:00.500Z"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
        ("2026-11-23T10:00:00", "2026-11-23T10:00:00.000Z"),
    ],
)
def test_the_event_time_is_read_as_a_number_and_as_text(event_time: Any, expected: str) -> None:
    assert decode(body(detail={"eventBody": {"eventTime": event_time}})).time == expected


@pytest.mark.parametrize(
    "odd", [None, True, "soon", "", {}, [], 1e300, -(10**300), 10**30, "9999-12-31T23:59:59-23:59", "\ud800"]
)
def test_an_event_time_that_cannot_be_read_gives_way_to_the_next_one(odd: Any) -> None:
    detail = {"timestamp": "2026-11-23T10:00:00.250Z", "eventBody": {"eventTime": odd}}
    assert decode(body(detail=detail)).time == "2026-11-23T10:00:00.250Z"
    assert decode(body(detail={**detail, "timestamp": odd})).time == "2026-11-23T10:00:00.000Z"
    assert decode(body(detail={**detail, "timestamp": odd}, time="?")).time is None


def test_times_are_written_in_one_form_only() -> None:
    assert format_time(datetime(2026, 11, 23, 10, 0, 0, 999_999, tzinfo=UTC)) == "2026-11-23T10:00:00.999Z"


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_no_value_trips_the_reader_of_times(value: Any) -> None:
    found = iso_time(value)
    assert found is None or found.endswith("Z")


# -- what is none --------------------------------------------------------------------------------------------------

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
        ('{"a": 1, "a": 1}', "twice"),
        ('{"id": "x", "detail": {"b": 1, "b": 2}}', "twice"),
        ("NaN", "finite"),
        ('{"a": Infinity}', "finite"),
        ('{"a": [-Infinity]}', "finite"),
        ('{"a": ' + "9" * 309 + "}", "finite"),
        ('{"a": ' + "9" * 10_000 + "}", "finite"),
        (DEEP, "nested"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
    ],
)
def test_what_consumers_could_not_read_alike_is_malformed(text: str, reason: str) -> None:
    with pytest.raises(MalformedBody, match=reason) as caught:
        decode(text)
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
def test_what_can_be_parsed_but_not_be_written_is_malformed_on_examination(eventBody: str, reason: str) -> None:  # noqa: N803
    text = body(detail={"eventBody": {}}).replace('"eventBody": {}', f'"eventBody": {eventBody}')
    with pytest.raises(MalformedBody, match=reason):
        examine(text)
    assert identify(text)[0] == "event-1", "it is still known by its id"


def test_a_surrogate_pair_and_the_largest_double_are_fine() -> None:
    text = body(detail={"eventBody": {}}).replace(
        '"eventBody": {}', '"eventBody": {"e": "\\ud83c\\udfa7", "n": 1.7e308}'
    )
    assert examine(text).payload == {"e": "🎧", "n": 1.7e308}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "no JSON object"),
        ("[]", "no JSON object"),
        ('"x"', "no JSON object"),
        ("1", "no JSON object"),
        ("true", "no JSON object"),
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
def test_readable_json_that_is_no_event_is_invalid(text: str, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as caught:
        decode(text)
    assert caught.value.category == "INVALID"


def test_a_reason_never_quotes_the_body() -> None:
    for text in (PERSONAL, f'{{"{PERSONAL}": 1, "{PERSONAL}": 2}}', f'["{PERSONAL}", oops]', json.dumps([PERSONAL])):
        with pytest.raises((MalformedBody, InvalidEvent)) as caught:
            decode(text)
        assert "Zoë" not in str(caught.value)
        assert "5550100" not in str(caught.value)


# -- whatever comes ------------------------------------------------------------------------------------------------

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
def test_a_body_is_read_or_refused_with_a_named_error_and_nothing_else(text: str) -> None:
    for reader in (decode, examine):
        try:
            event = reader(text)
        except (MalformedBody, InvalidEvent):
            continue
        assert event.event_id
        assert event.time is None or event.time.endswith("Z")


@given(BODIES)
def test_every_body_has_one_identity_that_is_fit_to_be_a_key(text: str) -> None:
    letter, described = identify(text)
    assert letter == identify(text)[0]
    assert letter.isascii()
    assert 0 < len(letter) <= 71
    assert set(letter) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert described is None or all(isinstance(value, str) for value in described.values())


@given(BODIES)
def test_the_reader_and_the_identifier_agree_on_who_an_event_is(text: str) -> None:
    try:
        event = decode(text)
    except (MalformedBody, InvalidEvent):
        return
    assert event.event_id == identify(text)[0]


def test_what_is_told_of_an_envelope_is_short() -> None:
    letter, described = identify(body("event-1", detail_type="t" * 9_000, source=5))
    assert letter == "event-1"
    assert described == {"id": "event-1", "detailType": "t" * 256, "time": "2026-11-23T10:00:00Z"}
