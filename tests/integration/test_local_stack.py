"""What the local deployment leaves out is exactly what the engine refuses, and what hangs on it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from local.environment import check_prerequisites
from local.errors import LocalError
from local.stack import without_refused

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


def test_refused_resources_go_and_so_does_what_refers_to_them() -> None:
    local, left_out = without_refused(TEMPLATE)
    assert local["Resources"].keys() == {"Topic", "Errors"}
    assert left_out == {"Letters": "the engine has no saved queries", "Board": "it refers to Letters"}


def test_outputs_and_dependencies_on_them_go_too() -> None:
    local, _ = without_refused(TEMPLATE)
    assert local["Outputs"].keys() == {"Topic"}
    assert local["Resources"]["Topic"]["DependsOn"] == ["Errors"]
    assert local["Conditions"] == TEMPLATE["Conditions"]


def test_the_template_itself_is_left_alone() -> None:
    before = copy.deepcopy(TEMPLATE)
    without_refused(TEMPLATE)
    assert before == TEMPLATE


def test_a_template_without_refused_resources_stays_as_it_is() -> None:
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    assert without_refused(template) == (template, {})


def test_what_is_missing_is_named_line_by_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"There is no template\.yaml in .*: run this from a complete checkout"):
        check_prerequisites(tmp_path)
