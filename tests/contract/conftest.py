"""Shows what the contract tests measured."""

from __future__ import annotations

import pytest

from tests.contract.confusion import MATRIX, told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the confusion matrix wherever the corpus was judged."""
    matrix = config.stash.get(MATRIX, None)
    if matrix:
        terminalreporter.section("the corpus of dead letters: expected (rows) against found (columns)")
        terminalreporter.write_line(told(matrix))
