"""The configuration half of ``holdfast verify``: it accepts the deployed stack, and finds each single change to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ops.checks import CheckResult
from ops.configuration import CHECKS, examine
from ops.template import DeployedTemplate
from tests.e2e.broken import BROKEN, Break, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.environment import LocalStack
    from local.stack import Stack

#: What only AWS can answer, and what a change on the engine could not be undone: another stream has another ARN.
NOT_BROKEN_HERE = {"answer-permissions", "alarms-without-data", "redrive-lineage", "table-stream"}


@pytest.fixture(scope="module")
def subscribed(deployed: LocalStack) -> Iterator[Stack]:
    """The stack as it is after a deployment, and somebody receives its alarms."""
    sqs, sns = deployed.client("sqs"), deployed.client("sns")
    url = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = deployed.outputs["AlarmTopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    yield deployed.stack
    for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        if one["Endpoint"] == arn:
            sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
    sqs.delete_queue(QueueUrl=url)


def failed(stack: Stack) -> set[str]:
    return {
        one.name
        for one in examine(stack, DeployedTemplate.read(stack))
        if one.result not in {CheckResult.PASS, CheckResult.NOT_CHECKED}
    }


def test_the_stack_as_deployed_passes_and_only_aws_can_answer_the_rest(subscribed: Stack) -> None:
    results = {one.name: one for one in examine(subscribed, DeployedTemplate.read(subscribed))}
    not_passed = {name: one for name, one in results.items() if one.result is not CheckResult.PASS}
    assert not_passed.keys() == NOT_BROKEN_HERE - {"table-stream"}, not_passed
    assert all("this is the local engine" in one.seen for one in not_passed.values())


@pytest.mark.parametrize(("check", "what", "change"), BROKEN, ids=[f"{check}: {what}" for check, what, _ in BROKEN])
def test_one_wrong_setting_is_found_by_its_check_alone(subscribed: Stack, check: str, what: str, change: Break) -> None:
    undo = change(Setting(subscribed))
    try:
        found = failed(subscribed)
    finally:
        undo()
    assert found == {check}, what


def test_every_change_was_undone(subscribed: Stack) -> None:
    assert failed(subscribed) == set()


def test_every_check_has_a_change_that_it_finds() -> None:
    assert {check for check, _, _ in BROKEN} | NOT_BROKEN_HERE == {one.name for one in CHECKS}
