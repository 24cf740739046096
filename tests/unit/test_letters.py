"""A letter keeps its exact message, and a redrive sends exactly that message again."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.errors import SnapshotMissing
from holdfast.domain.letters import (
    MAX_MESSAGE_BYTES,
    RULE_ATTRIBUTES,
    DeadLetter,
    Message,
    TriageStamp,
    message_bytes,
    parse_document,
    redriven,
)
from tests.unit.samples import body, message, record, stamp, stamped

BINARY = bytes(range(256))
TYPED = {
    "Text": {"dataType": "String", "stringValue": "Zoë 🎧"},
    "Custom": {"dataType": "String.json", "stringValue": "{}"},
    "Number": {"dataType": "Number", "stringValue": "007.50"},
    "Bytes": {"dataType": "Binary", "binaryValue": base64.b64encode(BINARY).decode()},
}
RULE = {name: {"dataType": "String", "stringValue": f"{name} value"} for name in sorted(RULE_ATTRIBUTES)}


def text_attributes(count: int) -> dict[str, dict[str, Any]]:
    return {f"attribute-{n}": {"dataType": "String", "stringValue": str(n)} for n in range(count)}


# -- the snapshot --------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=200))
def test_evidence_gives_back_the_exact_message(text: str) -> None:
    letter = DeadLetter.of(message(text, attributes=TYPED, system={"MessageGroupId": "group"}))
    assert DeadLetter.of_document(parse_document(letter.as_json())) == letter


def test_what_lambda_adds_to_attributes_is_not_kept() -> None:
    given_by_lambda = {"Bytes": {**TYPED["Bytes"], "stringListValues": [], "binaryListValues": [], "stringValue": None}}
    assert message("x", attributes=given_by_lambda).message_attributes == {"Bytes": TYPED["Bytes"]}


def test_a_record_without_attributes_is_a_message() -> None:
    bare = Message.of_record({"messageId": "m", "body": "x"})
    assert (bare.receive_count, bare.sent_at_ms, bare.dead_lettered, bare.triage, bare.rule_error) == (
        1,
        0,
        False,
        None,
        None,
    )


def test_system_attributes_do_not_make_another_message() -> None:
    assert message("x").same_content(message("x", receives=9))
    assert not message("x").same_content(message("y"))
    assert not message("x").same_content(message("x", attributes=TYPED))
    assert not message("x", "a").same_content(message("x", "b"))


def test_counts_that_are_no_numbers_count_as_not_there() -> None:
    odd = message("x", system={"ApproximateReceiveCount": "many", "SentTimestamp": "-1"})
    assert (odd.receive_count, odd.sent_at_ms) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "null",
        "[]",
        "{}",
        "[" * 5_000,
        '{"eventId": "x"}',
        '{"eventId": "x", "message": "y"}',
        '{"eventId": "x", "message": {"messageId": "m", "body": [], "messageAttributes": {}, "attributes": {}}}',
    ],
)
def test_an_object_that_is_no_evidence_is_named_so(text: str) -> None:
    with pytest.raises(SnapshotMissing):
        DeadLetter.of_document(parse_document(text))


def test_an_unreadable_letter_has_a_key_and_a_topic_all_the_same() -> None:
    letter = DeadLetter.of(message("oops"))
    assert letter.key == f"dead-letters/{letter.event_id}/message-1.json"
    assert letter.detail_type == "unreadable"


# -- the stamp -----------------------------------------------------------------------------------------------------


def test_a_stamp_is_read_as_it_was_written() -> None:
    assert TriageStamp.read(stamp().write()) == stamp()
    assert message(body(), attributes=stamped()).triage == stamp()


SOUND = {"eventId": "event-1", "execution": "e", "redrives": 1, "taskToken": "t"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oops",
        "null",
        "[]",
        '"x"',
        "5",
        "{}",
        "[" * 100_000,
        *(json.dumps({key: value for key, value in SOUND.items() if key != gone}) for gone in SOUND),
        *(json.dumps({**SOUND, name: ""}) for name in ("eventId", "execution", "taskToken")),
        *(json.dumps({**SOUND, name: 5}) for name in ("eventId", "execution", "taskToken")),
        *(json.dumps({**SOUND, "redrives": odd}) for odd in (-1, "1", True, None, 1.5, [1], 1_001, 10**400)),
    ],
)
def test_a_forged_or_odd_stamp_counts_as_absent(text: str) -> None:
    assert TriageStamp.read(text) is None


@given(st.text())
def test_no_text_trips_the_reader_of_stamps(text: str) -> None:
    assert TriageStamp.read(text) is None


def test_a_stamp_of_another_type_counts_as_absent() -> None:
    assert message(body(), attributes={"Triage": {"dataType": "Binary", "binaryValue": "e30="}}).triage is None


# -- the rule's dead letters ---------------------------------------------------------------------------------------


def test_eventbridge_s_error_code_tells_that_it_could_not_deliver() -> None:
    assert message(body(), attributes=RULE).rule_error == "ERROR_CODE value"


def test_a_redriven_message_was_delivered_whatever_else_it_carries() -> None:
    assert message(body(), attributes={**RULE, **stamped()}).rule_error is None


def test_a_message_that_sqs_moved_was_delivered_whatever_its_producer_calls_its_attributes() -> None:
    moved = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-central-1:123456789012:buffer"}
    own = message(body(), attributes={"ERROR_CODE": {"dataType": "String", "stringValue": "theirs"}}, system=moved)
    assert own.rule_error is None
    assert "ERROR_CODE" in redriven(DeadLetter.of(own), stamp()).message_attributes


# -- the redrive ---------------------------------------------------------------------------------------------------


def test_a_redrive_sends_the_same_body_attributes_and_group() -> None:
    text = ' {"id": "event-1",  "odd": "Zoë \\u00fc"}\n'
    sent = redriven(DeadLetter.of(message(text, attributes=TYPED, system={"MessageGroupId": "group"})), stamp())
    assert sent.body == text
    assert sent.group_id == "group"
    assert sent.stamped
    assert sent.message_attributes == {
        "Text": {"DataType": "String", "StringValue": "Zoë 🎧"},
        "Custom": {"DataType": "String.json", "StringValue": "{}"},
        "Number": {"DataType": "Number", "StringValue": "007.50"},
        "Bytes": {"DataType": "Binary", "BinaryValue": BINARY},
        "Triage": {"DataType": "String", "StringValue": stamp().write()},
    }


def test_a_message_without_a_group_gets_none() -> None:
    assert redriven(DeadLetter.of(message(body())), stamp()).group_id is None


def test_an_older_stamp_is_replaced() -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes=stamped(redrives=1))), stamp(redrives=2))
    assert sent.message_attributes == {"Triage": {"DataType": "String", "StringValue": stamp(redrives=2).write()}}


def test_what_eventbridge_added_is_taken_off_and_nothing_else() -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes={**RULE, "Text": TYPED["Text"]})), stamp())
    assert sent.message_attributes.keys() == {"Text", "Triage"}


@pytest.mark.parametrize(("count", "fits"), [(8, True), (9, True), (10, False)])
def test_a_stamp_is_left_off_where_ten_attributes_would_not_hold_it(count: int, fits: bool) -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes=text_attributes(count))), stamp())
    assert sent.stamped is fits
    assert ("Triage" in sent.message_attributes) is fits
    assert len(sent.message_attributes) == count + fits


def test_ten_attributes_with_an_older_stamp_among_them_hold_the_new_one() -> None:
    full = {**text_attributes(9), **stamped(redrives=1)}
    assert redriven(DeadLetter.of(message(body(), attributes=full)), stamp(redrives=2)).stamped


@pytest.mark.parametrize(("beyond", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_stamp_is_left_off_where_a_message_s_bytes_would_not_hold_it(beyond: int, fits: bool) -> None:
    attributes = {"Bytes": TYPED["Bytes"], "Text": TYPED["Text"]}
    without_body = redriven(DeadLetter.of(message("", attributes=attributes)), stamp())
    text = "é" * 8 + "x" * (MAX_MESSAGE_BYTES - message_bytes("", without_body.message_attributes) - 16 + beyond)
    sent = redriven(DeadLetter.of(message(text, attributes=attributes)), stamp())
    assert sent.stamped is fits
    assert sent.body == text
    assert message_bytes(sent.body, sent.message_attributes) <= MAX_MESSAGE_BYTES


def test_the_size_counts_names_types_and_values_in_bytes() -> None:
    attributes = {"né": {"DataType": "String", "StringValue": "ü"}, "b": {"DataType": "Binary", "BinaryValue": b"123"}}
    assert message_bytes("é", attributes) == 2 + (3 + 6 + 2) + (1 + 6 + 3)


def test_every_body_that_a_queue_can_hold_goes_back_byte_for_byte() -> None:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    allowed = "\t\n\r" + "".join(map(chr, range(0x20, 0xD800, 97))) + "\ue000\ufffd\U00010000\U0010ffff"
    kept = DeadLetter.of_document(parse_document(DeadLetter.of(Message.of_record(record(allowed))).as_json()))
    assert redriven(kept, stamp()).body == allowed
