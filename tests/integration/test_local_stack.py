"""A local run checks first that it has what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.environment import check_prerequisites
from local.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_template_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"There is no template\.yaml in .*: run this from a complete checkout"):
        check_prerequisites(tmp_path)
