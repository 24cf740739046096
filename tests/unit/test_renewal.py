"""Fixtures with new ids: every form of an id changes alike, and digests of bodies fit."""

from __future__ import annotations

import hashlib
import json

from holdfast.domain.identity import event_digest
from local.fixture_setup import LETTER
from local.renewal import renewal, renewed_event, unchanged
from ops.names import compact

ID = "8cd6fe94-365b-425f-bbc1-eb210ffb78f3"


def test_an_id_is_replaced_in_every_form_and_always_by_the_same_one() -> None:
    renew = renewal([f"a {ID}"])
    new = renew(ID)
    assert new != ID
    assert renew(f"{ID} {compact(ID)} {event_digest(ID)}") == f"{new} {compact(new)} {event_digest(new)}"
    assert renew("text without an id") == "text without an id"


def test_an_event_whose_id_is_the_digest_of_its_body_keeps_its_ids() -> None:
    assert renewal([ID, "sha256-0"]) is unchanged


def test_a_renewed_record_has_the_digest_of_its_new_body() -> None:
    text = LETTER.read_text()
    (record,) = json.loads(renewed_event(text, renewal([text])))["Records"]
    assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
    assert json.loads(record["body"])["id"] != json.loads(json.loads(text)["Records"][0]["body"])["id"]
