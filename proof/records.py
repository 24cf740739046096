"""Results as JSON Lines: one record per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a file of records."""
    return [json.loads(line) for line in path.read_text().splitlines()]
