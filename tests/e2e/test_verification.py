"""``holdfast verify`` as a whole, as an operator with the documented permissions and nothing more."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from holdfast.domain.sweep import CURSOR_KEY
from local.engine import ACCOUNT, REGION, ROOT, client_environment
from local.eventually import eventually
from ops import chaos, synthetic
from ops.cli import app
from ops.configuration import CHECKS
from tests.e2e.broken import Setting
from tests.e2e.subscribers import AlarmSubscriber, Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline

    Run = Callable[..., Result]

#: No check needs the simulator on the engine, and the engine does not check the other one.
UNCHECKED_BY_THE_ENGINE = ["iam:SimulatePrincipalPolicy", "lambda:GetFunctionRecursionConfig"]
#: The checks that the engine answers.
EXPECTED_ON_THE_ENGINE = {one.name for one in CHECKS} - {"answer-permissions", "alarms-without-data", "redrive-lineage"}
POLICIES = ("read", "verify-configuration", "verify", "verify-chaos")
#: The engine checks these on every resource. AWS checks them on the rule and on the alarm, as the policies have them:
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html
ON_EVERY_RESOURCE = ["events:ListTargetsByRule", "cloudwatch:DisableAlarmActions", "cloudwatch:EnableAlarmActions"]


@pytest.fixture
def user() -> str:
    return f"operator-{uuid.uuid4().hex[:8]}"


def document_of(name: str, pipeline: Pipeline) -> dict[str, Any]:
    """A policy with the names of this stack."""
    known = {**pipeline.outputs, "Region": REGION, "Account": ACCOUNT, "Stack": pipeline.stack.name}
    text = (ROOT / "docs" / "policies" / f"{name}.json").read_text()
    document: dict[str, Any] = json.loads(re.sub(r"<(\w+)>", lambda found: known[found[1]], text))
    return document


@pytest.fixture
def run(pipeline: Pipeline, user: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the command as a user with the policies in docs/policies."""
    iam = pipeline.client("iam")
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    for name in POLICIES:
        iam.put_user_policy(UserName=user, PolicyName=name, PolicyDocument=json.dumps(document_of(name, pipeline)))
    statement = {"Effect": "Allow", "Action": ON_EVERY_RESOURCE, "Resource": "*"}
    iam.put_user_policy(
        UserName=user,
        PolicyName="engine",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    environment = client_environment(pipeline.local.engine.endpoint) | {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(synthetic, "_POLL_SECONDS", 0.3)
    yield lambda *arguments: CliRunner().invoke(app, ["verify", *arguments, "--stack", pipeline.stack.name])
    for name in (*POLICIES, "engine"):
        iam.delete_user_policy(UserName=user, PolicyName=name)
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=user)


def findings(result: Result) -> dict[str, dict[str, Any]]:
    assert result.stdout, result.output
    return {one["name"]: one for one in json.loads(result.stdout)["findings"]}


def everything(pipeline: Pipeline) -> list[Any]:
    """What the stores hold, with all versions of objects, but without the position of the sweep."""
    dynamodb, s3 = pipeline.client("dynamodb"), pipeline.client("s3")
    tables = [pipeline.outputs[f"{name}TableName"] for name in ("Events", "Attempts")]
    items = [sorted(map(str, dynamodb.scan(TableName=table)["Items"])) for table in tables]
    versions = s3.list_object_versions(Bucket=pipeline.outputs["ArchiveBucketName"])
    objects = sorted(one["Key"] for kind in ("Versions", "DeleteMarkers") for one in versions.get(kind, ()))
    return [*items, [key for key in objects if key != CURSOR_KEY]]


def test_the_stack_proves_every_promise_and_nothing_is_left_or_notified(
    pipeline: Pipeline, controls: Controls, run: Run
) -> None:
    assert controls.idle()
    before = everything(pipeline)
    with closing(AlarmSubscriber(pipeline)) as on_call, closing(Consumer(pipeline, "holdfast.events")) as consumer:
        result = run("--yes", "--json")
        found = findings(result)
        assert result.exit_code == 0, [one for one in found.values() if one["result"] not in {"PASS", "not checked"}]
        published = eventually(lambda: list(consumer.take()), "the events were published")
        notified = list(on_call.take())
    not_checked = {name: one["seen"] for name, one in found.items() if one["result"] == "not checked"}
    assert not_checked.keys() == {"alarm", "answer-permissions", "alarms-without-data", "redrive-lineage"}
    assert all(reason.startswith("this is the local engine") for reason in not_checked.values())
    assert {one["detail-type"] for one in published} == {"Holdfast:Verify"}
    assert notified == []
    assert everything(pipeline) == before
    alarm = pipeline.client("cloudwatch").describe_alarms(
        AlarmNames=[pipeline.stack.resources["DeadLetterAlarm"]], AlarmTypes=["CompositeAlarm"]
    )
    assert alarm["CompositeAlarms"][0]["ActionsEnabled"] is True


def test_events_survive_a_throttled_processor_and_an_aborted_execution(
    pipeline: Pipeline, controls: Controls, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "THROTTLED_SECONDS", 10.0)
    # The engine does not scale visibility timeouts. A message that was received while throttled would wait for minutes.
    controls.set_queue(VisibilityTimeout="5")
    assert controls.idle()
    before = everything(pipeline)
    with closing(AlarmSubscriber(pipeline)) as on_call:
        result = run("--chaos", "--yes", "--json")
        notified = list(on_call.take())
    found = findings(result)
    assert {name for name, one in found.items() if one["result"] not in {"PASS", "not checked"}} == {"visibility"}
    disturbed = ("throttled", "throttled-stored", "aborted-recovered")
    assert {found[name]["result"] for name in disturbed} == {"PASS"}
    assert notified == []
    assert everything(pipeline) == before
    processor = pipeline.outputs["ProcessorFunctionName"]
    concurrency = pipeline.client("lambda").get_function_concurrency(FunctionName=processor)
    assert "ReservedConcurrentExecutions" not in concurrency


def test_nothing_is_sent_while_processing_is_disabled(pipeline: Pipeline, controls: Controls, run: Run) -> None:
    undo = Setting(pipeline.stack).mapping("ProcessorFunctionBuffer", Enabled=False)
    try:
        result = run("--yes", "--json")
        waiting = controls.messages()
    finally:
        undo()
    found = findings(result)
    assert (result.exit_code, found["events"]["result"], found["processor-mapping"]["result"]) == (
        1,
        "not checked",
        "FAIL",
    )
    assert waiting == []


def test_an_event_that_is_not_archived_exactly_is_found_and_left_alone(
    pipeline: Pipeline, controls: Controls, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its permission the archive function fails, and triage retries it for longer than the command waits."""
    monkeypatch.setattr(synthetic, "_SECONDS", 20.0 - 120.0)  # RetryBaseSeconds comes on top
    bucket = pipeline.outputs["ArchiveBucketName"]
    with controls.denied("ArchiveRole", "s3:PutObject", f"arn:aws:s3:::{bucket}/archive/*"):
        result = run("--yes", "--json")
    found = findings(result)
    assert result.exit_code == 1
    assert {name for name in ("malformed", "invalid", "large", "removed") if found[name]["result"] == "FAIL"} == {
        "malformed",
        "invalid",
        "large",
        "removed",
    }
    assert found["stored"]["result"] == "PASS"
    assert "not deleted: verify-" in found["removed"]["seen"]
    eventually(controls.idle, "triage has archived the letters after all", 60)


@pytest.mark.usefixtures("run")
def test_it_asks_before_it_sends(run: Run) -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "add --yes" in result.stderr
    assert run("--config-only", "--json").exit_code == 1  # the topic has no subscription


def test_each_permission_of_the_configuration_half_is_needed(
    pipeline: Pipeline, user: str, run: Run, request: pytest.FixtureRequest
) -> None:
    """Without it a check is not made, and says so. With ``--every`` only some are taken away, as in tests/iam."""
    iam, name = pipeline.client("iam"), "verify-configuration"
    document = document_of(name, pipeline)
    actions = {action for one in document["Statement"] for action in one["Action"]}
    spared = set()
    needed = sorted(actions - {*ON_EVERY_RESOURCE, *UNCHECKED_BY_THE_ENGINE})
    for action in needed[:: request.config.getoption("--every", default=1)]:
        left = [
            {**one, "Action": [other for other in one["Action"] if other != action]} for one in document["Statement"]
        ]
        statements = [one for one in left if one["Action"]]
        changed = json.dumps({**document, "Statement": statements})
        iam.put_user_policy(UserName=user, PolicyName=name, PolicyDocument=changed)
        result = run("--config-only", "--json")
        not_made = {"not readable", "not checked"}
        made = result.stdout and {one for one, found in findings(result).items() if found["result"] not in not_made}
        if made and made == EXPECTED_ON_THE_ENGINE:
            spared.add(action)
    assert spared == set()
