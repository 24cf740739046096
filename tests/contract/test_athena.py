"""The Athena table matches the archive."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.policy import Policy
from tests.contract.project import ROOT, template


@pytest.fixture
def table() -> Any:
    return template()["Resources"]["ArchiveLetters"]["Properties"]["TableInput"]


def test_every_category_of_the_archive_is_a_partition(table: Any) -> None:
    policy = Policy((ROOT / "functions/holdfast/domain/triage_policy.json").read_text())
    archived = {rule.category for rule in policy.rules if rule.action == "archive"}
    assert set(table["Parameters"]["projection.category.values"].split(",")) == archived


def test_the_message_is_not_a_column(table: Any) -> None:
    columns = {column["Name"] for column in table["StorageDescriptor"]["Columns"]}
    assert columns == {"eventid", "verdict", "attempts", "event", "executionarn", "archivedat"}
