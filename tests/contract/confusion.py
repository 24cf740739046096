"""The confusion matrix of the corpus: expected against actual categories."""

from __future__ import annotations

from collections import Counter

import pytest

#: ``(expected, found)`` → number of letters, filled by ``test_corpus.py``.
MATRIX = pytest.StashKey[Counter[tuple[str, str]]]()


def table(matrix: Counter[tuple[str, str]]) -> str:
    """The matrix as text: a row for each expected category, a column for each found one; a dot is zero."""
    names = sorted({name for cell in matrix for name in cell})
    width = max(len(name) for name in names)
    head = [" " * (width + 4) + " ".join(f"{column:>3}" for column in range(1, len(names) + 1))]
    rows = [
        f"{number:>2}  {row:<{width}}" + " ".join(f"{matrix[row, column] or '.':>3}" for column in names)
        for number, row in enumerate(names, 1)
    ]
    wrong = sum(count for (expected, found), count in matrix.items() if expected != found)
    return "\n".join([*head, *rows, f"{sum(matrix.values())} letters, {wrong} in a wrong category"])
