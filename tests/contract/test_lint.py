"""The linters of AWS and of others accept the template and the state machine definitions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contract.project import MACHINES, ROOT, TEMPLATE, machine, machine_text

#: Two workers would install the tools at the same time.
pytestmark = pytest.mark.xdist_group("tools")

VALIDATOR, VERSION = "asl-validator", "4.0.0"
#: sam, cfn-lint and uv are next to this interpreter, not necessarily on the caller's PATH.
SCRIPTS = Path(sys.executable).parent
#: No account and no telemetry. Every connection fails, because no proxy listens on this port.
OFFLINE = {
    **{name: value for name, value in os.environ.items() if name.startswith(("UV_", "XDG_"))},  # where uv's cache is
    "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    "HOME": os.environ.get("HOME", "/"),
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "SAM_CLI_TELEMETRY": "0",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
#: cfn-lint accepts only a number as a time-out. Step Functions also accepts a JSONata expression:
#: https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
FALSE_POSITIVES = (
    "States/Redrive/TimeoutSeconds: '{% 21600 %}' is not of type 'number'",
    "States/BackOff/TimeoutSeconds: '{% $max([1, $states.input.delaySeconds]) %}' is not of type 'number'",
)


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the project's own tools
        command, cwd=cwd, env=OFFLINE, capture_output=True, text=True, check=False, timeout=300
    )


#: Two regions of the commercial partition, one of it without recursive loop detection, GovCloud and China.
REGIONS = ("us-east-1", "eu-central-1", "mx-central-1", "us-gov-west-1", "cn-north-1")


#: The template, and those of the examples.
TEMPLATES = [TEMPLATE, *sorted((ROOT / "examples").glob("*/template.yaml"))]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)
def test_cfn_lint_has_no_warning_in_any_region(path: Path) -> None:
    done = run("cfn-lint", str(path), "--regions", *REGIONS)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)
def test_sam_validates_the_template_without_an_account(path: Path) -> None:
    done = run("sam", "validate", "--lint", "--template", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MACHINES)
def test_cfn_lint_accepts_the_definition(name: str, tmp_path: Path) -> None:
    assert _findings(machine(name), tmp_path) == []


def test_cfn_lint_finds_a_mistake_in_a_definition(tmp_path: Path) -> None:
    broken = machine("triage")
    del broken["States"]["Archive"]["Resource"]
    assert any("Archive" in finding for finding in _findings(broken, tmp_path))


def _findings(definition: object, folder: Path) -> list[str]:
    """What cfn-lint finds in a definition. It checks one in CloudFormation's resource, but not in SAM's."""
    resource = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/machine", "Definition": definition},
    }
    path = folder / "template.json"
    path.write_text(json.dumps({"Resources": {"Machine": resource}}))
    done = run("cfn-lint", "--format", "json", str(path), cwd=folder)
    found = [
        f"{one['Rule']['Id']} /{'/'.join(map(str, one['Location']['Path']))}: {one['Message']}"
        for one in json.loads(done.stdout or "[]")
    ]
    return [one for one in found if not one.endswith(FALSE_POSITIVES)]


@pytest.fixture(scope="session")
def validator() -> Path:
    """asl-validator, which is fetched once and kept in .local/."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("asl-validator needs Node.js, which is not installed")
    folder = ROOT / ".local" / VALIDATOR
    script = folder / "node_modules" / ".bin" / VALIDATOR
    about = folder / "node_modules" / VALIDATOR / "package.json"
    if not (script.exists() and json.loads(about.read_text())["version"] == VERSION):
        folder.parent.mkdir(exist_ok=True)
        # Another worker may fetch it at the same time, so a complete folder is moved into place.
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
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
            done = subprocess.run(fetch, cwd=fresh, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - the project's own tools
        except subprocess.TimeoutExpired:
            pytest.skip("asl-validator could not be fetched within a minute")
        if done.returncode:
            pytest.skip("asl-validator could not be fetched from the npm registry")
        with suppress(OSError):
            fresh.rename(folder)
    return script


@pytest.mark.parametrize("name", MACHINES)
def test_asl_validator_accepts_the_definition(name: str, validator: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(machine_text(name))
    done = run(str(validator), "--json-path", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_asl_validator_finds_a_missing_state(validator: Path, tmp_path: Path) -> None:
    broken = machine("triage")
    broken["States"]["BackOff"]["Next"] = "Nowhere"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken))
    assert run(str(validator), "--json-path", str(path)).returncode == 1


#: checkov has an environment of its own, because with the project's packages it resolves only to an old version. uv
#: takes the newest dependencies of this day, so they are pinned too.
CHECKOV = ("uv", "tool", "run", "--from", "checkov==3.3.30", "--exclude-newer", "2026-11-24", "checkov")
#: A template in which checkov has to find something.
OPEN_QUEUE = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}


@pytest.fixture(scope="session")
def checkov(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The checks that fail in the template and in a template with a mistake, by file, without .checkov.yaml."""
    fetch = [SCRIPTS / CHECKOV[0], *CHECKOV[1:], "--version"]
    subprocess.run(fetch, check=True, capture_output=True, timeout=300)  # noqa: S603 - the project's own tool
    folder = tmp_path_factory.mktemp("checkov")
    mistake = folder / "mistake.json"
    mistake.write_text(json.dumps(OPEN_QUEUE))
    options = ["--framework", "cloudformation", "--skip-download", "-o", "json"]
    # In this folder checkov does not find .checkov.yaml.
    done = run(*CHECKOV[:3], "--offline", *CHECKOV[3:], *options, "-f", str(TEMPLATE), str(mistake), cwd=folder)
    found: dict[str, set[str]] = {}
    for one in json.loads(done.stdout)["results"]["failed_checks"]:
        found.setdefault(Path(one["file_abs_path"]).name, set()).add(one["check_id"])
    return found


def test_checkov_finds_exactly_what_its_file_of_exceptions_explains(checkov: dict[str, set[str]]) -> None:
    exceptions = re.findall(r"^ +- (\w+)$", (ROOT / ".checkov.yaml").read_text(), re.MULTILINE)
    assert checkov[TEMPLATE.name] == set(exceptions)


def test_checkov_finds_a_queue_that_is_not_encrypted(checkov: dict[str, set[str]]) -> None:
    assert "CKV_AWS_27" in checkov["mistake.json"]
