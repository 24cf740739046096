"""The template: the names that users rely on, and the settings that the guarantees rest on."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import pytest

from holdfast.adapters.settings import Settings
from tests.contract.parameters import accepts
from tests.contract.project import FUNCTION_IDS, TEMPLATE, decided, functions, properties, resources, template, values

#: Every parameter with its default.
PARAMETERS: dict[str, Any] = {
    "EventBusName": "",
    "DetailTypes": "",
    "DetailTypePrefix": "",
    "GenesysDomain": "mypurecloud.com",
    "GenesysCredentialsSecretArn": "",
    "GenesysApiUrl": "",
    "GenesysLoginUrl": "",
    "EnrichmentPolicy": "best-effort",
    "EnrichWith": "users",
    "MaxConcurrency": 10,
    "ReserveConcurrency": "false",
    "BatchSize": 10,
    "BatchWindowSeconds": 5,
    "MaxReceiveCount": 5,
    "BackoffBaseSeconds": 3,
    "BackoffCapSeconds": 300,
    "RetryBaseSeconds": 120,
    "RetryCapSeconds": 21600,
    "MaxRetries": 5,
    "MaxAgeHours": 168,
    "OutcomeTimeoutSeconds": 21600,
    "CircuitBreaker": "on",
    "CircuitBreakerMinEvents": 50,
    "CircuitBreakerFailurePercent": 90,
    "CircuitBreakerMaxHours": 240,
    "EventRetentionDays": 400,
    "ArchiveRetentionDays": 365,
    "ArchiveQueries": "true",
    "LogLevel": "INFO",
    "LogRetentionDays": 30,
    "Tracing": "false",
    "AlarmEmail": "",
    "KmsKeyArn": "",
    "Architecture": "x86_64",
}
LOGICAL_IDS = {
    **dict.fromkeys(FUNCTION_IDS.values(), "AWS::Serverless::Function"),
    "TriageStateMachine": "AWS::Serverless::StateMachine",
    "ReplayStateMachine": "AWS::Serverless::StateMachine",
    "CircuitBreakerStateMachine": "AWS::Serverless::StateMachine",
    "EverythingFailsAlarm": "AWS::CloudWatch::CompositeAlarm",
    "OperationsDeadLetterQueue": "AWS::SQS::Queue",
    "BufferQueue": "AWS::SQS::Queue",
    "DeadLetterQueue": "AWS::SQS::Queue",
    "EventsTable": "AWS::DynamoDB::Table",
    "AttemptsTable": "AWS::DynamoDB::Table",
    "ArchiveBucket": "AWS::S3::Bucket",
    "EnrichedBus": "AWS::Events::EventBus",
}
OUTPUTS = {
    "EventBusName",
    "BufferQueueUrl",
    "DeadLetterQueueUrl",
    "ProcessorFunctionName",
    "EventsTableName",
    "FanOutFunctionName",
    "AttemptsTableName",
    "ArchiveBucketName",
    "TriageStateMachineArn",
    "ReplayStateMachineArn",
    "CircuitBreakerStateMachineArn",
    "EnrichedBusName",
    "DashboardUrl",
    "AlarmTopicArn",
}
#: These actions have no resource type: https://docs.aws.amazon.com/service-authorization/latest/reference/
WITHOUT_RESOURCE_TYPE = {
    "cloudwatch:GetMetricStatistics",
    "dynamodb:ListStreams",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
}
FOURTEEN_DAYS = 14 * 86_400
DATA = ("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket")
POLICIES = ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")


def mappings(kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The event sources of a kind: the properties of the function and of the source."""
    return [
        (function, event["Properties"])
        for function in functions().values()
        for event in function.get("Events", {}).values()
        if event["Type"] == kind
    ]


def largest(value: Any) -> Any:
    """The largest value that a property can have."""
    return template()["Parameters"][value["Ref"]]["MaxValue"] if isinstance(value, dict) else value


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every IAM statement with the logical id of its role or policy, including those inside ``!If``."""
    for name, found in [item for kind in POLICIES for item in resources(kind).items()]:
        for document in values(found["Properties"], "PolicyDocument"):
            for statement in as_list(document["Statement"]):
                for one in statement.get("Fn::If", [None, statement])[1:]:
                    if "Effect" in one:
                        yield name, one


# ------------------------------------------------------------------ names that users rely on


def test_every_parameter_keeps_its_name_and_its_default() -> None:
    assert {name: found["Default"] for name, found in template()["Parameters"].items()} == PARAMETERS


def test_every_parameter_has_a_description_and_constraints() -> None:
    for name, found in template()["Parameters"].items():
        assert found["Description"].endswith("."), name
        # CloudFormation has no constraints for a list. An unknown topic in it matches no event.
        assert found.keys() & {"AllowedValues", "AllowedPattern", "MinValue"} or name == "DetailTypes", name
        assert found["Type"] != "Number" or "AllowedValues" in found or {"MinValue", "MaxValue"} <= found.keys(), name
        assert "AllowedPattern" not in found or found["ConstraintDescription"].endswith("."), name


SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:genesys-AbCdEf"
GOVCLOUD_SECRET = "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:g"
KMS = "arn:aws:kms:eu-central-1:123456789012"
#: Parameter, values that are accepted besides the default, values that are rejected.
VALUES = [
    ("EventBusName", ["default", "aws.partner/genesys.com/cloud/0a1b/x"], ["arn:aws:events:x", "a bus", "a" * 257]),
    ("DetailTypePrefix", ["v2.detail.events.", "v2.users.{id}."], ["v2.users,v2.audits", "v2. users", "a" * 129]),
    ("GenesysDomain", ["mypurecloud.de", "usw2.pure.cloud"], ["", "org.mypurecloud.com", "https://mypurecloud.de"]),
    ("GenesysCredentialsSecretArn", [SECRET, GOVCLOUD_SECRET], ["g", SECRET.replace("789012", ""), f"{KMS}:key/x"]),
    ("GenesysApiUrl", ["http://127.0.0.1:80", "https://a.example.com"], ["a.example.com", "https://a.example.com/v2"]),
    ("GenesysLoginUrl", ["http://127.0.0.1:80"], ["ftp://example.com", "https://login.example.com/"]),
    ("EnrichmentPolicy", ["best-effort", "required", "off"], ["", "on", "Off", "False"]),
    ("EnrichWith", ["users", "users,queues", "users,queues,wrapupcodes"], ["", "queues", "users, queues"]),
    ("MaxConcurrency", [2, 1000], [0, 1, 1001, "ten"]),
    ("ReserveConcurrency", ["true"], ["True", "yes", ""]),
    ("BatchSize", [1, 1000], [0, 1001]),
    ("BatchWindowSeconds", [1, 300], [0, 301]),
    ("MaxReceiveCount", [5, 100], [1, 4, 101]),
    ("BackoffBaseSeconds", [1], [0, -1]),
    ("BackoffCapSeconds", [1, 3600], [0, 43201]),
    ("RetryBaseSeconds", [1], [0, -5]),
    ("RetryCapSeconds", [1, 604800], [0]),
    ("MaxRetries", [1, 8], [0, 9]),
    ("MaxAgeHours", [1], [0]),
    ("OutcomeTimeoutSeconds", [5, 604800], [0, 4]),
    ("CircuitBreaker", ["on", "off"], ["On", "true", ""]),
    ("CircuitBreakerMinEvents", [1, 1_000_000], [0]),
    ("CircuitBreakerFailurePercent", [1, 100], [0, 101]),
    ("CircuitBreakerMaxHours", [1, 300], [0, 301]),
    ("EventRetentionDays", [365, 3650], [30, 364]),
    ("ArchiveRetentionDays", [30, 365], [29, 366]),
    ("ArchiveQueries", ["false"], ["False", "no", ""]),
    ("LogLevel", ["DEBUG", "ERROR"], ["debug", ""]),
    ("LogRetentionDays", [1, 3653], [0, 2, 31]),
    ("Tracing", ["true"], ["Active", "True", ""]),
    ("AlarmEmail", ["on-call@example.com"], ["on-call", "a b@example.com"]),
    ("KmsKeyArn", [f"{KMS}:key/0a1b2c3d-0000-4000-8000-000000000000"], ["alias/aws/sqs", f"{KMS}:alias/a", "0a1b2c3d"]),
    ("Architecture", ["arm64"], ["amd64", ""]),
]


@pytest.mark.parametrize(("name", "accepted", "rejected"), VALUES, ids=[name for name, _, _ in VALUES])
def test_a_parameter_accepts_valid_values_only(name: str, accepted: list[Any], rejected: list[Any]) -> None:
    parameter = template()["Parameters"][name]
    assert [value for value in [PARAMETERS[name], *accepted] if not accepts(parameter, value)] == []
    assert [value for value in rejected if accepts(parameter, value)] == []


def test_every_parameter_is_in_a_group_of_the_console() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)


def test_every_parameter_is_used() -> None:
    body = template()
    text = json.dumps([body["Resources"], body["Conditions"], body["Globals"]])
    for name in PARAMETERS:
        assert f'"Ref": "{name}"' in text or f"${{{name}}}" in text, name


def test_the_resources_that_users_rely_on_exist() -> None:
    found = {name: one["Type"] for name, one in template()["Resources"].items()}
    assert LOGICAL_IDS.items() <= found.items()


def test_every_event_source_keeps_its_name() -> None:
    """A new name is a new mapping, and a new mapping of the stream starts at the beginning again."""
    sources = {name: list(found["Events"]) for name, found in functions().items() if "Events" in found}
    assert sources == {
        "ProcessorFunction": ["Buffer"],
        "FanOutFunction": ["NewEvents"],
        "DeadLetterIntakeFunction": ["DeadLetters"],
        "EvidenceSweepFunction": ["Regularly"],
    }


def test_every_output_keeps_its_name_and_has_a_description() -> None:
    outputs = template()["Outputs"]
    assert outputs.keys() == OUTPUTS
    assert all(output["Description"] for output in outputs.values())


def test_all_eighteen_genesys_cloud_regions_are_accepted() -> None:
    domains = template()["Parameters"]["GenesysDomain"]["AllowedValues"]
    assert len(domains) == len(set(domains)) == 18


# ------------------------------------------------------------------ queues


def test_the_visibility_timeout_is_six_function_timeouts_plus_the_longest_batch_window() -> None:
    found = mappings("SQS")
    assert len(found) == 2
    for function, event in found:
        queue = properties(event["Queue"]["Fn::GetAtt"][0])
        window = largest(event.get("MaximumBatchingWindowInSeconds", 0))
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"] + window


def test_an_event_is_received_at_least_five_times_before_it_becomes_a_dead_letter() -> None:
    redrive = properties("BufferQueue")["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert redrive["maxReceiveCount"] == {"Ref": "MaxReceiveCount"}
    assert template()["Parameters"]["MaxReceiveCount"]["MinValue"] >= 5


def test_the_dead_letter_queue_has_no_redrive_policy() -> None:
    assert "RedrivePolicy" not in properties("DeadLetterQueue")


def test_both_queues_keep_messages_for_the_longest_time_that_sqs_allows() -> None:
    for name, queue in resources("AWS::SQS::Queue").items():
        assert queue["Properties"]["MessageRetentionPeriod"] == FOURTEEN_DAYS, name


def test_reserved_and_maximum_concurrency_are_the_same_parameter() -> None:
    processor = functions()["ProcessorFunction"]
    assert processor["ReservedConcurrentExecutions"]["Fn::If"][1] == {"Ref": "MaxConcurrency"}
    mapping = processor["Events"]["Buffer"]["Properties"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "MaxConcurrency"}}


def test_every_queue_mapping_limits_concurrency_and_reports_partial_failures() -> None:
    for _, event in mappings("SQS"):
        assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert event["ScalingConfig"]["MaximumConcurrency"]


def test_the_stream_mapping_starts_at_the_beginning_and_keeps_failed_records() -> None:
    ((_, event),) = mappings("DynamoDB")
    assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert event["StartingPosition"] == "TRIM_HORIZON"
    # A queue or topic would receive metadata only, and the stream deletes the records after 24 hours.
    assert event["DestinationConfig"]["OnFailure"]["Type"] == "S3"


def test_only_the_intake_is_exempt_from_loop_detection() -> None:
    found = decided(functions(), DetectsRecursiveLoops=True)
    allowed = {name for name, function in found.items() if function.get("RecursiveLoop") == "Allow"}
    assert allowed == {"DeadLetterIntakeFunction"}


def test_the_timeout_of_the_processor_leaves_time_to_report() -> None:
    reserved: float = importlib.import_module("processor.app").RESERVED_FOR_REPORT_SECONDS
    assert functions()["ProcessorFunction"]["Timeout"] > 2 * reserved


# ------------------------------------------------------------------ rules


def test_every_eventbridge_target_has_a_dead_letter_queue_and_an_explicit_retry_policy() -> None:
    rules = resources("AWS::Events::Rule")
    targets = {name: target for name, rule in rules.items() for target in rule["Properties"]["Targets"]}
    schedules = [event for kind in ("Schedule", "EventBridgeRule", "ScheduleV2") for _, event in mappings(kind)]
    assert targets.keys() >= {"EventRule"}
    assert schedules
    for one in [*targets.values(), *schedules]:
        # The events' queue is triage's input: triage would archive what EventBridge sends for a schedule.
        queue = "DeadLetterQueue" if one is targets["EventRule"] else "OperationsDeadLetterQueue"
        assert one["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": [queue, "Arn"]}
        assert one["RetryPolicy"].keys() == {"MaximumRetryAttempts", "MaximumEventAgeInSeconds"}


def test_the_rule_matches_genesys_events_and_depends_on_the_queue_policies() -> None:
    rule = template()["Resources"]["EventRule"]
    assert rule["Properties"]["EventPattern"]["source"] == [
        {"prefix": "aws.partner/genesys.com"},
        {"prefix": "genesys.cloud"},
    ]
    assert {"BufferQueuePolicy", "DeadLetterQueuePolicy"} <= set(rule["DependsOn"])


def test_an_existing_bus_is_never_created_or_deleted_by_the_stack() -> None:
    buses = resources("AWS::Events::EventBus")
    assert buses.keys() == {"EventBus", "EnrichedBus"}
    assert buses["EventBus"]["Condition"] == "CreateBus"
    assert template()["Conditions"]["CreateBus"] == {"Fn::Equals": [{"Ref": "EventBusName"}, ""]}


@pytest.mark.parametrize("name", ["BufferQueuePolicy", "DeadLetterQueuePolicy", "OperationsDeadLetterQueuePolicy"])
def test_only_rules_of_this_stack_may_send_to_a_queue(name: str) -> None:
    (allowed,) = [one for one in properties(name)["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    rules = list(values(allowed["Condition"]["ArnLike"], "Fn::Sub"))
    head = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/"
    # The second is a rule on the default bus, whose ARN does not contain the bus.
    on_other_buses = [] if name.startswith("Operations") else [f"{head}*/${{AWS::StackName}}-*"]
    assert rules == [*on_other_buses, f"{head}${{AWS::StackName}}-*"]


# ------------------------------------------------------------------ data


@pytest.mark.parametrize("has_key", [False, True])
def test_all_data_is_encrypted_and_with_the_customer_managed_key_if_there_is_one(has_key: bool) -> None:
    def found(kind: str) -> dict[str, Any]:
        return {name: decided(one["Properties"], HasKmsKey=has_key) for name, one in resources(kind).items()}

    key = {"Ref": "KmsKeyArn"} if has_key else None
    for name, queue in found("AWS::SQS::Queue").items():
        sse = (queue.get("KmsMasterKeyId"), queue.get("SqsManagedSseEnabled"))
        assert sse == (key, None if has_key else True), name
    for name, table in found("AWS::DynamoDB::Table").items():
        # Without a specification DynamoDB uses its own key, free of charge.
        sse = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key} if has_key else None
        assert table.get("SSESpecification") == sse, name
    for name, bucket in found("AWS::S3::Bucket").items():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        sse = rule["ServerSideEncryptionByDefault"]
        assert (sse["SSEAlgorithm"], sse.get("KMSMasterKeyID")) == ("aws:kms" if has_key else "AES256", key), name
    assert {topic.get("KmsMasterKeyId") == key for topic in found("AWS::SNS::Topic").values()} == {True}
    assert {group.get("KmsKeyId") == key for group in found("AWS::Logs::LogGroup").values()} == {True}
    assert decided(template()["Globals"], HasKmsKey=has_key)["Function"].get("KmsKeyArn") == key


def test_no_queue_or_topic_uses_an_aws_managed_key() -> None:
    """EventBridge and CloudWatch may not use those keys, so deliveries would fail silently."""
    assert not re.search(r"alias/aws/(sqs|sns)", TEMPLATE.read_text())


def test_all_data_outlives_the_stack() -> None:
    for kind in DATA:
        for name, found in resources(kind).items():
            if name != "OperationsDeadLetterQueue":
                kept = (found["DeletionPolicy"], found["UpdateReplacePolicy"])
                assert kept == ("RetainExceptOnCreate", "Retain"), name


def test_every_table_has_point_in_time_recovery() -> None:
    for name, table in resources("AWS::DynamoDB::Table").items():
        assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True, name


def test_nothing_is_public_or_reachable_without_tls() -> None:
    assert all(properties("ArchiveBucket")["PublicAccessBlockConfiguration"].values())
    policies = resources("AWS::S3::BucketPolicy") | resources("AWS::SQS::QueuePolicy")
    assert len(policies) == sum(len(resources(kind)) for kind in ("AWS::S3::Bucket", "AWS::SQS::Queue"))
    for name in policies:
        denied = [one for one in properties(name)["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert denied[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name


def test_snapshots_never_expire() -> None:
    for rule in properties("ArchiveBucket")["LifecycleConfiguration"]["Rules"]:
        if rule.keys() & {"ExpirationInDays", "ExpirationDate", "Transitions"}:
            assert rule["Prefix"]
            assert not "dead-letters/".startswith(rule["Prefix"])
            assert not rule["Prefix"].startswith("dead-letters")


def test_every_other_object_expires_and_leaves_nothing() -> None:
    rules = properties("ArchiveBucket")["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring["archive/"] == {"Ref": "ArchiveRetentionDays"}
    assert expiring["events/"] == {"Ref": "EventRetentionDays"}
    assert (expiring["aws/lambda/"], expiring["replays/"]) == (90, 90)
    noncurrent = {
        rule.get("Prefix"): rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules
        if "NoncurrentVersionExpiration" in rule
    }
    assert noncurrent == {"dead-letters/": 3, None: 30}
    assert [rule.get("Prefix") for rule in rules if rule.get("ExpiredObjectDeleteMarker")] == [None]


def test_events_are_kept_at_least_as_long_as_archived_letters() -> None:
    parameters = template()["Parameters"]
    assert parameters["EventRetentionDays"]["MinValue"] >= parameters["ArchiveRetentionDays"]["MaxValue"]


def test_events_are_kept_longer_than_triage_can_last() -> None:
    parameters = template()["Parameters"]
    assert parameters["EventRetentionDays"]["MinValue"] * 24 > parameters["MaxAgeHours"]["MaxValue"]


# ------------------------------------------------------------------ functions


def test_every_function_has_a_folder_with_its_handler() -> None:
    for folder, name in FUNCTION_IDS.items():
        assert functions()[name]["Handler"] == f"{folder}.app.lambda_handler"
    assert functions().keys() == set(FUNCTION_IDS.values())


def test_every_function_shares_one_build_that_needs_no_python_3_13_on_the_host() -> None:
    for name, found in resources("AWS::Serverless::Function").items():
        assert found["Metadata"]["BuildMethod"] == "python-uv", name
    for name, function in functions().items():
        assert function["Runtime"] == "python3.13", name
        assert function["CodeUri"] == "functions/", name
        assert function["Architectures"] == [{"Ref": "Architecture"}], name


def test_every_function_has_its_own_role_and_its_own_log_group_with_a_retention() -> None:
    groups = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions().values()]
    roles = [function["Role"]["Fn::GetAtt"][0] for function in functions().values()]
    assert len(set(groups)) == len(set(roles)) == len(functions())
    for name in groups:
        assert properties(name)["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for group, role in zip(groups, roles, strict=True):
        written = [one for name, one in statements() if name == role and "logs:PutLogEvents" in as_list(one["Action"])]
        assert [one["Resource"] for one in written] == [{"Fn::GetAtt": [group, "Arn"]}]


@pytest.mark.parametrize("folder", FUNCTION_IDS)
def test_a_function_gets_exactly_the_variables_that_it_reads_and_the_defaults_are_valid(folder: str) -> None:
    module = importlib.import_module(f"{folder}.app")
    (kind,) = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Settings) and found is not Settings
    ]
    variables = functions()[FUNCTION_IDS[folder]]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == folder.replace("_", "-")
    # Globals give the bucket to every function, because all but one need it.
    unused = {"ARCHIVE_BUCKET_NAME"} if folder == "circuit_breaker" else set()
    ours = {name for name in variables if not name.startswith("POWERTOOLS_")} - unused
    assert ours == {field.name.upper() for field in fields(kind)}
    settings = kind.from_env({name: _deployed(variables[name]) for name in ours})
    for field in fields(settings):
        assert field.default is not MISSING or getattr(settings, field.name) != ""


def _deployed(value: Any) -> str:
    """The value in a deployment with all defaults: the default of a parameter, or the logical id of a resource."""
    if not isinstance(value, dict):
        return str(value)
    name = value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0]
    return str(PARAMETERS.get(name, name))


# ------------------------------------------------------------------ permissions


def test_no_action_contains_a_wildcard() -> None:
    for name, statement in statements():
        for action in as_list(statement["Action"]):
            assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), f"{name}: {action}"


def test_only_actions_without_a_resource_type_are_allowed_on_every_resource_and_each_with_a_comment() -> None:
    wide = [(name, one) for name, one in statements() if "*" in as_list(one["Resource"])]
    for name, statement in wide:
        assert set(as_list(statement["Action"])) <= WITHOUT_RESOURCE_TYPE, name
    explained = re.findall(
        r"^ *# AWS defines no resource type.*\n.*Resource: \"\*\"", TEMPLATE.read_text(), re.MULTILINE
    )
    assert len(explained) == len(wide)


def test_no_role_has_a_managed_policy_of_aws() -> None:
    """AWS can extend a managed policy of its own at any time. The stack's own is attached only for tracing."""
    attached = {"Fn::If": ["TracesCalls", [{"Ref": "TracingPolicy"}], {"Ref": "AWS::NoValue"}]}
    for name, role in resources("AWS::IAM::Role").items():
        if name != "CircuitBreakerRuleRole":  # EventBridge traces nothing with a role
            assert role["Properties"]["ManagedPolicyArns"] == attached, name
    for name, function in functions().items():
        assert "Policies" not in function, name


def test_every_role_is_assumed_by_the_service_of_its_owner_only() -> None:
    for name, role in resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        expected = {"events"} if name == "CircuitBreakerRuleRole" else {"lambda", "states"}
        assert statement["Principal"]["Service"] in {f"{service}.amazonaws.com" for service in expected}, name


def test_the_template_contains_no_partition_region_or_account() -> None:
    code = "\n".join(line.partition(" #")[0] for line in TEMPLATE.read_text().splitlines())
    assert "arn:aws" not in code
    # Regions without recursive loop detection are the exception.
    without_lists = re.sub(r"AllowedValues:(\n      - .*)+|DetectsRecursiveLoops: !And(\n    - .*)+", "", code)
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d\b", without_lists)
    assert not re.search(r"\b\d{12}\b", code)
    assert "amazonaws.com/" not in code
    assert ".console.aws.amazon.com" not in code


def test_a_state_machine_may_invoke_exactly_the_functions_of_its_states() -> None:
    for machine, role in (("TriageStateMachine", "TriageMachineRole"), ("ReplayStateMachine", "ReplayMachineRole")):
        substitutions = properties(machine)["DefinitionSubstitutions"]
        called = [value for name, value in substitutions.items() if name.endswith("FunctionArn")]
        allowed = [one for name, one in statements() if name == role and one["Action"] == "lambda:InvokeFunction"]
        assert as_list(allowed[0]["Resource"]) == called
