"""The policies for operators in docs/policies suffice for their commands, and the reading one has nothing to spare."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from local.engine import ACCOUNT, REGION, ROOT, client_environment
from ops.cli import app
from tests.e2e.pipeline import genesys_event
from tests.iam.probes import token_of_a_stopped_execution
from tests.iam.world import dead_letter, letter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.iam.world import World

POLICIES = ROOT / "docs" / "policies"
#: A command that needs each action, and words of its error without it.
READING = {
    "cloudformation:DescribeStacks": "status",
    "lambda:ListEventSourceMappings": "status",
    "cloudwatch:GetMetricData": "status",
    "cloudwatch:DescribeAlarms": "status",
    "logs:StartQuery": "status",
    "logs:GetQueryResults": "status",
    "sqs:GetQueueAttributes": "status",
    "states:ListExecutions": "status",
    "states:DescribeExecution": "show",
    "states:GetExecutionHistory": "show",
    "dynamodb:BatchGetItem": "show",
    "dynamodb:GetItem": "show",
    "dynamodb:Query": "show",
    "s3:ListBucket": "letters",
    "s3:GetObject": "letters",
}


def policy(name: str, world: World) -> dict[str, Any]:
    """A policy with the names of this stack."""
    known = {**world.outputs, "Region": REGION, "Account": ACCOUNT, "Stack": world.stack.name}
    text = re.sub(r"<(\w+)>", lambda found: known[found[1]], (POLICIES / f"{name}.json").read_text())
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """The policy without an action."""
    left = [{**one, "Action": [name for name in one["Action"] if name != action]} for one in document["Statement"]]
    return {**document, "Statement": [one for one in left if one["Action"]]}


@pytest.fixture(scope="module")
def event_id(world: World) -> str:
    """An archived event with an execution."""
    letter = letter_of(dead_letter())
    execution = world.start(
        "Triage",
        {"schemaVersion": 2, "eventId": letter.event_id, "snapshots": [world.snapshot(letter)], "redrives": 0},
        name=f"unreadable-{uuid.uuid4().hex[:16]}-{letter.message.message_id.replace('-', '')}",
    )
    world.result(execution, "a dead letter is archived")
    return letter.event_id


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs a command as a user with these policies only."""
    iam, user = world.client("iam"), f"operator-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    environment = client_environment(world.local.engine.endpoint) | {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(policies: Sequence[dict[str, Any]], *arguments: str) -> Result:
        statements = [statement for document in policies for statement in document["Statement"]]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=user, PolicyName="operator", PolicyDocument=document)
        return CliRunner().invoke(app, [*arguments, "--stack", world.stack.name])

    yield run
    iam.delete_user_policy(UserName=user, PolicyName="operator")
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=user)


def test_the_reading_policy_suffices_for_the_reading_commands(
    world: World, operator: Callable[..., Result], event_id: str, tmp_path: Any
) -> None:
    (tmp_path / "ids.txt").write_text(event_id)
    read = policy("read", world)
    for arguments in (
        ["status"],
        ["letters"],
        ["show", event_id],
        ["audit", "--ids", str(tmp_path / "ids.txt")],
        ["audit", "--from", "2026-01-01"],
    ):
        result = operator([read], *arguments)
        assert result.exit_code in {0, 1}, (arguments, result.output)


def test_every_action_of_the_reading_policy_has_a_command(world: World) -> None:
    assert READING.keys() == {action for one in policy("read", world)["Statement"] for action in one["Action"]}


@pytest.mark.parametrize("action", READING)
def test_without_an_action_a_command_names_the_permission(
    world: World, operator: Callable[..., Result], event_id: str, action: str
) -> None:
    command = READING[action]
    arguments = [command, event_id] if command == "show" else [command]
    result = operator([without(policy("read", world), action)], *arguments)
    assert result.exit_code == 2, result.output
    assert "Your credentials may not call" in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pause", ["pause", "--reason", "r", "--yes"]),
        ("replay", ["replay", "--category", "MALFORMED", "--reason", "r", "--yes"]),
        ("retry-now", ["retry-now", "--reason", "r", "--yes"]),
        ("republish", ["republish", "--from", "2026-01-01", "--yes"]),
    ],
)
def test_a_changing_command_needs_its_own_policy_in_addition(
    world: World, operator: Callable[..., Result], event_id: str, name: str, arguments: list[str]
) -> None:
    assert event_id  # a letter to replay
    if name == "retry-now":
        wait_for_a_redrive(world)
    if name == "pause":
        world.client("lambda").update_event_source_mapping(
            UUID=world.stack.resources["ProcessorFunctionBuffer"], Enabled=True
        )
    read = policy("read", world)
    denied = operator([read], *arguments)
    assert denied.exit_code in {1, 2}, denied.output
    assert "may not call" in denied.stderr or "failed" in denied.stdout
    allowed = operator([read, policy(name, world)], *arguments)
    assert allowed.exit_code in {0, 1}, allowed.output
    if name == "pause":
        assert operator([read, policy(name, world)], "resume", "--yes").exit_code == 0
        world.client("lambda").update_event_source_mapping(
            UUID=world.stack.resources["ProcessorFunctionBuffer"], Enabled=False
        )


def wait_for_a_redrive(world: World) -> None:
    """Put the item of a letter whose wait has ended meanwhile: the token is one of the triage machine."""
    fields = {
        "eventId": "waiting letters",
        "attempt": "execution",
        "taskToken": token_of_a_stopped_execution(world),
        "letter": genesys_event()["id"],
        "category": "UNAVAILABLE",
        "rule": "upstream-unavailable",
        "fingerprint": "f",
        "nextTryAt": "2099-01-01T00:00:00.000Z",
    }
    item = {name: {"S": value} for name, value in fields.items()}
    world.client("dynamodb").put_item(TableName=world.outputs["AttemptsTableName"], Item=item)
