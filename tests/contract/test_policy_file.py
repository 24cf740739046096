"""The shipped triage policy is complete."""

from __future__ import annotations

import pytest

from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.policy import ACTIONS, Policy
from tests.contract.project import FUNCTIONS

RULES = Policy((FUNCTIONS / "holdfast" / "domain" / "triage_policy.json").read_text()).rules


def test_every_category_and_every_action_has_a_rule() -> None:
    assert {rule.category for rule in RULES} == CATEGORIES
    assert {rule.action for rule in RULES} == ACTIONS


def test_every_explanation_is_one_short_sentence() -> None:
    for rule in RULES:
        assert rule.explanation.endswith(".")
        assert len(rule.explanation) < 120


@pytest.mark.parametrize(("category", "limit"), [("CRASHED", 2), ("NEVER_RAN", 3), ("UNKNOWN", 1)])
def test_a_category_that_a_retry_rarely_helps_has_a_low_limit(category: str, limit: int) -> None:
    assert {rule.limit for rule in RULES if rule.category == category and rule.limit} == {limit}
