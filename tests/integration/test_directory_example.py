"""``examples/directory``: enrichment from a table of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.directory.table_directory import TableDirectory
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.envelope import Event, examine
from holdfast.domain.errors import Failure
from holdfast.domain.users import Entity, Kind
from tests.e2e.pipeline import text_of, with_user
from tests.fakes import FakeDeadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.cloud import Cloud


@pytest.fixture
def directory(patched: Cloud) -> Iterator[TableDirectory]:
    dynamodb, name = patched.client("dynamodb"), patched.name("directory")
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    yield TableDirectory(dynamodb, name)
    dynamodb.delete_table(TableName=name)


def event_of_user() -> tuple[str, Event]:
    event = with_user()
    content = examine(text_of(event)).content
    assert isinstance(content, Event)
    return event["detail"]["eventBody"]["userId"], content


def put(directory: TableDirectory, user_id: str, **texts: str) -> None:
    item = {name: {"S": text} for name, text in {"id": user_id, **texts}.items()}
    directory.client.put_item(TableName=directory.table, Item=item)


def test_names_come_from_the_table_and_an_unknown_user_is_no_failure(directory: TableDirectory) -> None:
    (known, event), (_, other) = event_of_user(), event_of_user()
    put(directory, known, name="Ada Lovelace", email="ada@example.com")
    result = Enrichment(directory, required=True).enrich({"a": event, "b": other}, FakeDeadline())
    assert not result.failures
    enriched, unknown = result.events["a"], result.events["b"]
    assert isinstance(enriched, Event)
    assert isinstance(unknown, Event)
    assert (enriched.payload["userName"], enriched.payload["userEmail"]) == ("Ada Lovelace", "ada@example.com")
    assert "userName" not in unknown.payload


def test_a_hundred_and_one_users_are_read(directory: TableDirectory) -> None:
    ids = [f"user-{number}" for number in range(101)]
    for one in ids:
        put(directory, one, name=one)
    assert directory.lookup(ids, FakeDeadline()) == {one: Entity(one) for one in ids}


def test_other_kinds_are_unknown(directory: TableDirectory) -> None:
    assert directory.lookup(["queue-1"], FakeDeadline(), Kind.QUEUES) == {"queue-1": None}


def test_a_missing_table_is_a_failure_of_the_events_that_name_users(patched: Cloud) -> None:
    missing = TableDirectory(patched.client("dynamodb"), "missing")
    _, event = event_of_user()
    result = Enrichment(missing, required=True).enrich({"a": event}, FakeDeadline())
    failure = result.events["a"]
    assert isinstance(failure, Failure)
    assert failure.category == "MISCONFIGURED"
