"""``make letter`` writes a letter that matches its rule, for every rule of the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.domain.policy import Rule
from tests.contract.labelled import POLICY
from tests.letter import write


@pytest.mark.parametrize("rule", POLICY.rules, ids=lambda rule: rule.id)
def test_a_letter_matches_the_rule_that_it_was_written_for(rule: Rule, tmp_path: Path) -> None:
    assert write(tmp_path / "letter.json", rule) == rule.id
