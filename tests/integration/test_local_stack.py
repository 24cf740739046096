"""The local deployment leaves out exactly what the engine does not support, and what refers to it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from local.environment import check_prerequisites
from local.errors import LocalError
from local.stack import without_unsupported

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE: dict[str, Any] = {
    "Conditions": {"Alarming": {"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}},
    "Resources": {
        "Topic": {"Type": "AWS::SNS::Topic", "DependsOn": ["Letters", "Errors"]},
        "Errors": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "Errors"}},
        "Letters": {"Type": "AWS::Logs::QueryDefinition", "Properties": {"QueryString": "limit 1"}},
        "Board": {
            "Type": "AWS::CloudWatch::Dashboard",
            "Properties": {
                "DashboardBody": {"Fn::Sub": ["${arn} ${!Literal}", {"arn": {"Fn::GetAtt": ["Letters", "Arn"]}}]}
            },
        },
    },
    "Outputs": {"Topic": {"Value": {"Ref": "Topic"}}, "Board": {"Value": {"Fn::Join": ["", ["x", {"Ref": "Board"}]]}}},
}


def test_unsupported_resources_and_references_to_them_are_left_out() -> None:
    local, left_out = without_unsupported(TEMPLATE)
    assert local["Resources"].keys() == {"Topic", "Errors"}
    assert left_out == {"Letters": "the engine has no saved queries", "Board": "it refers to Letters"}


def test_outputs_and_dependencies_on_them_are_left_out() -> None:
    local, _ = without_unsupported(TEMPLATE)
    assert local["Outputs"].keys() == {"Topic"}
    assert local["Resources"]["Topic"]["DependsOn"] == ["Errors"]
    assert local["Conditions"] == TEMPLATE["Conditions"]


def test_the_template_itself_is_not_changed() -> None:
    before = copy.deepcopy(TEMPLATE)
    without_unsupported(TEMPLATE)
    assert before == TEMPLATE


def test_a_template_without_unsupported_resources_is_not_changed() -> None:
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    assert without_unsupported(template) == (template, {})


def test_a_missing_template_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"There is no template\.yaml in .*: run this from a complete checkout"):
        check_prerequisites(tmp_path)
