"""Each promise of docs/promises.md names tests, and the tests exist."""

from __future__ import annotations

import re

from tests.contract.project import ROOT

ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
PROMISES = {int(number): re.findall(r"`(test_\w+)`", tests) for number, _, tests in ROW.findall(
    (ROOT / "docs/promises.md").read_text()
)}  # fmt: skip
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_promise_names_a_test() -> None:
    assert list(PROMISES) == list(range(1, 43))
    assert [number for number, tests in PROMISES.items() if not tests] == []


def test_every_named_test_exists() -> None:
    assert {name for tests in PROMISES.values() for name in tests} - TESTS == set()
