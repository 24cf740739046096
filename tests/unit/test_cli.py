"""The command ``holdfast`` as a whole: its help, its errors, and what it needs to be installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import pytest
from botocore import exceptions as aws
from typer.main import get_command
from typer.testing import CliRunner

from local.engine import ROOT
from ops.cli import app
from ops.deployed import AwsStack
from ops.errors import CommandError, explain

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # the app has several commands


def client_error(code: str, message: str = "") -> aws.ClientError:
    return aws.ClientError({"Error": {"Code": code, "Message": message}}, "DescribeStacks")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    assert f"Example: holdfast {name}" in COMMANDS[name].help
    assert f"holdfast {name}" in " ".join(CliRunner().invoke(app, [name, "--help"], terminal_width=200).stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_stack_the_profile_and_the_region(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {"--stack", "--profile", "--region"} <= options
    changing = {"pause", "resume", "replay", "retry-now", "republish", "verify"}
    assert ("--yes" in options) >= (name in changing)
    assert "--json" in options or name in {"pause", "resume"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (aws.NoCredentialsError(), "No AWS credentials were found."),
        (aws.NoRegionError(), "--region or AWS_REGION"),
        (aws.ProfileNotFound(profile="p"), "aws configure list-profiles"),
        (aws.TokenRetrievalError(provider="sso", error_msg="x"), "Sign in again"),
        (client_error("ExpiredToken"), "Sign in again"),
        (client_error("InvalidClientTokenId"), "AWS does not know these credentials."),
        (
            client_error(
                "AccessDenied",
                "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: sqs:GetQueueAttributes on resource: "
                "arn:aws:sqs:eu-west-1:1:q because no identity-based policy allows it",
            ),
            "Your credentials may not call sqs:GetQueueAttributes on arn:aws:sqs:eu-west-1:1:q.",
        ),
        (client_error("AccessDenied"), "Your credentials may not call DescribeStacks."),
        (client_error("ThrottlingException"), "AWS limits the calls of this account"),
        (client_error("InternalError"), "AWS answered DescribeStacks with InternalError."),
        (aws.EndpointConnectionError(endpoint_url="https://x"), "Check the network and the region."),
    ],
)
def test_every_error_of_aws_is_one_sentence_with_the_next_step(error: Exception, sentence: str) -> None:
    assert sentence in explain(error)
    assert explain(error).endswith(("make up, . .local/env", "security.md lists all.", ".", "login", "profiles"))


def test_an_error_of_aws_ends_a_command_with_exit_status_2_and_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def expired(_name: str, **_: Any) -> AwsStack:
        raise client_error("ExpiredToken")

    monkeypatch.setattr(AwsStack, "named", expired)
    result = CliRunner().invoke(app, ["status"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("The AWS session has expired.")


def test_the_region_of_the_environment_is_used_and_the_option_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str | None] = []

    def named(_name: str, *, region: str | None = None, **_: Any) -> AwsStack:
        used.append(region)
        raise CommandError("enough")

    monkeypatch.setattr(AwsStack, "named", named)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    CliRunner().invoke(app, ["status"])
    CliRunner().invoke(app, ["status", "--region", "us-west-2"])
    assert used == ["eu-west-1", "us-west-2"]


def test_a_stack_without_the_outputs_of_this_application_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        region_name = "eu-west-1"

        def client(self, _service: str, **_: Any) -> Any:
            return type("Client", (), {"describe_stacks": lambda _self, **_: {"Stacks": [{"Outputs": []}]}})()

    monkeypatch.setattr("boto3.session.Session", lambda **_: Session())
    result = CliRunner().invoke(app, ["status", "--stack", "another"])
    assert result.exit_code == 2
    assert "another application" in " ".join(result.stderr.split())


def test_the_command_needs_only_what_it_declares() -> None:
    """It is installed without the engine, and without what the functions need."""
    program = "import sys, ops.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - this Python
    modules = set(loaded.stdout.split())
    assert {"typer", "rich", "boto3"} <= modules
    assert not modules & {"local", "ministack", "requests", "aws_lambda_powertools", "cachetools", "samcli"}


def test_the_distribution_has_the_command_and_the_domain_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["packages"])
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "ops").rglob("__init__.py")}
    assert packages == {"holdfast", "holdfast.domain"} | found
