"""Keys and names are ours: a producer chooses an event's id and still steers nothing."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.identity import (
    EXECUTION_NAME_LIMIT,
    event_id_of_bytes,
    execution_name,
    producer_id_of,
    to_event_id,
)
from holdfast.domain.letters import DeadLetter
from tests.unit.samples import ACD_START, USER_ID, body, message

MESSAGE_ID = "11111111-2222-4333-8444-555555555555"
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize("harmless", ["a", "A-b_9", "x" * 64, USER_ID])
def test_a_harmless_id_is_its_own_key(harmless: str) -> None:
    assert to_event_id(harmless) == harmless


@pytest.mark.parametrize(
    "steering", ["x" * 65, "a/b", "../../archive/x", "a b", "a.b", "é", "a\n", "\ud800", "category=UNKNOWN", "a#1", "*"]
)
def test_an_id_that_could_steer_a_key_is_hashed(steering: str) -> None:
    expected = hashlib.sha256(steering.encode("utf-8", "surrogatepass")).hexdigest()
    assert to_event_id(steering) == f"sha256-{expected}"


def test_evidence_of_a_steering_id_stays_below_its_own_prefix() -> None:
    key = DeadLetter.of(message(body("../../archive/category=X/dt=1/y"))).key
    assert re.fullmatch(r"dead-letters/sha256-[0-9a-f]{64}/message-1\.json", key)


def test_an_unreadable_body_is_known_by_its_bytes() -> None:
    assert event_id_of_bytes("oops") == "sha256-" + hashlib.sha256(b"oops").hexdigest()
    assert event_id_of_bytes("oops") != event_id_of_bytes("oops ")


@pytest.mark.parametrize("no_envelope", [None, [], "x", 1, {}, {"detail": []}, {"id": 5, "detail": {"id": None}}])
def test_what_names_no_id_has_none(no_envelope: object) -> None:
    assert producer_id_of(no_envelope) is None


def test_an_execution_s_name_tells_the_topic_the_letter_and_the_message() -> None:
    digest = hashlib.sha256(b"event-1").hexdigest()[:16]
    name = execution_name(ACD_START, "event-1", MESSAGE_ID)
    assert name == f"acd-start-{digest}-11111111222243338444555555555555"
    assert execution_name(ACD_START, "event-1", MESSAGE_ID, 3) == f"{name}-g3"


@pytest.mark.parametrize(
    ("topic", "tail"),
    [
        ("v2.users.{id}.presence", "presence"),
        ("v2.audits.entitytype.{id}.entityid.{id}", "entityid"),
        ("v2.operations.events.{operationalEventId}", "operationalEventId"),
        ("Agent Event", "Agent-Event"),
        ("", "letter"),
        ("é🎧", "letter"),
        ("a" * 50, "a" * 20),
        ("one.two.three.four.five.six", "three-four-five-six"),
    ],
)
def test_the_topic_s_tail_is_short_and_clean(topic: str, tail: str) -> None:
    found = execution_name(topic, "event-1", MESSAGE_ID).rpartition("-")[0].rpartition("-")[0]
    assert len(tail) <= 20
    assert found == tail


@given(ANY_TEXT, st.from_regex(r"[A-Za-z0-9_-]{1,71}", fullmatch=True), ANY_TEXT, st.integers(0, 99))
def test_any_execution_name_is_allowed_short_and_the_same_again(
    topic: str, letter: str, message_id: str, generation: int
) -> None:
    name = execution_name(topic, letter, message_id, generation)
    assert name == execution_name(topic, letter, message_id, generation)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert len(name) <= EXECUTION_NAME_LIMIT


def test_names_differ_by_letter_message_and_generation() -> None:
    names = {
        execution_name(ACD_START, letter, message_id, generation)
        for letter in ("event-1", "event-2")
        for message_id in ("m-1", "m-2")
        for generation in (0, 1)
    }
    assert len(names) == 8


def test_a_name_holds_no_user_id_of_the_event() -> None:
    text = body(
        "event-1",
        detail_type="v2.users.{id}.presence",
        detail={"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {}},
    )
    letter = DeadLetter.of(message(text, MESSAGE_ID))
    assert USER_ID not in execution_name(letter.detail_type, letter.event_id, MESSAGE_ID)
