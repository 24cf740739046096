"""The rule of the stack matches the topics of DetailTypes and DetailTypePrefix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.contract.deployed import deployed
from tests.e2e.pipeline import genesys_event

if TYPE_CHECKING:
    from tests.integration.cloud import Cloud

START, END = (f"v2.detail.events.conversation.{{id}}.acd.{name}" for name in ("start", "end"))
PRESENCE = "v2.users.{id}.presence"


@pytest.mark.parametrize(
    ("types", "prefix", "matched"),
    [
        ("", "", {START, END, PRESENCE}),
        (START, "", {START}),
        (f"{START},{PRESENCE}", "", {START, PRESENCE}),
        ("", "v2.detail.events.conversation.", {START, END}),
        (PRESENCE, "v2.detail.events.conversation.", {START, END, PRESENCE}),
        (START, "v2.detail.", {START, END}),
    ],
)
def test_the_rule_matches_the_listed_topics_and_those_with_the_prefix(
    plain: Cloud, types: str, prefix: str, matched: set[str]
) -> None:
    rule = deployed({"DetailTypes": types, "DetailTypePrefix": prefix})["EventRule"]["Properties"]
    pattern = json.dumps(rule["EventPattern"])

    def matches(topic: str, source: str) -> bool:
        event = {**genesys_event(), "detail-type": topic, "source": source, "account": "1", "region": "us-east-1"}
        answer = plain.client("events").test_event_pattern(EventPattern=pattern, Event=json.dumps(event))
        return bool(answer["Result"])

    topics = (START, END, PRESENCE)
    assert {topic for topic in topics if matches(topic, "aws.partner/genesys.com/cloud/org/name")} == matched
    assert not any(matches(topic, "another.source") for topic in topics)
