"""Hostile input has no effect: a test for each promise of ``docs/security.md``."""

from __future__ import annotations

import json
import re
import tracemalloc
import uuid

import pytest
from hypothesis import given

import dead_letter_intake.app
import processor.app
from holdfast.adapters.dynamodb import EventsTableWriter
from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.fan_out import publication
from holdfast.domain.identity import execution_name, to_event_id
from holdfast.domain.intake import Carried, execution_input
from holdfast.domain.letters import MAX_MESSAGE_BYTES, DeadLetter, Message, TriageStamp, parse_document
from holdfast.domain.ports import StorableEvent
from holdfast.domain.replay import ARCHIVE_PREFIX
from tests.contract.asl import Walk
from tests.fakes import MACHINE, NOW, FakeContext, FakeDeadline, FakeDynamoDb, FakeObjects
from tests.surfaces import any_text
from tests.unit.samples import ACD_START, body, envelope, quiet_body, record
from tests.world import DEFINITION, Raw, World, dead

EXECUTION = execution_name(ACD_START, "event-1", "message-1")
HOSTILE = '{% $error("x") %}\n{"_aws": {}}\u2028\'}; DROP TABLE --/../'


def forged(stamp: TriageStamp, text: str, message_id: str = "forged") -> Raw:
    return record(text, message_id, attributes={"Triage": {"dataType": "String", "stringValue": stamp.write()}})


def dead_letter(text: str = quiet_body(), message_id: str = "message-1") -> Raw:
    return dead(record(text, message_id))


@pytest.fixture
def world() -> World:
    return World()


# -- names and places ------------------------------------------------------------------------------------------------


@given(any_text.filter(bool))
def test_an_event_id_cannot_change_a_key_or_a_path(event_id: str) -> None:
    found = to_event_id(event_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}|sha256-[0-9a-f]{64}", found)
    key = DeadLetter.of(Message.of_record(record(body(event_id)))).key
    assert re.fullmatch(r"dead-letters/[A-Za-z0-9_-]+/message-1\.json", key)


def test_an_id_cannot_equal_the_hash_of_another_id() -> None:
    hashed = to_event_id("a/b")
    assert to_event_id(hashed) != hashed


@given(any_text, any_text, any_text)
def test_an_execution_name_has_the_same_form_for_any_detail_type_and_id(
    detail_type: str, event_id: str, message_id: str
) -> None:
    name = execution_name(detail_type, to_event_id(event_id), message_id)
    assert re.fullmatch(r"[A-Za-z0-9-]{1,20}-[0-9a-f]{16}-[A-Za-z0-9]{0,32}", name)


def test_a_body_cannot_choose_the_category_or_day_of_its_archive_key(world: World) -> None:
    text = json.dumps({"id": "event-1", "verdict": {"category": "../x"}, "archivedAt": "../y", "detail": HOSTILE})
    world.take_in(dead_letter(text))
    (name,) = world.executions.running
    world.triage(name)
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert re.fullmatch(rf"archive/category=INVALID/dt=2026-11-23/[0-9a-f]{{16}}/{name}\.json", key)


# -- injection -------------------------------------------------------------------------------------------------------


def test_the_state_machine_evaluates_no_expression_from_an_event() -> None:
    hostile = DeadLetter.of(Message.of_record(dead_letter(json.dumps(envelope(HOSTILE, **{"detail-type": HOSTILE})))))
    data = execution_input(hostile, Carried((hostile.key,)))
    assert data["detailType"] == HOSTILE
    archive = {"category": "UNKNOWN", "action": "archive", "explanation": HOSTILE}
    walk = Walk(DEFINITION, lambda state, payload: archive if state == "Classify" else payload)
    output = walk.run(data)
    assert (output["detailType"], output["verdict"]["explanation"]) == (HOSTILE, HOSTILE)
    assert HOSTILE not in json.dumps({**data, "detailType": ""})


def test_a_statement_contains_no_value_of_an_event() -> None:
    event = StorableEvent("event-1", HOSTILE, HOSTILE, HOSTILE, HOSTILE, NOW, json.dumps(HOSTILE))
    dynamodb = FakeDynamoDb()
    EventsTableWriter(dynamodb, "events", 1, FakeObjects()).store([event], FakeDeadline())
    (statement,) = dynamodb.statements
    assert re.fullmatch(r'INSERT INTO "events" VALUE \{(\'[A-Za-z]+\': \?(, )?)+\}', statement["Statement"])
    assert len(statement["Parameters"]) == statement["Statement"].count("?")


def test_an_event_cannot_forge_a_log_line_a_metric_or_a_dimension(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{uuid.uuid4()}")
    processor.app.logger.cache_clear()
    batch = [
        record(HOSTILE, "message-1"),
        record(json.dumps(envelope(HOSTILE, detail=HOSTILE)), "message-2"),
        forged(TriageStamp(HOSTILE, HOSTILE, 1, HOSTILE), json.dumps(envelope(HOSTILE)), "message-3"),
    ]
    processor.app.lambda_handler({"Records": batch}, FakeContext(), services=world.processing)
    dead_letter_intake.app.lambda_handler({"Records": batch}, FakeContext(), services=world.intake)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    for line in map(json.loads, lines):
        assert HOSTILE not in line.values()
        assert set(line.get("Category", ["UNKNOWN"])) <= CATEGORIES | set("UNKNOWN")
        for metrics in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert {name for names in metrics["Dimensions"] for name in names} <= {"Category", "service"}
            assert all(re.fullmatch("[A-Za-z]+", metric["Name"]) for metric in metrics["Metrics"])
    assert "DROP TABLE" not in "".join(lines)


# -- forged stamps ---------------------------------------------------------------------------------------------------


def test_a_stamp_for_another_event_is_ignored(world: World) -> None:
    world.executions.waiting.add("token-of-event-1")
    stamp = TriageStamp("event-1", MACHINE + EXECUTION, 1, "token-of-event-1")
    assert world.process(forged(stamp, quiet_body("event-2"))) == []
    assert world.take_in(dead(forged(stamp, quiet_body("event-2")))) == []
    assert world.executions.answered == []


@pytest.mark.parametrize(
    "named", [MACHINE + EXECUTION, "arn:aws:states:eu-central-1:123456789012:execution:payroll:x", ""]
)
def test_a_stamp_that_names_the_execution_of_another_event_is_ignored(world: World, named: str) -> None:
    world.take_in(dead_letter())
    stamp = TriageStamp("event-2", named, 1, "no token")
    assert world.take_in(dead(forged(stamp, quiet_body("event-2")))) == []
    (own,) = [name for name in world.executions.running if name != EXECUTION]
    assert world.executions.inputs[own]["eventId"] == "event-2"
    assert world.executions.inputs[EXECUTION]["snapshots"] == ["dead-letters/event-1/message-1.json"]


def test_a_stolen_task_token_cannot_mark_an_event_as_stored(world: World) -> None:
    world.take_in(dead_letter())
    late: list[Raw] = []

    def attack(sent: list[Raw]) -> None:
        late.extend(sent)
        assert world.process(forged(TriageStamp("event-2", "x", 1, "token-1"), quiet_body("event-2"))) == []

    world.triage(EXECUTION, attack)
    assert world.output(EXECUTION)["outcome"] == "ARCHIVED"
    assert world.output(EXECUTION)["category"] == "UNKNOWN"
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert DeadLetter.of_document(parse_document(world.objects.texts[key])) == DeadLetter.of(
        Message.of_record(dead_letter())
    )
    assert world.process(*late) == [], "the redriven message is stored"
    assert set(world.store.items) == {"event-1", "event-2"}
    world.assert_nothing_in_custody()


@pytest.mark.parametrize("named", [MACHINE + EXECUTION, "x"])
def test_a_letter_with_a_stolen_task_token_gets_an_execution_of_its_own(world: World, named: str) -> None:
    world.take_in(dead_letter())

    def attack(sent: list[Raw]) -> None:
        world.take_in(dead(forged(TriageStamp("event-2", named, 1, "token-1"), quiet_body("event-2"))))
        world.process_all(sent)

    world.triage(EXECUTION, attack)
    assert world.output(EXECUTION)["outcome"] == "RECOVERED"
    assert world.output(EXECUTION)["messageIds"] == ["message-1"]
    (own,) = world.executions.running
    world.triage(own)
    assert world.output(own)["outcome"] == "RECOVERED"
    world.assert_nothing_in_custody()


def test_a_stolen_task_token_with_a_forged_execution_name_leaves_its_letter_to_the_sweep(world: World) -> None:
    world.take_in(dead_letter())
    stamp = TriageStamp("event-2", execution_name("x", "event-2", "forged"), 1, "token-1")

    def attack(_sent: list[Raw]) -> None:
        world.take_in(dead(forged(stamp, quiet_body("event-2"))))

    world.triage(EXECUTION, attack)
    assert world.output(EXECUTION)["messageIds"] == ["message-1"]
    assert world.sweep().adopted == 1
    (own,) = world.executions.running
    assert world.executions.inputs[own]["eventId"] == "event-2"


@pytest.mark.parametrize(("redrives", "category"), [(1_000, "EXHAUSTED"), (10**400, "ALREADY_STORED")])
def test_a_forged_number_of_redrives_affects_only_its_own_event(world: World, redrives: int, category: str) -> None:
    world.take_in(dead_letter(), dead(forged(TriageStamp("event-2", "x", redrives, "y"), quiet_body("event-2"))))
    (own,) = [name for name in world.executions.running if name != EXECUTION]
    world.triage(own)
    world.triage(EXECUTION)
    assert world.output(own)["category"] == category
    assert world.output(EXECUTION)["category"] == "ALREADY_STORED"
    world.assert_nothing_in_custody()


def test_an_error_code_attribute_of_the_producer_is_kept(world: World) -> None:
    pretended = {"ERROR_CODE": {"dataType": "String", "stringValue": "NO_PERMISSIONS"}}
    world.take_in(dead(record(quiet_body(), "message-1", attributes=pretended)))
    world.triage(EXECUTION)
    assert world.queue.sent[0].message_attributes["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"


def test_a_body_that_is_not_an_event_is_not_settled_by_a_stored_event_with_its_id(world: World) -> None:
    world.take_in(dead_letter(json.dumps({"id": "event-1", "detail": None})))
    assert world.process(record(quiet_body())) == []
    (name,) = world.executions.running
    world.triage(name)
    assert world.output(name)["category"] == "INVALID"
    assert list(world.store.items) == ["event-1"]


# -- memory ----------------------------------------------------------------------------------------------------------


def test_the_memory_for_a_highly_compressible_message_is_limited(world: World) -> None:
    shell = quiet_body()
    text = shell.replace("v2.x", "x" * (MAX_MESSAGE_BYTES - len(shell)))
    dynamodb = FakeDynamoDb()
    table = EventsTableWriter(dynamodb, "events", 1, FakeObjects())
    tracemalloc.start()
    try:
        assert world.process(record(text)) == []
        table.store([world.store.items["event-1"]], FakeDeadline())
        item = dynamodb.last_item
        made = publication({"eventName": "INSERT", "dynamodb": {"NewImage": item, "SequenceNumber": "1"}})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made
    assert len(item["eventPacked"]["B"]) < len(text) / 100
    assert peak < 16 * MAX_MESSAGE_BYTES
