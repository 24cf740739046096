"""What the linters of AWS and of others say to the template and to the definitions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.project import MACHINES, ROOT, TEMPLATE, machine, machine_text

VALIDATOR, VERSION = "asl-validator", "4.0.0"
#: sam and cfn-lint are on the path of this interpreter, not necessarily on the caller's.
SCRIPTS = Path(sys.executable).parent
#: Nothing is called: no account, no telemetry, and a proxy that nobody listens at for whoever tries.
OFFLINE = {
    "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    "HOME": os.environ.get("HOME", "/"),
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "SAM_CLI_TELEMETRY": "0",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
#: cfn-lint reads a time-out that is computed as a text and wants a number. Step Functions takes both:
#: https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
FALSE_ALARM = "States/Redrive/TimeoutSeconds: '{% 21600 %}' is not of type 'number'"


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the project's own tools
        command, cwd=cwd, env=OFFLINE, capture_output=True, text=True, check=False, timeout=120
    )


def test_cfn_lint_has_not_even_a_warning() -> None:
    done = run("cfn-lint", str(TEMPLATE))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_sam_validates_the_template_without_an_account() -> None:
    done = run("sam", "validate", "--lint", "--template", str(TEMPLATE))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MACHINES)
def test_cfn_lint_reads_the_definition_where_it_looks_into_one(name: str, tmp_path: Path) -> None:
    assert _complaints(machine(name), tmp_path) == []


def test_cfn_lint_does_look_into_a_definition(tmp_path: Path) -> None:
    broken = machine("triage")
    del broken["States"]["Archive"]["Resource"]
    assert any("Archive" in complaint for complaint in _complaints(broken, tmp_path))


def _complaints(definition: object, folder: Path) -> list[str]:
    """What cfn-lint says to a definition: SAM's own resource hides it, CloudFormation's does not."""
    machine_of_its_own = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/machine", "Definition": definition},
    }
    path = folder / "template.json"
    path.write_text(json.dumps({"Resources": {"Machine": machine_of_its_own}}))
    done = run("cfn-lint", "--format", "json", str(path), cwd=folder)
    told = [
        f"{one['Rule']['Id']} /{'/'.join(map(str, one['Location']['Path']))}: {one['Message']}"
        for one in json.loads(done.stdout or "[]")
    ]
    return [one for one in told if not one.endswith(FALSE_ALARM)]


@pytest.fixture(scope="session")
def validator() -> Path:
    """asl-validator, kept in .local/ so that it is fetched once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("not run: asl-validator needs Node.js, which is not here")
    folder = ROOT / ".local" / VALIDATOR
    script = folder / "node_modules" / ".bin" / VALIDATOR
    about = folder / "node_modules" / VALIDATOR / "package.json"
    if not (script.exists() and json.loads(about.read_text())["version"] == VERSION):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = [
            "npm",
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--fetch-retries=0",
            f"{VALIDATOR}@{VERSION}",
        ]
        try:
            done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - the project's own tools
        except subprocess.TimeoutExpired:
            pytest.skip("not run: asl-validator could not be fetched within a minute")
        if done.returncode:
            pytest.skip("not run: asl-validator could not be fetched from the registry of npm")
    return script


@pytest.mark.parametrize("name", MACHINES)
def test_asl_validator_finds_nothing_in_the_definition(name: str, validator: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(machine_text(name))
    done = run(str(validator), "--json-path", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_asl_validator_does_find_an_arrow_into_nowhere(validator: Path, tmp_path: Path) -> None:
    broken = machine("triage")
    broken["States"]["BackOff"]["Next"] = "Nowhere"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken))
    assert run(str(validator), "--json-path", str(path)).returncode == 1


#: A template in which checkov has to find something.
OPEN_QUEUE = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}


@pytest.fixture(scope="session")
def checkov(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What checkov says of the template and of one with a mistake, offline: ``failed_checks``, ``skipped_checks``.

    It has an environment of its own, made again when its lock has changed.
    """
    folder, lock = ROOT / ".local" / "checkov", ROOT / "requirements-checkov.lock"
    made_from = folder / "made-from.lock"
    if not (made_from.exists() and made_from.read_bytes() == lock.read_bytes()):
        for command in (
            ["venv", "-q", "--clear", "--python", sys.executable, folder],
            ["pip", "sync", "-q", "--require-hashes", "--python", folder / "bin" / "python", lock],
        ):
            subprocess.run([SCRIPTS / "uv", *command], check=True)  # noqa: S603 - the project's own tool
        shutil.copy(lock, made_from)
    mistake = tmp_path_factory.mktemp("checkov") / "mistake.json"
    mistake.write_text(json.dumps(OPEN_QUEUE))
    offline = ["--framework", "cloudformation", "--skip-download", "-o", "json"]
    done = run(str(folder / "bin" / "checkov"), *offline, "-f", str(TEMPLATE), str(mistake))
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)["results"]
    return found


def test_checkov_finds_nothing_but_what_a_resource_explains(checkov: dict[str, list[dict[str, Any]]]) -> None:
    failed = [one for one in checkov["failed_checks"] if one["file_abs_path"] == str(TEMPLATE)]
    assert [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed] == []
    assert all(len(one["check_result"]["suppress_comment"].split()) > 2 for one in checkov["skipped_checks"])
    explained = re.findall(r"checkov:skip=(\w+)|\{id: (CKV_\w+),", TEMPLATE.read_text())
    assert len(checkov["skipped_checks"]) == len(explained), "an explanation of nothing"


def test_checkov_does_find_a_queue_that_is_not_encrypted(checkov: dict[str, list[dict[str, Any]]]) -> None:
    assert ("CKV_AWS_27", "AWS::SQS::Queue.Queue") in {
        (one["check_id"], one["resource"]) for one in checkov["failed_checks"]
    }
