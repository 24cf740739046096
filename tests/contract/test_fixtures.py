"""The sample events load, are listed in the README, contain what their names say, and are synthetic."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.dynamodb import PACK_FROM_BYTES
from holdfast.domain.envelope import Event
from holdfast.domain.errors import Failure
from holdfast.domain.fan_out import publication
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, Message
from holdfast.domain.processing import Record
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan
from holdfast.domain.strict_json import serialise
from holdfast.domain.triage import TriageInput
from tests.contract.project import EVENTS, FUNCTION_IDS, fixtures

STATES = ("classify", "redrive", "archive", "settle")
FICTIONAL_NUMBER = re.compile(r"\+1[2-9]\d\d55501\d\d")


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def records(fixture: str) -> list[Record]:
    return [Record.of(raw) for raw in load(EVENTS / f"{fixture}.json")["Records"]]


def letters(fixture: str) -> list[DeadLetter]:
    return [DeadLetter.of(Message.of_record(raw)) for raw in load(EVENTS / f"{fixture}.json")["Records"]]


def texts(node: Any) -> Iterator[str]:
    """Every string in a document, also inside JSON bodies. DynamoDB numbers are left out."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield key
            if key != "N":
                yield from texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from texts(child)
    elif isinstance(node, str):
        yield node
        if node.startswith("{"):
            try:
                yield from texts(json.loads(node))
            except ValueError:
                return


def test_every_function_has_fixtures_and_every_folder_belongs_to_a_function_or_the_executions() -> None:
    assert {path.parent.name for path in fixtures()} == {*FUNCTION_IDS, "executions"}


def test_every_fixture_has_a_file_with_its_expected_results() -> None:
    expectations = {path.parent.parent / path.name: load(path) for path in EVENTS.glob("*/expected/*.json")}
    assert expectations.keys() == set(fixtures())
    for path, expectation in expectations.items():
        assert "answer" in expectation, path
        assert expectation.keys() <= {"setup", "answer", "leaves"}, path
    assert set(EVENTS.rglob("*.json")) == {*fixtures(), *EVENTS.glob("*/expected/*.json")}


def test_the_readme_lists_exactly_the_fixtures() -> None:
    listed: set[str] = set()
    for section in (EVENTS / "README.md").read_text().split("\n## ")[1:]:
        folder, _, lines = section.partition("\n")
        listed |= {
            f"{folder}/{name}" for name, _ in re.findall(r"^\| `([\w-]+)\.json` \| (\S.+) \|$", lines, re.MULTILINE)
        }
    assert listed == {named(path) for path in fixtures()}


@pytest.mark.parametrize("path", fixtures("processor", "dead_letter_intake"), ids=named)
def test_a_queue_fixture_is_a_batch_in_the_shape_of_lambda(path: Path) -> None:
    raw_records = load(path)["Records"]
    assert raw_records
    for raw in raw_records:
        assert raw["md5OfBody"] == hashlib.md5(raw["body"].encode(), usedforsecurity=False).hexdigest()
        assert raw["eventSource"] == "aws:sqs"
        message = Message.of_record(raw)
        assert message.receive_count >= 1
        assert message.sent_at_ms > 0
        for attribute in message.message_attributes.values():
            assert ("binaryValue" in attribute) == attribute["dataType"].startswith("Binary")


@pytest.mark.parametrize("path", [p for p in fixtures("processor") if p.stem != "mixed-batch"], ids=named)
def test_every_record_of_the_processor_contains_an_event(path: Path) -> None:
    for record in records(named(path)):
        assert isinstance(record.event, Event)
        assert record.event.time is not None
        assert record.receipt


@pytest.mark.parametrize(
    ("fixture", "prefixes"),
    [
        ("genesys-acd-start", []),
        ("genesys-acd-end", ["answeredUser"]),
        ("genesys-user-end", ["user"]),
        ("genesys-customer-end", []),
        ("genesys-presence", ["user"]),
        ("plain-shape", ["user"]),
    ],
)
def test_an_event_names_the_users_in_the_readme(fixture: str, prefixes: list[str]) -> None:
    (record,) = records(f"processor/{fixture}")
    assert isinstance(record.event, Event)
    assert [reference.prefix for reference in record.event.references()] == prefixes


def test_the_transcription_is_packed_and_contains_more_than_ascii() -> None:
    (record,) = records("processor/genesys-transcription")
    assert isinstance(record.event, Event)
    assert len(serialise(record.event.envelope)) >= PACK_FROM_BYTES
    assert not record.message.body.isascii()


def test_the_operational_event_has_only_the_timestamp_of_genesys() -> None:
    (record,) = records("processor/genesys-operational-event")
    assert isinstance(record.event, Event)
    assert "eventTime" not in record.event.envelope["detail"]["eventBody"]
    assert record.event.time == record.event.envelope["detail"]["timestamp"]


def test_the_mixed_batch_contains_one_malformed_and_one_invalid_record() -> None:
    found = [
        one.event.category if isinstance(one.event, Failure) else "EVENT" for one in records("processor/mixed-batch")
    ]
    assert found == ["EVENT", "MALFORMED", "INVALID", "EVENT", "EVENT"]


def test_the_duplicate_in_a_batch_is_one_event_in_two_messages() -> None:
    first, other, again = records("processor/duplicate-in-batch")
    assert first.event_id == again.event_id != other.event_id
    assert first.message.message_id != again.message.message_id


def test_the_redriven_record_has_a_stamp_for_its_own_event_and_the_forged_one_for_another() -> None:
    (redriven,), (forged,) = records("processor/redriven"), records("processor/forged-triage")
    assert redriven.message.triage_stamp is not None
    assert redriven.message.triage_stamp.event_id == redriven.event_id
    assert forged.message.triage_stamp is not None
    assert forged.message.triage_stamp.event_id != forged.event_id


def test_the_throttled_record_names_a_user_to_look_up() -> None:
    (record,) = records("processor/throttled")
    assert isinstance(record.event, Event)
    assert [reference.prefix for reference in record.event.references()] == ["user"]


def test_the_crash_suspect_is_in_its_third_receive_and_the_other_record_in_its_first() -> None:
    assert [one.message.receive_count for one in records("processor/crash-suspect")] == [3, 1]


def test_the_record_with_ten_attributes_has_as_many_as_sqs_allows() -> None:
    (record,) = records("processor/ten-attributes")
    assert len(record.message.message_attributes) == 10


def test_an_id_that_is_no_key_is_replaced_by_its_hash() -> None:
    (record,) = records("processor/id-that-is-no-key")
    assert re.fullmatch(r"sha256-[0-9a-f]{64}", record.event_id)


def test_the_plain_shape_is_identified_by_the_id_in_its_detail() -> None:
    (record,) = records("processor/plain-shape")
    assert isinstance(record.event, Event)
    assert "id" not in record.event.envelope
    assert record.event_id == record.event.envelope["detail"]["id"]


@pytest.mark.parametrize(
    ("fixture", "dead_lettered", "rule_error", "stamped"),
    [
        ("exhausted", True, None, False),
        ("malformed", True, None, False),
        ("invalid", True, None, False),
        ("rule-target-dead-letter", False, "NO_PERMISSIONS", False),
        ("redriven-dead-lettered-again", True, None, True),
        ("binary-attribute", True, None, False),
        ("delivered-twice", True, None, False),
    ],
)
def test_a_dead_letter_shows_how_it_reached_the_dlq(
    fixture: str, dead_lettered: bool, rule_error: str | None, stamped: bool
) -> None:
    for letter in letters(f"dead_letter_intake/{fixture}"):
        assert letter.message.dead_lettered is dead_lettered
        assert letter.message.rule_error == rule_error
        assert (letter.message.triage_stamp is not None) is stamped
        assert letter.key == f"{SNAPSHOT_PREFIX}{letter.event_id}/{letter.message.message_id}.json"


def test_the_message_delivered_twice_is_the_same_message() -> None:
    first, again = letters("dead_letter_intake/delivered-twice")
    assert first.message.same_content(again.message)


@pytest.mark.parametrize(
    ("fixture", "contents"),
    [
        ("stream-batch", ["event", "event", "event"]),
        ("packed-item", ["event"]),
        ("pointer", ["eventPointer"]),
        ("expired-item", [None, "event"]),
    ],
)
def test_the_fan_out_publishes_every_new_item(fixture: str, contents: list[str | None]) -> None:
    made = [publication(record) for record in load(EVENTS / "fan_out" / f"{fixture}.json")["Records"]]
    found = [next(iter(json.loads(one.detail).keys() & {"event", "eventPointer"})) if one else None for one in made]
    assert found == contents


@pytest.mark.parametrize(
    "path", [*fixtures(*STATES), *(p for p in fixtures("executions") if p.stem.startswith("triage"))], ids=named
)
def test_every_state_can_read_its_input_and_the_snapshots_belong_to_the_event(path: Path) -> None:
    payload = load(path)
    case = TriageInput.read(payload)
    assert len(json.dumps(payload)) < 262_144
    for key in case.snapshots:
        assert key.startswith(ARCHIVE_PREFIX if case.replay else f"{SNAPSHOT_PREFIX}{case.event_id}/")


@pytest.mark.parametrize("path", fixtures("redrive", "archive", "settle"), ids=named)
def test_a_later_state_has_the_fields_that_its_handler_needs(path: Path) -> None:
    needed = {
        "redrive": {"execution", "taskToken"},
        "archive": {"execution", "archivedAt", "verdict"},
        "settle": {"outcome", "verdict"},
    }[path.parent.name]
    assert needed <= load(path).keys()


@pytest.mark.parametrize("path", fixtures("replay"), ids=named)
def test_every_step_of_a_replay_can_read_its_plan(path: Path) -> None:
    event = load(path)
    fields = event.get("plan") or {**event["input"], "run": event["run"], "startedAt": event["startedAt"]}
    plan = Plan.read(fields)
    assert Plan.read(plan.as_json()) == plan
    assert event.get("key", plan.prefix).startswith(plan.prefix)


@pytest.mark.parametrize("path", [p for p in fixtures("executions") if p.stem.startswith("replay")], ids=named)
def test_every_input_of_the_replay_machine_is_a_plan(path: Path) -> None:
    Plan.read({**load(path), "run": "a-run", "startedAt": "2026-11-24T08:00:00.000Z"})


def test_the_sweep_is_started_by_the_schedule_or_with_a_number_of_hours() -> None:
    assert load(EVENTS / "evidence_sweep/schedule.json")["detail-type"] == "Scheduled Event"
    assert load(EVENTS / "evidence_sweep/by-hand.json") == {"olderThanHours": 0}


@pytest.mark.parametrize("path", sorted(EVENTS.rglob("*.json")), ids=named)
def test_no_fixture_contains_a_real_phone_number_or_e_mail_address(path: Path) -> None:
    for text in texts(load(path)):
        for address in re.findall(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", text):
            assert address.endswith("@example.com")
        for number in re.findall(r"\+\d{7,15}(?!\w)", text):
            assert FICTIONAL_NUMBER.fullmatch(number)
        for uri in re.findall(r"(?:tel|sip|mailto):([^\s\"',]+)", text):
            assert FICTIONAL_NUMBER.fullmatch(uri)
        assert not re.search(r"(?<![\w.:/-])\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?![\w-])", text)
        assert not re.search(r"(?<![\w.:/+-])\d{10,11}(?![\w.:/-])", text)


@pytest.mark.parametrize("path", sorted(EVENTS.rglob("*.json")), ids=named)
def test_a_fixture_is_formatted_as_indented_json(path: Path) -> None:
    assert path.read_text() == json.dumps(load(path), indent=2, ensure_ascii=False) + "\n"
