"""A snapshot keeps the exact message, and a redrive sends exactly that message."""

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
def test_a_snapshot_keeps_the_exact_message(text: str) -> None:
    letter = DeadLetter.of(message(text, attributes=TYPED, system={"MessageGroupId": "group"}))
    assert DeadLetter.of_document(parse_document(letter.as_json())) == letter


def test_attribute_fields_that_lambda_adds_are_not_kept() -> None:
    from_lambda = {"Bytes": {**TYPED["Bytes"], "stringListValues": [], "binaryListValues": [], "stringValue": None}}
    assert message("x", attributes=from_lambda).message_attributes == {"Bytes": TYPED["Bytes"]}


def test_a_record_without_attributes_is_read() -> None:
    bare = Message.of_record({"messageId": "m", "body": "x"})
    assert (bare.receive_count, bare.sent_at_ms, bare.dead_lettered) == (1, 0, False)
    assert (bare.triage, bare.rule_error) == (None, None)


def test_messages_that_differ_only_in_system_attributes_have_the_same_content() -> None:
    assert message("x").same_content(message("x", receives=9))
    assert not message("x").same_content(message("y"))
    assert not message("x").same_content(message("x", attributes=TYPED))
    assert not message("x", "a").same_content(message("x", "b"))


def test_counts_that_are_not_numbers_are_ignored() -> None:
    found = message("x", system={"ApproximateReceiveCount": "many", "SentTimestamp": "-1"})
    assert (found.receive_count, found.sent_at_ms) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "not JSON", "null", "[]", "{}", "[" * 5_000),
        '{"eventId": "x"}',
        '{"eventId": "x", "message": "y"}',
        '{"eventId": "x", "message": {"messageId": "m", "body": [], "messageAttributes": {}, "attributes": {}}}',
    ],
)
def test_an_object_that_is_not_a_snapshot_is_an_error(text: str) -> None:
    with pytest.raises(SnapshotMissing):
        DeadLetter.of_document(parse_document(text))


# -- the stamp -----------------------------------------------------------------------------------------------------


def test_a_stamp_is_written_and_read() -> None:
    assert TriageStamp.read(stamp().write()) == stamp()
    assert message(body(), attributes=stamped()).triage == stamp()


VALID = {"eventId": "event-1", "execution": "e", "redrives": 1, "taskToken": "t"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "oops", "null", "[]", '"x"', "5", "{}", "[" * 100_000),
        *(json.dumps({key: value for key, value in VALID.items() if key != missing}) for missing in VALID),
        *(json.dumps({**VALID, name: ""}) for name in ("eventId", "execution", "taskToken")),
        *(json.dumps({**VALID, name: 5}) for name in ("eventId", "execution", "taskToken")),
        *(json.dumps({**VALID, "redrives": wrong}) for wrong in (-1, "1", True, None, 1.5, [1], 1_001, 10**400)),
    ],
)
def test_a_stamp_in_another_form_is_ignored(text: str) -> None:
    assert TriageStamp.read(text) is None


@given(st.text())
def test_any_other_text_is_not_a_stamp(text: str) -> None:
    assert TriageStamp.read(text) is None


def test_a_stamp_of_another_data_type_is_ignored() -> None:
    assert message(body(), attributes={"Triage": {"dataType": "Binary", "binaryValue": "e30="}}).triage is None


# -- events that EventBridge could not deliver ----------------------------------------------------------------------


def test_the_error_code_of_eventbridge_marks_an_undelivered_event_unless_it_was_redriven() -> None:
    assert message(body(), attributes=RULE).rule_error == "ERROR_CODE value"
    assert message(body(), attributes={**RULE, **stamped()}).rule_error is None


def test_a_message_that_sqs_moved_is_not_undelivered_and_keeps_its_error_code_attribute() -> None:
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


def test_a_redrive_replaces_an_older_stamp() -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes=stamped(redrives=1))), stamp(redrives=2))
    assert sent.message_attributes == {"Triage": {"DataType": "String", "StringValue": stamp(redrives=2).write()}}


def test_a_redrive_removes_only_the_attributes_of_eventbridge() -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes={**RULE, "Text": TYPED["Text"]})), stamp())
    assert sent.message_attributes.keys() == {"Text", "Triage"}


@pytest.mark.parametrize(("count", "fits"), [(8, True), (9, True), (10, False)])
def test_a_message_with_ten_attributes_is_sent_without_a_stamp(count: int, fits: bool) -> None:
    sent = redriven(DeadLetter.of(message(body(), attributes=text_attributes(count))), stamp())
    assert sent.stamped is fits
    assert ("Triage" in sent.message_attributes) is fits
    assert len(sent.message_attributes) == count + fits


def test_a_new_stamp_replaces_an_older_one_among_ten_attributes() -> None:
    full = {**text_attributes(9), **stamped(redrives=1)}
    assert redriven(DeadLetter.of(message(body(), attributes=full)), stamp(redrives=2)).stamped


@pytest.mark.parametrize(("beyond", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_message_that_would_be_too_large_is_sent_without_a_stamp(beyond: int, fits: bool) -> None:
    attributes = {"Bytes": TYPED["Bytes"], "Text": TYPED["Text"]}
    without_body = redriven(DeadLetter.of(message("", attributes=attributes)), stamp())
    text = "é" * 8 + "x" * (MAX_MESSAGE_BYTES - message_bytes("", without_body.message_attributes) - 16 + beyond)
    sent = redriven(DeadLetter.of(message(text, attributes=attributes)), stamp())
    assert sent.stamped is fits
    assert sent.body == text
    assert message_bytes(sent.body, sent.message_attributes) <= MAX_MESSAGE_BYTES


def test_the_size_of_a_message_includes_names_types_and_values_in_bytes() -> None:
    attributes = {"né": {"DataType": "String", "StringValue": "ü"}, "b": {"DataType": "Binary", "BinaryValue": b"123"}}
    assert message_bytes("é", attributes) == 2 + (3 + 6 + 2) + (1 + 6 + 3)


def test_every_character_that_sqs_accepts_is_redriven_unchanged() -> None:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    allowed = "\t\n\r" + "".join(map(chr, range(0x20, 0xD800, 97))) + "\ue000\ufffd\U00010000\U0010ffff"
    kept = DeadLetter.of_document(parse_document(DeadLetter.of(Message.of_record(record(allowed))).as_json()))
    assert redriven(kept, stamp()).body == allowed
