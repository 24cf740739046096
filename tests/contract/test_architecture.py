"""Dependencies point one way, and what ships holds what ships and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.project import FUNCTION_IDS, FUNCTIONS, ROOT

PACKAGE = FUNCTIONS / "holdfast"
DOMAIN = sorted((PACKAGE / "domain").glob("*.py"))
ADAPTERS = sorted((PACKAGE / "adapters").rglob("*.py"))
APPS = [FUNCTIONS / name / "app.py" for name in FUNCTION_IDS]
#: AWS, the network, the environment, time and chance: the domain gets what it needs of them passed in.
WORLD = {
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "cachetools",
    "http",
    "os",
    "random",
    "requests",
    "secrets",
    "socket",
    "subprocess",
    "tempfile",
    "time",
    "urllib",
    "urllib3",
    "uuid",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(path: Path) -> str:
    return str(path.relative_to(FUNCTIONS))


@pytest.mark.parametrize("path", DOMAIN, ids=named)
def test_the_domain_touches_nothing_of_the_world_and_knows_no_adapter(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in WORLD
        assert not name.startswith("holdfast.adapters")


@pytest.mark.parametrize("path", DOMAIN, ids=named)
def test_the_domain_never_looks_at_a_clock(path: Path) -> None:
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", [*DOMAIN, *ADAPTERS], ids=named)
def test_nothing_inside_knows_the_functions_around_it(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in FUNCTION_IDS
        assert name.split(".")[0] not in {"local", "tests"}


@pytest.mark.parametrize("path", APPS, ids=named)
def test_a_handler_knows_no_other_function_and_no_client_library(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in {*FUNCTION_IDS, "local", "tests", "boto3", "botocore", "requests"}


@pytest.mark.parametrize("path", APPS, ids=named)
def test_a_handler_is_importable_without_an_environment_and_touches_nothing_then(path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection at import')\n"
        "socket.socket.connect = refuse\n"
        f"import {path.parent.name}.app as app\n"
        "assert callable(app.lambda_handler) and callable(app.production)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", code], env={"PYTHONPATH": str(FUNCTIONS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_code_that_ships_is_handlers_the_package_and_its_requirements() -> None:
    shipped = [path for path in FUNCTIONS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {
        *APPS,
        *PACKAGE.rglob("*.py"),
        PACKAGE / "domain" / "triage_policy.json",
        FUNCTIONS / "requirements.txt",
    }
    assert set(shipped) == expected
    assert not [path for path in FUNCTIONS.rglob("*") if path.name in {"tests", "test", "docs"}]


def test_what_ships_knows_nothing_of_the_local_engine() -> None:
    shipped = [*FUNCTIONS.rglob("*.py"), *(ROOT / "statemachine").glob("*.json"), ROOT / "template.yaml"]
    for path in shipped:
        text = path.read_text().lower()
        assert not [word for word in ("ministack", "localhost", "127.0.0.1", "localstack") if word in text], path


def test_requirements_are_locked_with_hashes_and_leave_boto3_to_the_runtime() -> None:
    text = (FUNCTIONS / "requirements.txt").read_text()
    pins = [line.split("==")[0] for line in text.splitlines() if "==" in line]
    assert pins
    assert "boto3" not in pins
    assert "botocore" not in pins
    assert all("==" in line or line.startswith((" ", "#")) for line in text.splitlines() if line.strip())
    assert text.count("--hash=sha256:") >= len(pins)
