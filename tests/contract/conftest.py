"""Prints the confusion matrix of the corpus after the tests."""

from __future__ import annotations

import pytest

from tests.contract.confusion import MATRIX, table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash.get(MATRIX, None)
    if matrix:
        terminalreporter.section("the corpus of dead letters: expected (rows) against found (columns)")
        terminalreporter.write_line(table(matrix))
