"""The template: the names that users type, and what must hold whatever else is edited."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

from holdfast.adapters.settings import Settings
from tests.contract.parameters import accepts
from tests.contract.project import FUNCTION_IDS, TEMPLATE, decided, functions, properties, resources, template, values

#: The contract: every parameter with the default of a first deployment.
PARAMETERS: dict[str, Any] = {
    "EventBusName": "",
    "DetailTypes": "",
    "GenesysDomain": "mypurecloud.com",
    "GenesysCredentialsSecretArn": "",
    "GenesysApiUrl": "",
    "GenesysLoginUrl": "",
    "EnrichmentPolicy": "best-effort",
    "MaxConcurrency": 10,
    "ReserveConcurrency": "false",
    "BatchSize": 10,
    "BatchWindowSeconds": 5,
    "MaxReceiveCount": 5,
    "BackoffBaseSeconds": 2,
    "BackoffCapSeconds": 300,
    "RetryBaseSeconds": 120,
    "RetryCapSeconds": 21600,
    "MaxRetries": 5,
    "MaxAgeHours": 168,
    "OutcomeTimeoutSeconds": 21600,
    "EventRetentionDays": 400,
    "ArchiveRetentionDays": 365,
    "LogLevel": "INFO",
    "LogRetentionDays": 30,
    "AlarmEmail": "",
    "KmsKeyArn": "",
    "Architecture": "x86_64",
}
LOGICAL_IDS = {
    **dict.fromkeys(FUNCTION_IDS.values(), "AWS::Serverless::Function"),
    "TriageStateMachine": "AWS::Serverless::StateMachine",
    "ReplayStateMachine": "AWS::Serverless::StateMachine",
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
    "AttemptsTableName",
    "ArchiveBucketName",
    "TriageStateMachineArn",
    "ReplayStateMachineArn",
    "EnrichedBusName",
    "DashboardUrl",
    "AlarmTopicArn",
}
#: https://docs.aws.amazon.com/service-authorization/latest/reference/: these actions know no resource.
WITHOUT_RESOURCE_TYPE = {"states:SendTaskSuccess", "states:SendTaskFailure", "dynamodb:ListStreams"}
FOURTEEN_DAYS = 14 * 86_400
DATA = ("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket")


def mappings(kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each event source of a kind: its function's properties, and its own."""
    return [
        (function, event["Properties"])
        for function in functions().values()
        for event in function.get("Events", {}).values()
        if event["Type"] == kind
    ]


def most(value: Any) -> Any:
    """The largest value that a property can take."""
    return template()["Parameters"][value["Ref"]]["MaxValue"] if isinstance(value, dict) else value


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every IAM statement of a role or a policy; ``!If`` is looked into."""
    for name, found in (resources("AWS::IAM::Role") | resources("AWS::IAM::Policy")).items():
        for document in values(found["Properties"], "PolicyDocument"):
            for statement in as_list(document["Statement"]):
                for one in statement.get("Fn::If", [None, statement])[1:]:
                    if "Effect" in one:
                        yield name, one


# ------------------------------------------------------------------ names that users type


def test_the_parameters_are_those_of_the_contract_with_their_defaults() -> None:
    assert {name: found["Default"] for name, found in template()["Parameters"].items()} == PARAMETERS


def test_every_parameter_says_what_it_is_for_and_refuses_what_it_cannot_use() -> None:
    for name, found in template()["Parameters"].items():
        assert found["Description"].endswith("."), name
        bounded = found.keys() & {"AllowedValues", "AllowedPattern", "MinValue"}
        # A list has no constraints of its own; a topic that nobody emits matches nothing.
        assert bounded or found["Type"] == "CommaDelimitedList", name
        assert found["Type"] != "Number" or "AllowedValues" in found or {"MinValue", "MaxValue"} <= found.keys(), name
        assert "AllowedPattern" not in found or found["ConstraintDescription"].endswith("."), name


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_first_deployment_can_leave_every_parameter_as_it_is(name: str) -> None:
    assert accepts(template()["Parameters"][name], PARAMETERS[name])


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "EventBusName",
            ["default", "aws.partner/genesys.com/cloud/0a1b/holdfast"],
            ["arn:aws:events:x", "a bus", "a" * 257],
        ),
        ("GenesysDomain", ["mypurecloud.de", "usw2.pure.cloud"], ["", "org.mypurecloud.com", "https://mypurecloud.de"]),
        (
            "GenesysCredentialsSecretArn",
            [
                "arn:aws:secretsmanager:eu-central-1:123456789012:secret:genesys-AbCdEf",
                "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:g",
            ],
            ["genesys", "arn:aws:ssm:eu-central-1:123456789012:parameter/x", "arn:aws:secretsmanager:x:12:secret:g"],
        ),
        (
            "GenesysApiUrl",
            ["http://127.0.0.1:8080", "https://api.example.com"],
            ["api.example.com", "https://a.example.com/v2"],
        ),
        ("GenesysLoginUrl", ["http://127.0.0.1:8080"], ["ftp://example.com", "https://login.example.com/"]),
        ("EnrichmentPolicy", ["best-effort", "required", "off"], ["", "on", "Off", "False"]),
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
        ("EventRetentionDays", [365, 3650], [30, 364]),
        ("ArchiveRetentionDays", [30, 365], [29, 366]),
        ("LogLevel", ["DEBUG", "ERROR"], ["debug", ""]),
        ("LogRetentionDays", [1, 3653], [0, 2, 31]),
        ("AlarmEmail", ["on-call@example.com"], ["on-call", "a b@example.com"]),
        (
            "KmsKeyArn",
            ["arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"],
            ["alias/aws/sqs", "arn:aws:kms:eu-central-1:123456789012:alias/holdfast", "0a1b2c3d"],
        ),
        ("Architecture", ["arm64"], ["amd64", ""]),
    ],
)
def test_a_parameter_takes_what_it_can_use_and_refuses_the_rest(name: str, right: list[Any], wrong: list[Any]) -> None:
    parameter = template()["Parameters"][name]
    assert [value for value in right if not accepts(parameter, value)] == []
    assert [value for value in wrong if accepts(parameter, value)] == []


def test_the_parameters_are_shown_in_groups_and_none_is_left_out() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(PARAMETERS)


def test_every_parameter_is_used() -> None:
    body = template()
    text = json.dumps([body["Resources"], body["Conditions"], body["Globals"]])
    for name in PARAMETERS:
        assert f'"Ref": "{name}"' in text or f"${{{name}}}" in text, name


def test_the_resources_that_users_name_are_there() -> None:
    found = {name: one["Type"] for name, one in template()["Resources"].items()}
    assert LOGICAL_IDS.items() <= found.items()


def test_an_event_source_keeps_its_name_because_another_name_would_be_another_mapping_that_begins_anew() -> None:
    sources = {name: list(found["Events"]) for name, found in functions().items() if "Events" in found}
    assert sources == {
        "ProcessorFunction": ["Buffer"],
        "FanOutFunction": ["NewEvents"],
        "DeadLetterIntakeFunction": ["DeadLetters"],
        "EvidenceSweepFunction": ["Daily"],
    }


def test_the_outputs_are_those_of_the_contract_and_each_says_what_it_is() -> None:
    outputs = template()["Outputs"]
    assert outputs.keys() == OUTPUTS
    assert all(output["Description"] for output in outputs.values())


def test_all_eighteen_regions_of_genesys_cloud_can_be_chosen() -> None:
    domains = template()["Parameters"]["GenesysDomain"]["AllowedValues"]
    assert len(domains) == len(set(domains)) == 18


# ------------------------------------------------------------------ queues


def test_a_message_stays_hidden_for_six_runs_of_its_function_and_the_longest_batch_window() -> None:
    found = mappings("SQS")
    assert len(found) == 2
    for function, event in found:
        queue = properties(event["Queue"]["Fn::GetAtt"][0])
        window = most(event.get("MaximumBatchingWindowInSeconds", 0))
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"] + window


def test_an_event_is_tried_five_times_at_least_before_it_counts_as_dead() -> None:
    redrive = properties("BufferQueue")["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert redrive["maxReceiveCount"] == {"Ref": "MaxReceiveCount"}
    assert template()["Parameters"]["MaxReceiveCount"]["MinValue"] >= 5


def test_the_dead_letter_queue_sends_nothing_on() -> None:
    assert "RedrivePolicy" not in properties("DeadLetterQueue")


def test_both_queues_keep_a_message_as_long_as_sqs_can() -> None:
    for name, queue in resources("AWS::SQS::Queue").items():
        assert queue["Properties"]["MessageRetentionPeriod"] == FOURTEEN_DAYS, name


def test_one_parameter_is_the_source_of_both_concurrency_settings() -> None:
    processor = functions()["ProcessorFunction"]
    assert processor["ReservedConcurrentExecutions"]["Fn::If"][1] == {"Ref": "MaxConcurrency"}
    assert processor["Events"]["Buffer"]["Properties"]["ScalingConfig"]["MaximumConcurrency"] == {
        "Ref": "MaxConcurrency"
    }


def test_every_queue_mapping_is_bounded_and_reports_the_records_that_failed() -> None:
    for _, event in mappings("SQS"):
        assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert event["ScalingConfig"]["MaximumConcurrency"]


def test_the_stream_mapping_starts_at_the_beginning_and_keeps_the_records_that_it_gives_up() -> None:
    ((_, event),) = mappings("DynamoDB")
    assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert event["StartingPosition"] == "TRIM_HORIZON"
    # Any other kind of destination gets metadata only, and the stream forgets the records after a day.
    assert event["DestinationConfig"]["OnFailure"]["Type"] == "S3"


def test_only_the_reader_of_the_dead_letter_queue_is_let_through_loop_detection() -> None:
    allowed = {name for name, function in functions().items() if function.get("RecursiveLoop") == "Allow"}
    assert allowed == {"DeadLetterIntakeFunction"}


def test_the_processor_keeps_time_to_report_out_of_its_time_out() -> None:
    reserve: float = importlib.import_module("processor.app").REPORT_SECONDS
    assert functions()["ProcessorFunction"]["Timeout"] > 2 * reserve


# ------------------------------------------------------------------ rules


def test_what_eventbridge_cannot_deliver_goes_to_a_queue_after_retries_that_are_written_down() -> None:
    targets = [target for rule in resources("AWS::Events::Rule").values() for target in rule["Properties"]["Targets"]]
    schedules = [event for kind in ("Schedule", "EventBridgeRule", "ScheduleV2") for _, event in mappings(kind)]
    assert targets
    assert schedules
    for one in targets + schedules:
        assert one["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
        assert one["RetryPolicy"].keys() == {"MaximumRetryAttempts", "MaximumEventAgeInSeconds"}


def test_the_rule_takes_what_genesys_sends_and_waits_for_its_permissions() -> None:
    rule = template()["Resources"]["EventRule"]
    assert rule["Properties"]["EventPattern"]["source"] == [
        {"prefix": "aws.partner/genesys.com"},
        {"prefix": "genesys.cloud"},
    ]
    assert {"BufferQueuePolicy", "DeadLetterQueuePolicy"} <= set(rule["DependsOn"])


def test_a_bus_that_the_stack_does_not_own_is_never_created_or_deleted_by_it() -> None:
    buses = resources("AWS::Events::EventBus")
    assert buses.keys() == {"EventBus", "EnrichedBus"}
    assert buses["EventBus"]["Condition"] == "CreateBus"
    assert template()["Conditions"]["CreateBus"] == {"Fn::Equals": [{"Ref": "EventBusName"}, ""]}


@pytest.mark.parametrize("name", ["BufferQueuePolicy", "DeadLetterQueuePolicy"])
def test_only_this_stacks_rules_may_send_through_eventbridge(name: str) -> None:
    allowed = [one for one in properties(name)["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert len(allowed) == 1
    assert allowed[0]["Principal"] == {"Service": "events.amazonaws.com"}
    rules = [
        text if isinstance(text, str) else text[0] for text in values(allowed[0]["Condition"]["ArnLike"], "Fn::Sub")
    ]
    head = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/"
    # The second is a rule on the bus named default, whose ARN leaves the bus out.
    assert rules == [f"{head}${{Bus}}/${{AWS::StackName}}-*", f"{head}${{AWS::StackName}}-*"]


# ------------------------------------------------------------------ data


@pytest.mark.parametrize("own_key", [False, True])
def test_everything_that_holds_data_is_encrypted_with_the_own_key_where_there_is_one(own_key: bool) -> None:
    def key(logical_id: str, *path: str) -> Any:
        node: Any = decided(properties(logical_id), HasKmsKey=own_key)
        for name in path:
            node = node[name] if isinstance(node, list) else node.get(name)
        return node

    own = {"Ref": "KmsKeyArn"} if own_key else None
    for name in resources("AWS::SQS::Queue"):
        assert (key(name, "KmsMasterKeyId"), key(name, "SqsManagedSseEnabled")) == (own, None if own_key else True), (
            name
        )
    for name in resources("AWS::DynamoDB::Table"):
        assert key(name, "SSESpecification", "SSEEnabled") is True, name
        assert key(name, "SSESpecification", "KMSMasterKeyId") == own, name
    for name in resources("AWS::S3::Bucket"):
        (rule,) = key(name, "BucketEncryption", "ServerSideEncryptionConfiguration")
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == ("aws:kms" if own_key else "AES256"), name
        assert rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID") == own, name
    for name in resources("AWS::SNS::Topic"):
        assert key(name, "KmsMasterKeyId") == own, name
    for name in resources("AWS::Logs::LogGroup"):
        assert key(name, "KmsKeyId") == own, name
    assert decided(template()["Globals"], HasKmsKey=own_key)["Function"].get("KmsKeyArn") == own


def test_no_key_is_used_with_which_eventbridge_or_an_alarm_would_fail_silently() -> None:
    assert not re.search(r"alias/aws/(sqs|sns)", TEMPLATE.read_text())


def test_everything_that_holds_data_outlives_the_stack() -> None:
    for kind in DATA:
        for name, found in resources(kind).items():
            assert (found["DeletionPolicy"], found["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


@pytest.mark.parametrize("kind", DATA)
def test_no_parameter_reaches_a_property_whose_change_would_replace_data(kind: str) -> None:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    fixed = schema["createOnlyProperties"] + schema.get("conditionalCreateOnlyProperties", [])
    assert fixed
    for name, found in resources(kind).items():
        for path in fixed:
            text = json.dumps(found["Properties"].get(path.removeprefix("/properties/")))
            assert not re.search(r'"(Ref|Fn::\w+)":', text), f"{name}{path}"
            assert not path.endswith("Name") or text == "null", (
                f"{name}: a name cannot be kept when it has to be replaced"
            )


def test_the_tables_can_be_restored_to_any_second() -> None:
    for name, table in resources("AWS::DynamoDB::Table").items():
        assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True, name


def test_the_bucket_is_closed_to_the_public_and_to_plain_http() -> None:
    assert all(properties("ArchiveBucket")["PublicAccessBlockConfiguration"].values())
    for name in ("ArchiveBucketPolicy", "BufferQueuePolicy", "DeadLetterQueuePolicy"):
        denied = [one for one in properties(name)["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert denied[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name


def test_evidence_never_expires() -> None:
    for rule in properties("ArchiveBucket")["LifecycleConfiguration"]["Rules"]:
        if "ExpirationInDays" in rule or "ExpirationDate" in rule or "Transitions" in rule:
            assert rule["Prefix"] == "archive/"
        assert not rule.get("Prefix", "").startswith("dead-letters")


def test_a_replay_finds_its_event_because_events_are_kept_as_long_as_any_archived_letter() -> None:
    parameters = template()["Parameters"]
    assert parameters["EventRetentionDays"]["MinValue"] >= parameters["ArchiveRetentionDays"]["MaxValue"]


def test_an_event_is_remembered_for_longer_than_triage_can_take() -> None:
    parameters = template()["Parameters"]
    assert parameters["EventRetentionDays"]["MinValue"] * 24 > parameters["MaxAgeHours"]["MaxValue"]


# ------------------------------------------------------------------ functions


def test_every_function_is_found_by_its_folder() -> None:
    for folder, name in FUNCTION_IDS.items():
        assert functions()[name]["Handler"] == f"{folder}.app.lambda_handler"
    assert functions().keys() == set(FUNCTION_IDS.values())


def test_every_function_is_built_once_for_one_runtime_without_that_python_on_the_host() -> None:
    for name, found in resources("AWS::Serverless::Function").items():
        assert found["Metadata"]["BuildMethod"] == "python-uv", name
    for name, function in functions().items():
        assert function["Runtime"] == "python3.13", name
        assert function["CodeUri"] == "functions/", name
        assert function["Architectures"] == [{"Ref": "Architecture"}], name


def test_every_function_has_a_log_group_with_a_retention_and_a_role_of_its_own() -> None:
    groups = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions().values()]
    roles = [function["Role"]["Fn::GetAtt"][0] for function in functions().values()]
    assert len(set(groups)) == len(set(roles)) == len(functions())
    for name in groups:
        assert properties(name)["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for group, role in zip(groups, roles, strict=True):
        written = [one for name, one in statements() if name == role and "logs:PutLogEvents" in as_list(one["Action"])]
        assert [one["Resource"] for one in written] == [{"Fn::GetAtt": [group, "Arn"]}]


@pytest.mark.parametrize("folder", FUNCTION_IDS)
def test_a_function_is_given_exactly_the_environment_that_it_reads(folder: str) -> None:
    module = importlib.import_module(f"{folder}.app")
    (kind,) = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Settings) and found is not Settings
    ]
    given = functions()[FUNCTION_IDS[folder]]["Environment"]["Variables"]
    ours = {name for name in given if not name.startswith("POWERTOOLS_")}
    assert ours == {field.name.upper() for field in fields(kind)}
    assert given["POWERTOOLS_SERVICE_NAME"] == folder.replace("_", "-")


@pytest.mark.parametrize("folder", FUNCTION_IDS)
def test_a_functions_settings_can_be_read_from_the_defaults_of_the_template(folder: str) -> None:
    module = importlib.import_module(f"{folder}.app")
    (kind,) = [
        v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Settings) and v is not Settings
    ]
    given = functions()[FUNCTION_IDS[folder]]["Environment"]["Variables"]
    settings = kind.from_env({name: _deployed(value) for name, value in given.items()})
    for field in fields(settings):
        assert field.default is not MISSING or getattr(settings, field.name) != ""


def _deployed(value: Any) -> str:
    """What a deployment with all defaults puts: a parameter's default, or the name of a resource."""
    if not isinstance(value, dict):
        return str(value)
    return str(PARAMETERS.get(value["Ref"], value["Ref"]))


# ------------------------------------------------------------------ permissions


def test_no_permission_is_for_more_actions_than_it_names() -> None:
    for name, statement in statements():
        for action in as_list(statement["Action"]):
            assert "*" not in action, f"{name}: {action}"
            assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), f"{name}: {action}"


def test_a_permission_for_every_resource_is_one_that_knows_no_resource() -> None:
    for name, statement in statements():
        if "*" in as_list(statement["Resource"]):
            assert set(as_list(statement["Action"])) <= WITHOUT_RESOURCE_TYPE, name


def test_every_permission_for_every_resource_says_why() -> None:
    lines = TEMPLATE.read_text().splitlines()
    found = [number for number, line in enumerate(lines) if re.search(r"Resource:.*[\"']\*[\"']", line)]
    wide = [one for _, one in statements() if "*" in as_list(one["Resource"])]
    assert len(found) == len(wide)
    for number in found:
        assert "#" in lines[number] or "#" in lines[number - 1], lines[number - 1]


def test_no_role_is_given_a_policy_that_somebody_else_may_widen() -> None:
    for name, role in resources("AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"], name
    for name, function in functions().items():
        assert "Policies" not in function, name


def test_every_role_is_taken_by_the_one_service_that_needs_it() -> None:
    for name, role in resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"]["Service"] in {"lambda.amazonaws.com", "states.amazonaws.com"}, name


def test_the_template_names_no_partition_no_region_and_no_account() -> None:
    code = "\n".join(line.partition(" #")[0] for line in TEMPLATE.read_text().splitlines())
    assert "arn:aws" not in code
    without_lists = re.sub(r"AllowedValues:(\n      - .*)+", "", code)
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d\b", without_lists)
    assert not re.search(r"\b\d{12}\b", code)
    assert "amazonaws.com/" not in code
    assert ".console.aws.amazon.com" not in code


# ------------------------------------------------------------------ what CloudFormation gets


@pytest.fixture(scope="module")
def transformed() -> Mapping[str, Any]:
    """The template after the SAM transform, as CloudFormation deploys it. Nothing is called."""
    body = template()
    body["Globals"]["Function"]["CodeUri"] = "s3://a-bucket/code.zip"
    for found in body["Resources"].values():
        if found["Type"] == "AWS::Serverless::StateMachine":
            found["Properties"]["DefinitionUri"] = "s3://a-bucket/definition.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        translated: Mapping[str, Any] = Translator({}, Parser()).translate(body, {})
    return translated


def _needs(node: Any, known: frozenset[str]) -> Iterator[str]:
    """The resources that a node refers to."""
    if isinstance(node, list):
        for child in node:
            yield from _needs(child, known)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else value.split(".")[0]
            elif key == "Fn::Sub":
                text, own = (value[0], value[1]) if isinstance(value, list) else (value, {})
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", text) if name not in own)
                yield from _needs(own, known)
            elif key == "DependsOn":
                yield from as_list(value)
            else:
                yield from _needs(value, known)


def test_nothing_waits_for_itself(transformed: Mapping[str, Any]) -> None:
    known = frozenset(transformed["Resources"])
    waiting = {name: set(_needs(found, known)) & known for name, found in transformed["Resources"].items()}
    assert len(waiting) > len(template()["Resources"])
    while ready := {name for name, needs in waiting.items() if not needs}:
        waiting = {name: needs - ready for name, needs in waiting.items() if name not in ready}
    assert waiting == {}


def test_everything_that_is_referred_to_exists(transformed: Mapping[str, Any]) -> None:
    known = frozenset(transformed["Resources"])
    named = {target for found in transformed["Resources"].values() for target in _needs(found, known)}
    assert {name for name in named if not name.startswith("AWS::")} <= known | PARAMETERS.keys()


def test_every_functions_permissions_are_there_before_events_come(transformed: Mapping[str, Any]) -> None:
    sources = [one for one in transformed["Resources"].values() if one["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert len(sources) == 3
    for source in sources:
        function = transformed["Resources"][source["Properties"]["FunctionName"]["Ref"]]
        assert function["Properties"]["Role"]["Fn::GetAtt"]


def test_the_triage_machine_may_call_exactly_the_functions_behind_its_states() -> None:
    for machine, role in (("TriageStateMachine", "TriageMachineRole"), ("ReplayStateMachine", "ReplayMachineRole")):
        substitutions = properties(machine)["DefinitionSubstitutions"]
        called = [value for name, value in substitutions.items() if name.endswith("FunctionArn")]
        allowed = [one for name, one in statements() if name == role and one["Action"] == "lambda:InvokeFunction"]
        assert as_list(allowed[0]["Resource"]) == called
