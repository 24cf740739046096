"""The result files in ``benchmarks/results``: JSON with one record per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Written by ``make bench``.
LATEST = Path(__file__).parent / "results" / "latest.json"
#: Written by ``make burst``.
BURST = LATEST.with_name("burst.json")
LINE_LENGTH = 160


def read(path: Path) -> dict[str, Any]:
    """Read a result file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result file."""
    path.write_text(to_json(result) + "\n")


def with_failure_path(latest: dict[str, Any]) -> dict[str, Any]:
    """Keep the figures of the last run of :mod:`benchmarks.failure_path`."""
    earlier = read(LATEST) if LATEST.exists() else {}
    return {**latest, "failure_path": earlier.get("failure_path")}


def to_json(value: Any, indent: int = 0) -> str:
    """Serialise; an object or array that fits into a line takes one line."""
    line = json.dumps(value)
    if indent + len(line) <= LINE_LENGTH or not isinstance(value, dict | list):
        return line
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {to_json(part, indent + 2)}" for key, part in value.items()]
    else:
        parts = [to_json(part, indent + 2) for part in value]
    margin = " " * indent
    body = ",\n".join(f"{margin}  {part}" for part in parts)
    return f"{line[0]}\n{body}\n{margin}{line[-1]}"


def with_burst(latest: dict[str, Any]) -> dict[str, Any]:
    """Add the figures of the last ``make burst`` to the results of ``make bench``."""
    figures = read(BURST)["figures"] if BURST.exists() else {}
    name = "engine_throughput_vs_noop"
    return {
        **latest,
        "ratios": latest.get("ratios", {}) | {name: figures.get(name)},
        "concurrency_violations": figures.get("concurrency_violations"),
    }
