"""Publications of new table items, and their batches within the limits of PutEvents."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.content import content_fields
from holdfast.domain.fan_out import (
    MAX_REQUEST_BYTES,
    SOURCE,
    Publication,
    in_batches,
    in_order,
    plain,
    publication,
    published,
)
from tests.unit.samples import body


def stream_record(item: dict[str, Any], kind: str = "INSERT") -> dict[str, Any]:
    return {"eventName": kind, "dynamodb": {"SequenceNumber": "17", "NewImage": item}}


def image(**content: Any) -> dict[str, Any]:
    return {
        "eventId": {"S": "event-1"},
        "detailType": {"S": "topic"},
        "conversationId": {"S": "conversation-1"},
        "expiresAt": {"N": "1795428000"},
        **content,
    }


def sized(bytes_: int, number: str = "1") -> Publication:
    """A publication of this size, as PutEvents counts it."""
    return Publication(number, "e", "t", "x" * (bytes_ - len(SOURCE) - 1))


@pytest.mark.parametrize("as_stream", [True, False])
def test_a_compressed_item_is_published_as_the_whole_event(as_stream: bool) -> None:
    packed = zlib.compress(body().encode())
    value = base64.b64encode(packed).decode() if as_stream else packed
    made = publication(stream_record(image(eventPacked={"B": value})))
    assert isinstance(made, Publication)
    assert (made.sequence_number, made.event_id, made.detail_type) == ("17", "event-1", "topic")
    assert json.loads(made.detail) == {
        "eventId": "event-1",
        "conversationId": "conversation-1",
        **content_fields(body()),
        "event": json.loads(body()),
    }
    assert content_fields(body()).keys() == {"contentId", "correlationId"}


def test_an_uncompressed_item_without_a_conversation_is_published() -> None:
    item = image(event={"S": '{"id":"event-1"}'})
    del item["conversationId"]
    made = publication(stream_record(item))
    assert isinstance(made, Publication)
    assert json.loads(made.detail) == {"eventId": "event-1", "event": {"id": "event-1"}}


def test_an_event_that_is_stored_in_the_bucket_is_published_as_a_pointer() -> None:
    pointer = {"bucket": {"S": "b"}, "key": {"S": "events/event-1.json"}}
    made = publication(stream_record(image(eventPointer={"M": pointer})))
    assert isinstance(made, Publication)
    assert json.loads(made.detail)["eventPointer"] == {"bucket": "b", "key": "events/event-1.json"}


@pytest.mark.parametrize("kind", ["MODIFY", "REMOVE", None])
def test_only_new_items_are_published(kind: str) -> None:
    assert publication(stream_record(image(event={"S": "{}"}), kind)) is None


@pytest.mark.parametrize("record", [{}, {"eventName": "INSERT"}, {"eventName": "INSERT", "dynamodb": {"Keys": {}}}])
def test_a_record_without_an_image_is_not_published(record: dict[str, Any]) -> None:
    assert publication(record) is None


@pytest.mark.parametrize(("beyond", "whole"), [(-1, True), (0, True), (1, False)])
def test_an_event_above_the_size_limit_is_published_as_a_pointer(beyond: int, whole: bool) -> None:
    item = {"eventId": "event-1", "detailType": "tö", "event": '""'}
    room = MAX_REQUEST_BYTES - published(item, "1").size + beyond
    made = published({**item, "event": f'"{"x" * room}"'}, "1")
    detail = json.loads(made.detail)
    assert ("event" in detail) is whole
    assert made.size <= MAX_REQUEST_BYTES
    if not whole:
        assert detail == {"eventId": "event-1", "eventPointer": {"eventId": "event-1"}}


def test_a_pointer_to_an_event_above_the_limit_of_the_bus_still_identifies_its_content() -> None:
    event = body(detail={"attributes": {"text": "x" * MAX_REQUEST_BYTES}})
    made = published({"eventId": "event-1", "detailType": "t", "event": event}, "1")
    assert json.loads(made.detail) == {
        "eventId": "event-1",
        **content_fields(event),
        "eventPointer": {"eventId": "event-1"},
    }


def test_the_size_of_an_entry_is_counted_in_bytes() -> None:
    assert Publication("1", "e", "tö", "é").size == 2 + 3 + len(SOURCE)


@pytest.mark.parametrize(
    ("count", "batches"), [(0, []), (1, [1]), (9, [9]), (10, [10]), (11, [10, 1]), (21, [10, 10, 1])]
)
def test_a_request_holds_at_most_ten_entries(count: int, batches: list[int]) -> None:
    assert [len(batch) for batch in in_batches([sized(100)] * count)] == batches


@pytest.mark.parametrize(("second", "batches"), [(399_999, [2]), (400_000, [2]), (400_001, [1, 1])])
def test_a_request_holds_at_most_a_megabyte(second: int, batches: list[int]) -> None:
    assert [len(batch) for batch in in_batches([sized(600_000), sized(second)])] == batches


@given(st.lists(st.integers(100, MAX_REQUEST_BYTES), max_size=40))
def test_batches_contain_every_publication_once_in_order_within_the_limits(sizes: list[int]) -> None:
    publications = [Publication(str(n), "e", "t", "x" * (size - len(SOURCE) - 1)) for n, size in enumerate(sizes)]
    batches = list(in_batches(publications))
    assert [one for batch in batches for one in batch] == publications
    assert all(1 <= len(batch) <= 10 and sum(one.size for one in batch) <= MAX_REQUEST_BYTES for batch in batches)


@given(st.lists(st.sampled_from("abcd"), max_size=12))
def test_publications_of_one_event_are_never_sent_at_once(events: list[str]) -> None:
    publications = [Publication(str(number), event, "t", "{}") for number, event in enumerate(events)]
    parts = list(in_order(publications))
    assert [one for part in parts for one in part] == publications
    assert all(len({one.event_id for one in part}) == len(part) for part in parts)


def test_dynamodb_types_become_plain_values() -> None:
    typed = {"s": {"S": "x"}, "n": {"N": "7"}, "b": {"B": "AAE="}, "m": {"M": {"in": {"S": "y"}}}, "t": {"BOOL": True}}
    assert plain(typed) == {"s": "x", "n": 7, "b": b"\x00\x01", "m": {"in": "y"}, "t": True}
