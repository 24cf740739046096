"""Event ids in keys, and the names of executions. A producer's id cannot change a path."""

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


@pytest.mark.parametrize("safe", ["a", "A-b_9", "x" * 64, USER_ID])
def test_an_id_that_is_safe_in_a_key_is_used_unchanged(safe: str) -> None:
    assert to_event_id(safe) == safe


@pytest.mark.parametrize(
    "unsafe", ["x" * 65, "a/b", "../../archive/x", "a b", "a.b", "é", "a\n", "\ud800", "category=UNKNOWN", "a#1", "*"]
)
def test_an_id_that_is_not_safe_in_a_key_is_hashed(unsafe: str) -> None:
    expected = hashlib.sha256(unsafe.encode("utf-8", "surrogatepass")).hexdigest()
    assert to_event_id(unsafe) == f"sha256-{expected}"


def test_a_body_without_an_id_is_identified_by_a_hash_of_its_bytes() -> None:
    assert event_id_of_bytes("oops") == "sha256-" + hashlib.sha256(b"oops").hexdigest()
    assert event_id_of_bytes("oops") != event_id_of_bytes("oops ")


@pytest.mark.parametrize("no_envelope", [None, [], "x", 1, {}, {"detail": []}, {"id": 5, "detail": {"id": None}}])
def test_an_envelope_without_an_id_has_no_producer_id(no_envelope: object) -> None:
    assert producer_id_of(no_envelope) is None


def test_an_execution_name_contains_topic_event_message_and_generation() -> None:
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
def test_an_execution_name_begins_with_the_end_of_the_topic(topic: str, tail: str) -> None:
    found = execution_name(topic, "event-1", MESSAGE_ID).rpartition("-")[0].rpartition("-")[0]
    assert len(tail) <= 20
    assert found == tail


@given(ANY_TEXT, st.from_regex(r"[A-Za-z0-9_-]{1,71}", fullmatch=True), ANY_TEXT, st.integers(0, 99))
def test_an_execution_name_is_valid_and_deterministic_for_any_text(
    topic: str, event_id: str, message_id: str, generation: int
) -> None:
    name = execution_name(topic, event_id, message_id, generation)
    assert name == execution_name(topic, event_id, message_id, generation)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert len(name) <= EXECUTION_NAME_LIMIT


def test_an_execution_name_contains_no_user_id() -> None:
    text = body(
        "event-1",
        detail_type="v2.users.{id}.presence",
        detail={"topicName": f"v2.users.{USER_ID}.presence", "eventBody": {}},
    )
    letter = DeadLetter.of(message(text, MESSAGE_ID))
    assert USER_ID not in execution_name(letter.detail_type, letter.event_id, MESSAGE_ID)
