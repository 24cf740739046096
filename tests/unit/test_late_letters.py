"""A letter that was archived and reaches the dead-letter queue later is the same letter: it keeps its archive object."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from holdfast.adapters.s3 import ArchiveBucket
from holdfast.domain.errors import Misconfigured, Unavailable
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.replay import ARCHIVE_PREFIX
from holdfast.domain.triage import Archiver, TriageInput
from tests.custody import TEN_ATTRIBUTES
from tests.fakes import MACHINE, FakeObjects
from tests.unit.samples import record
from tests.unit.test_unstamped import EVENT, Outage
from tests.world import Raw, dead

LETTERS = {"with a stamp": record(EVENT), "without room for a stamp": record(EVENT, attributes=TEN_ATTRIBUTES)}
AT = "2026-11-24T12:00:00.000Z"


@pytest.fixture
def world() -> Outage:
    return Outage()


def archived_unconfirmed(world: Outage, letter: Raw) -> list[Raw]:
    """Archive a letter whose redrive has no outcome. Returns the redriven message."""
    world.die([letter])
    (name,) = world.executions.running
    late: list[Raw] = []
    world.triage(name, world.die, late.extend)
    assert world.output(name)["category"] == "UNCONFIRMED"
    return late


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
def test_a_letter_that_fails_after_it_was_archived_adds_its_verdict_to_the_archive_object(
    world: Outage, letter: Raw
) -> None:
    late = archived_unconfirmed(world, letter)
    (before,) = world.archived
    world.die(late)
    world.run_all()
    (document,) = world.archived
    (later,) = document["later"]
    assert later["verdict"]["category"] == "EXHAUSTED"
    assert {name: document[name] for name in ("verdict", "message", "executionArn", "archivedAt")} == {
        name: before[name] for name in ("verdict", "message", "executionArn", "archivedAt")
    }
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert [detail["archive"]["key"] for _, detail in world.triage_events.published] == [key, key]
    world.assert_nothing_in_custody()


def test_a_letter_that_is_stored_after_it_was_archived_leaves_the_archive_object_as_it_is(world: Outage) -> None:
    late = archived_unconfirmed(world, record(EVENT))
    before = dict(world.objects.texts)
    world.die(late)
    world.store.refusals.clear()
    (name,) = world.executions.running
    world.triage(name)
    assert world.output(name)["outcome"] == "RECOVERED"
    assert world.archived == [json.loads(before[key]) for key in world.keys(ARCHIVE_PREFIX)]


def test_the_next_generation_of_an_aborted_execution_keeps_the_archive_object(world: Outage) -> None:
    late = archived_unconfirmed(world, record(EVENT))
    world.die(late)
    (name,) = world.executions.running
    world.executions.end(name, ExecutionStatus.ABORTED)
    world.take_in(*map(dead, late))
    (again,) = world.executions.running
    assert world.executions.inputs[again]["archivedAs"] == world.executions.inputs[name]["archivedAs"]
    world.run_all()
    assert len(world.archived) == len(world.archived[0]["later"]) == 1
    world.assert_nothing_in_custody()


@pytest.fixture
def archiver(world: Outage) -> Archiver:
    return Archiver(world.objects, world.attempt_log, world.store, "archive-bucket")


def archive(world: Outage, archiver: Archiver, letter: DeadLetter, execution: str, archived_as: str = "") -> str:
    world.objects.texts[letter.key] = letter.as_json()
    triage_input = TriageInput(letter.event_id, (letter.key,), archived_as=archived_as)
    return archiver.archive(triage_input, {"category": "UNKNOWN"}, MACHINE + execution, AT)["key"]


@pytest.mark.parametrize(
    "other",
    [Message("m2", EVENT + " "), Message("m2", EVENT, {"New": {"dataType": "String", "stringValue": "x"}})],
    ids=["body", "attributes"],
)
def test_a_letter_with_other_content_has_its_own_archive_object(
    world: Outage, archiver: Archiver, other: Message
) -> None:
    first = archive(world, archiver, DeadLetter.of(Message("m1", EVENT)), "first")
    before = world.objects.texts[first]
    second = archive(world, archiver, DeadLetter.of(other), "second", archived_as=first)
    assert second != first
    assert world.objects.texts[first] == before


def test_an_archive_object_that_does_not_exist_any_more_is_written_anew(world: Outage, archiver: Archiver) -> None:
    letter = DeadLetter.of(Message("m1", EVENT))
    key = archive(world, archiver, letter, "second", archived_as="archive/category=UNKNOWN/dt=2026-01-01/gone.json")
    assert world.keys(ARCHIVE_PREFIX) == [key]


def test_a_repeated_call_adds_one_verdict(world: Outage, archiver: Archiver) -> None:
    letter = DeadLetter.of(Message("m1", EVENT))
    first = archive(world, archiver, letter, "first")
    world.journal.lose_response("objects.update", Unavailable("lost"))
    with pytest.raises(Unavailable):
        archive(world, archiver, letter, "second", archived_as=first)
    assert archive(world, archiver, letter, "second", archived_as=first) == first
    assert len(world.archived[0]["later"]) == 1


def test_an_object_that_changes_meanwhile_is_read_again_by_a_retry(
    world: Outage, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = DeadLetter.of(Message("m1", EVENT))
    first = archive(world, archiver, letter, "first")
    monkeypatch.setattr(FakeObjects, "update", lambda *_: False)
    with pytest.raises(Unavailable):
        archive(world, archiver, letter, "second", archived_as=first)
    monkeypatch.undo()
    assert archive(world, archiver, letter, "second", archived_as=first) == first


# -- the bucket ------------------------------------------------------------------------------------------------------

KEY = "archive/x.json"
PUT = {
    "Bucket": "archive-bucket",
    "Key": KEY,
    "Body": b"new",
    "ContentType": "application/json",
    "ChecksumAlgorithm": "SHA256",
    "IfMatch": "etag",
}


@pytest.fixture
def s3() -> Iterator[tuple[ArchiveBucket, Stubber]]:
    client: Any = boto3.client("s3", region_name="eu-central-1", aws_access_key_id="none", aws_secret_access_key="none")
    with closing(client), Stubber(client) as stub:
        yield ArchiveBucket(client, "archive-bucket"), stub
        stub.assert_no_pending_responses()


def holds(stub: Stubber, text: bytes) -> None:
    body = StreamingBody(io.BytesIO(text), len(text))
    stub.add_response("get_object", {"Body": body, "ETag": "etag"}, {"Bucket": "archive-bucket", "Key": KEY})


def test_an_object_is_replaced_if_it_has_not_changed(s3: tuple[ArchiveBucket, Stubber]) -> None:
    bucket, stub = s3
    holds(stub, b"old")
    stub.add_response("put_object", {}, PUT)
    assert bucket.update(KEY, "old", "new")


def test_an_object_with_another_text_is_not_replaced(s3: tuple[ArchiveBucket, Stubber]) -> None:
    bucket, stub = s3
    holds(stub, b"changed")
    assert not bucket.update(KEY, "old", "new")


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"])
def test_an_object_that_changes_before_the_write_is_not_replaced(s3: tuple[ArchiveBucket, Stubber], code: str) -> None:
    bucket, stub = s3
    holds(stub, b"old")
    stub.add_client_error("put_object", code)
    assert not bucket.update(KEY, "old", "new")


def test_an_object_that_does_not_exist_is_not_replaced(s3: tuple[ArchiveBucket, Stubber]) -> None:
    bucket, stub = s3
    stub.add_client_error("get_object", "NoSuchKey")
    assert not bucket.update(KEY, "old", "new")


def test_a_denied_replacement_is_an_error(s3: tuple[ArchiveBucket, Stubber]) -> None:
    bucket, stub = s3
    holds(stub, b"old")
    stub.add_client_error("put_object", "AccessDenied")
    with pytest.raises(Misconfigured):
        bucket.update(KEY, "old", "new")
