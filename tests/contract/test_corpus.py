"""The corpus of labelled dead letters: the classifier returns the verdict of the label.

A file of ``tests/corpus/<category>/`` is one letter: its message, the attempt log, the stored events, the input of its
execution (``triage``) and the expected verdict. ``conftest.py`` prints the confusion matrix at the end of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.policy import Verdict
from tests.contract.confusion import MATRIX, table
from tests.contract.labelled import CORPUS, POLICY, Labelled

LETTERS = [Labelled(path) for path in sorted(CORPUS.rglob("*.json"))]


@pytest.fixture(scope="module")
def verdicts() -> Mapping[str, Verdict]:
    return {letter.name: letter.classified() for letter in LETTERS}


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: letter.name)
def test_a_letter_gets_the_verdict_of_its_label(letter: Labelled, verdicts: Mapping[str, Verdict]) -> None:
    assert letter.path.parent.name == letter.expected["category"]
    assert letter.expected.keys() >= {"category", "rule", "action"}
    found = verdicts[letter.name].as_json()
    assert {name: found[name] for name in letter.expected} == letter.expected, letter.data["about"]


def test_no_letter_gets_another_category(verdicts: Mapping[str, Verdict], request: pytest.FixtureRequest) -> None:
    matrix = Counter((letter.expected["category"], verdicts[letter.name].category) for letter in LETTERS)
    request.config.stash[MATRIX] = matrix
    assert [cell for cell in matrix if cell[0] != cell[1]] == [], table(matrix)


def test_the_bodies_of_the_corpus_are_different() -> None:
    assert len({letter.data["message"]["body"] for letter in LETTERS}) == len(LETTERS) >= 60


def test_every_category_and_every_rule_has_at_least_two_letters() -> None:
    found = Counter(letter.expected[name] for letter in LETTERS for name in ("category", "rule"))
    wanted = [*CATEGORIES, *(rule.id for rule in POLICY.rules)]
    assert [name for name in wanted if found[name] < 2] == []
