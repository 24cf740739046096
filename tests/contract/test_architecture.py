"""Layers depend on each other in one direction, and the package contains only what a function needs."""

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
#: Modules for AWS, the network, the environment, time and randomness. The domain gets these as arguments.
FORBIDDEN = {
    *(
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
    ),
    *("subprocess", "tempfile", "time", "urllib", "urllib3", "uuid"),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not allowed, because they hide the layer"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(path: Path) -> str:
    return str(path.relative_to(FUNCTIONS))


@pytest.mark.parametrize("path", DOMAIN, ids=named)
def test_the_domain_imports_no_adapter_and_no_library_for_io(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in FORBIDDEN
        assert not name.startswith("holdfast.adapters")


@pytest.mark.parametrize("path", DOMAIN, ids=named)
def test_the_domain_does_not_read_the_clock(path: Path) -> None:
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", [*DOMAIN, *ADAPTERS], ids=named)
def test_domain_and_adapters_import_no_function(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in FUNCTION_IDS
        assert name.split(".")[0] not in {"local", "tests"}


@pytest.mark.parametrize("path", APPS, ids=named)
def test_a_handler_imports_no_other_function_and_no_client_library(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in {*FUNCTION_IDS, "local", "tests", "boto3", "botocore", "requests"}


@pytest.mark.parametrize("path", APPS, ids=named)
def test_a_handler_can_be_imported_without_environment_and_connection(path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection at import')\n"
        "socket.socket.connect = refuse\n"
        f"import {path.parent.name}.app as app\n"
        "assert callable(app.lambda_handler) and callable(app.production)\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter and the text above
        [sys.executable, "-c", code], env={"PYTHONPATH": str(FUNCTIONS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_package_contains_handlers_the_library_and_requirements_only() -> None:
    shipped = [path for path in FUNCTIONS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {
        *APPS,
        *PACKAGE.rglob("*.py"),
        PACKAGE / "domain" / "triage_policy.json",
        FUNCTIONS / "requirements.txt",
    }
    assert set(shipped) == expected


def test_the_deployed_code_does_not_mention_the_local_engine() -> None:
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
