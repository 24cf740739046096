"""``holdfast verify``: how a template is evaluated and compared, what only AWS can answer, and what is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ops.checks import CheckResult, Finding, NotCheckedError, differences, policy_differences
from ops.configuration import CHECKS
from ops.facts import Facts
from ops.template import DeployedTemplate, Resource, UnresolvedError
from ops.verify import Verification, conclude, render
from tests.commands import AnsweringStack, assert_screen, screen_of

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/holdfast/1"
IDS = {"Queue": "https://sqs.eu-west-1.amazonaws.com/123456789012/q-1", "Table": "t-1", "Rule": "bus-1|r-1"}


def declared(
    properties: Any, resource_type: str = "AWS::SQS::Queue", logical_id: str = "Queue", **parameters: str
) -> DeployedTemplate:
    """A stack with a resource that has these properties."""
    template = {
        "Parameters": {
            "Days": {"Type": "Number", "Default": 14},
            "Topics": {"Type": "CommaDelimitedList", "Default": ""},
            "Switch": {"Type": "String", "Default": "off"},
        },
        "Conditions": {
            "On": {"Fn::Equals": [{"Ref": "Switch"}, "on"]},
            "OnHere": {"Fn::And": [{"Condition": "On"}, {"Fn::Not": [{"Fn::Equals": [{"Ref": "AWS::Region"}, "x"]}]}]},
        },
        "Resources": {
            "Table": {"Type": "AWS::DynamoDB::Table"},
            "Rule": {"Type": "AWS::Events::Rule", "Properties": {"EventBusName": "bus-1"}},
            "Maybe": {"Type": "AWS::SQS::Queue", "Condition": "OnHere"},
            logical_id: {"Type": resource_type, "Properties": properties},
        },
    }
    ids = {**IDS, logical_id: IDS.get(logical_id, logical_id), "Maybe": "https://sqs/1/maybe"}
    return DeployedTemplate(
        template, parameters, ids, STACK_ID, lambda resource, attribute: f"{resource.name}.{attribute}"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Days"}, "14"),
        ({"Ref": "Topics"}, ["a", "b"]),
        ({"Ref": "Queue"}, IDS["Queue"]),
        ({"Ref": "AWS::StackName"}, "holdfast"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:aws:sqs:eu-west-1:123456789012:q-1"),
        ({"Fn::GetAtt": "Queue.QueueName"}, "q-1"),
        ({"Fn::GetAtt": ["Rule", "Arn"]}, "arn:aws:events:eu-west-1:123456789012:rule/bus-1/r-1"),
        ({"Fn::GetAtt": ["Table", "StreamArn"]}, "t-1.StreamArn"),
        ({"Fn::Sub": "${AWS::Region} ${Queue.QueueName} ${!literal}"}, "eu-west-1 q-1 ${literal}"),
        ({"Fn::Sub": ["${A}", {"A": {"Ref": "Days"}}]}, "14"),
        ({"Fn::If": ["On", 1, {"Ref": "AWS::NoValue"}]}, None),
        ({"Fn::If": ["OnHere", 1, 2]}, 2),
        ({"Fn::Select": [1, {"Fn::Split": ["-", "a-b"]}]}, "b"),
        ({"Fn::Join": ["/", [{"Ref": "Days"}, "x"]]}, "14/x"),
        ([1, {"Ref": "AWS::NoValue"}], [1]),
    ],
)
def test_an_intrinsic_function_has_the_value_that_cloudformation_gave_it(value: Any, expected: Any) -> None:
    stack = declared({"P": value}, Topics="a,b")
    assert stack.properties(stack.resource("Queue")).get("P") == expected


@pytest.mark.parametrize(
    "value",
    [{"Fn::ImportValue": "x"}, {"Ref": "Nothing"}, {"Ref": "AWS::URLSuffix"}, {"Fn::GetAtt": ["Nothing", "Arn"]}],
)
def test_what_is_not_evaluated_is_named_and_not_compared(value: Any) -> None:
    stack = declared({"P": value})
    with pytest.raises(UnresolvedError, match=r"not evaluated|no resource Nothing"):
        stack.properties(stack.resource("Queue"))


def test_a_resource_whose_condition_is_false_is_not_declared() -> None:
    assert [one.logical_id for one in declared({}).of_type("AWS::SQS::Queue")] == ["Queue"]
    assert [one.logical_id for one in declared({}, Switch="on").of_type("AWS::SQS::Queue")] == ["Maybe", "Queue"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("14", 14),
        (900, 900.0),
        (True, "true"),
        (None, ""),
        (["a", "b"], ["b", "a"]),
        ({"A": 1}, {"A": 1, "B": 2}),
        ([{"Id": "x", "A": 1}, {"Id": "y"}], [{"Id": "y"}, {"Id": "x", "A": 1, "B": 2}]),
    ],
)
def test_equal_settings_in_other_forms_are_no_difference(wanted: Any, found: Any) -> None:
    assert list(differences({"P": wanted}, {"P": found})) == []


@pytest.mark.parametrize(
    ("wanted", "found", "problem"),
    [
        (14, 1, "P is 1, in the template 14"),
        (14, None, "P is not set, in the template 14"),
        (None, "x", "P is x, in the template not set"),
        (["a"], [], "P is not set, in the template a"),
        ({"A": 1}, {}, "P.A is not set, in the template 1"),
        ([{"Id": "x", "A": 1}], [{"Id": "x", "A": 2}], "P.x.A is 2, in the template 1"),
        ([{"Id": "x"}], [{"Id": "x"}, {"Id": "y"}], "P.y is not in the template"),
        ("arn:aws:sqs:eu-west-1:1:q", "arn:aws:sqs:eu-west-1:1:r", "P is r, in the template q"),
    ],
)
def test_a_difference_says_what_is_and_what_should_be(wanted: Any, found: Any, problem: str) -> None:
    assert list(differences({"P": wanted}, {"P": found})) == [problem]


def test_policies_are_compared_by_what_they_allow() -> None:
    read = {"Sid": "A", "Effect": "Allow", "Action": "s3:GetObject", "Resource": ["a", "b"], "Principal": "*"}
    same = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["b", "a"], "Principal": {"AWS": "*"}}
    assert list(policy_differences({"Statement": [read]}, json.dumps({"Statement": [same]}))) == []
    wider = {**same, "Resource": "*"}
    assert list(policy_differences({"Statement": [read]}, {"Statement": [wider]})) == [
        "lacks s3:GetObject",
        "has more: s3:GetObject",
    ]
    assert list(policy_differences({"Statement": [read]}, None)) == ["lacks s3:GetObject"]


# -- checks against recorded answers ---------------------------------------------------------------------------------


def run_check(name: str, stack: DeployedTemplate, *, local: bool = False, **answers: Any) -> Finding:
    """One check; ``answers`` are by kind, the same for every resource."""
    found = {(kind, logical_id): answer for kind, answer in answers.items() for logical_id in stack.physical_ids}
    (check,) = [one for one in CHECKS if one.name == name]
    return check.run(Facts(stack, found, local, NOW))


def roles() -> DeployedTemplate:
    stack = declared({}, "AWS::IAM::Role", "ProcessorRole")
    stack.template["Resources"]["DeadLetterIntakeRole"] = {"Type": "AWS::IAM::Role"}
    return DeployedTemplate(
        stack.template, {}, {**stack.physical_ids, "DeadLetterIntakeRole": "r"}, STACK_ID, stack.look_up
    )


def alarm() -> DeployedTemplate:
    return declared({"Threshold": 1}, "AWS::CloudWatch::Alarm", "SomeAlarm")


def processor() -> DeployedTemplate:
    return declared({}, "AWS::Lambda::Function", "ProcessorFunction")


@pytest.mark.parametrize(
    ("stream", "result"),
    [
        ({"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}, CheckResult.PASS),
        ({"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}, CheckResult.FAIL),
        (None, CheckResult.FAIL),
    ],
)
def test_a_table_without_its_stream_is_found(stream: Any, result: CheckResult) -> None:
    """On the engine the change cannot be undone: another stream has another ARN."""
    table = {"StreamSpecification": stream} if stream else {}
    events = declared({}, "AWS::DynamoDB::Table", "EventsTable")
    assert run_check("table-stream", events, table={"Table": table}).result is result


@pytest.mark.parametrize(("decision", "result"), [("allowed", CheckResult.PASS), ("implicitDeny", CheckResult.FAIL)])
def test_iam_decides_whether_the_narrow_permissions_suffice(decision: str, result: CheckResult) -> None:
    assert run_check("answer-permissions", roles(), answers=decision).result is result


@pytest.mark.parametrize(
    ("state", "age", "result"),
    [
        ("OK", 0, CheckResult.PASS),
        ("ALARM", 0, CheckResult.PASS),
        ("INSUFFICIENT_DATA", 60, CheckResult.FAIL),
        ("INSUFFICIENT_DATA", 5, CheckResult.NOT_CHECKED),
    ],
)
def test_an_alarm_without_data_must_have_a_state_after_some_minutes(state: str, age: int, result: CheckResult) -> None:
    seen = {"StateValue": state, "StateUpdatedTimestamp": NOW - timedelta(minutes=age)}
    assert run_check("alarms-without-data", alarm(), alarm=seen).result is result


@pytest.mark.parametrize(
    ("redriven", "dropped", "result"),
    [(0, 0, CheckResult.NOT_CHECKED), (7, 0, CheckResult.PASS), (7, 1, CheckResult.FAIL)],
)
def test_dropped_events_are_found_once_letters_were_redriven(redriven: int, dropped: int, result: CheckResult) -> None:
    seen = {"redriven": redriven, "dropped": dropped}
    assert run_check("redrive-lineage", processor(), lineage=seen).result is result


@pytest.mark.parametrize("name", ["answer-permissions", "alarms-without-data", "redrive-lineage"])
def test_what_only_aws_can_answer_is_not_checked_on_the_local_engine(name: str) -> None:
    found = run_check(name, processor(), local=True)
    assert (found.result, found.seen[:24]) == (CheckResult.NOT_CHECKED, "this is the local engine")


def test_a_definition_that_cannot_be_read_is_not_compared() -> None:
    machine = declared({}, "AWS::StepFunctions::StateMachine", "Machine")
    seen = {"uploaded": NotCheckedError("the uploaded definition cannot be read (NoSuchKey)"), "machine": {}}
    assert run_check("state-machines", machine, machine=seen).result is CheckResult.NOT_CHECKED


def test_a_missing_permission_is_named_and_ends_the_command_with_2() -> None:
    denied = {"Error": {"Code": "AccessDenied", "Message": "u is not authorized to perform: cloudwatch:DescribeAlarms"}}
    found = run_check("alarms", alarm(), alarm=ClientError(denied, "DescribeAlarms"))  # type: ignore[arg-type]  # no metadata
    assert (found.result, found.seen.startswith("Your credentials may not call cloudwatch:DescribeAlarms")) == (
        CheckResult.UNREADABLE,
        True,
    )
    assert verification(found).status == 2


def test_names_of_alarms_are_no_difference_from_their_arns() -> None:
    rule = {"AlarmRule": 'ALARM("a") OR\n  ALARM("b")'}
    seen = {"AlarmRule": 'ALARM("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a") OR ALARM("b")'}
    composite = declared(rule, "AWS::CloudWatch::CompositeAlarm", "SomeAlarm")
    assert run_check("alarm-settings", composite, alarm=seen).result is CheckResult.PASS


def test_a_composite_alarm_is_known_by_its_name_even_if_its_id_is_an_arn() -> None:
    arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"
    assert Resource("A", "AWS::CloudWatch::CompositeAlarm", arn).name == "a"


# -- what is shown ---------------------------------------------------------------------------------------------------

PASSED = Finding("Receiving", "queue-retention", "Queues keep messages for 14 days", "14 days", CheckResult.PASS)
FAILED = Finding(
    "Receiving",
    "visibility",
    "Invisible for 6 x timeout + batch window",
    "BufferQueue: VisibilityTimeout is 60, it must be at least 181; DeadLetterQueue: VisibilityTimeout is 60, it must "
    "be at least 360",
    CheckResult.FAIL,
)
LEFT = Finding(
    "Only AWS can answer", "x", "Alarms without data are OK", "this is the local engine", CheckResult.NOT_CHECKED
)


def verification(*findings: Finding) -> Verification:
    return conclude(AnsweringStack({}), NOW, findings)  # type: ignore[arg-type]  # it has a name and a region


@pytest.mark.parametrize(
    ("findings", "status"), [((PASSED, LEFT), 0), ((PASSED, FAILED, LEFT), 1)], ids=["passed", "failed"]
)
def test_the_table_is_aligned_and_ends_with_the_next_step(
    findings: tuple[Finding, ...], status: int, request: pytest.FixtureRequest
) -> None:
    found = verification(*findings)
    assert found.status == status
    assert_screen(render(found), f"verify-{request.node.callspec.id}")


def test_the_table_is_as_wide_without_a_terminal() -> None:
    assert max(map(len, screen_of(render(verification(PASSED)), 10_000).splitlines())) <= 80


def test_every_promise_fits_in_its_column_and_every_name_is_unique() -> None:
    assert [one.promise for one in CHECKS if len(one.promise) > 46] == []
    assert len({one.name for one in CHECKS}) == len(CHECKS)
