"""Single changes to a deployed stack, each of which breaks one promise, and how each is undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from local.eventually import eventually
from ops.template import DeployedTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.stack import Stack

    Undo = Callable[[], Any]

Break = Callable[["Setting"], "Undo"]
_ALARM_SETTINGS = (
    "AlarmName",
    "AlarmActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "Dimensions",
    "Period",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
)
_COMPOSITE_SETTINGS = (
    "AlarmName",
    "AlarmActions",
    "AlarmRule",
    "ActionsSuppressor",
    "ActionsSuppressorWaitPeriod",
    "ActionsSuppressorExtensionPeriod",
)


@dataclass(frozen=True)
class Setting:
    """The settings of a deployed stack. Each method changes one of them and returns what undoes the change."""

    stack: Stack

    def id(self, logical_id: str) -> str:
        return self.stack.resources[logical_id]

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    def mapping(self, logical_id: str, **changes: Any) -> Undo:
        functions, uuid = self.client("lambda"), self.id(logical_id)
        before = functions.get_event_source_mapping(UUID=uuid)

        def change(settings: Mapping[str, Any]) -> None:
            functions.update_event_source_mapping(UUID=uuid, **settings)
            state = functions.get_event_source_mapping
            eventually(lambda: not state(UUID=uuid)["State"].endswith("ing"), "the mapping has changed", every=0.05)

        change(changes)
        kept = {name: before.get(name, True if name == "Enabled" else []) for name in changes}
        return lambda: change(kept)

    def function(self, logical_id: str, **changes: Any) -> Undo:
        functions, name = self.client("lambda"), self.id(logical_id)
        before = functions.get_function_configuration(FunctionName=name)

        def change(settings: Mapping[str, Any]) -> None:
            functions.update_function_configuration(FunctionName=name, **settings)
            read = functions.get_function_configuration
            updated = ("Active", "Successful")
            eventually(
                lambda: (found := read(FunctionName=name)) and (found["State"], found["LastUpdateStatus"]) == updated,
                "the function is updated",
                every=0.05,
            )

        change(changes)
        kept = {setting: before.get(setting, "") for setting in changes}
        if "Environment" in kept:
            kept["Environment"] = {"Variables": before["Environment"]["Variables"]}
        return partial(change, kept)

    def without_variable(self, logical_id: str, name: str) -> Undo:
        found = self.client("lambda").get_function_configuration(FunctionName=self.id(logical_id))
        variables = {key: value for key, value in found["Environment"]["Variables"].items() if key != name}
        return self.function(logical_id, Environment={"Variables": variables})

    def reserved(self, logical_id: str, number: int) -> Undo:
        functions, function = self.client("lambda"), {"FunctionName": self.id(logical_id)}
        functions.put_function_concurrency(**function, ReservedConcurrentExecutions=number)
        return partial(functions.delete_function_concurrency, **function)

    def recursion(self, logical_id: str) -> Undo:
        functions, function = self.client("lambda"), {"FunctionName": self.id(logical_id)}
        functions.put_function_recursion_config(**function, RecursiveLoop="Terminate")
        return partial(functions.put_function_recursion_config, **function, RecursiveLoop="Allow")

    def without_permission(self, logical_id: str) -> Undo:
        functions, function = self.client("lambda"), {"FunctionName": self.id(logical_id)}
        (statement,) = json.loads(functions.get_policy(**function)["Policy"])["Statement"]
        functions.remove_permission(**function, StatementId=statement["Sid"])
        return partial(
            functions.add_permission,
            **function,
            StatementId=statement["Sid"],
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=statement["Condition"]["ArnLike"]["AWS:SourceArn"],
        )

    def queue(self, logical_id: str, **changes: str) -> Undo:
        sqs, url = self.client("sqs"), self.id(logical_id)
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=changes)
        kept = {name: before.get(name, "") for name in changes}
        return partial(sqs.set_queue_attributes, QueueUrl=url, Attributes=kept)

    def receives(self, count: int) -> Undo:
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.id("BufferQueue"), AttributeNames=["All"])
        policy = json.loads(found["Attributes"]["RedrivePolicy"]) | {"maxReceiveCount": count}
        return self.queue("BufferQueue", RedrivePolicy=json.dumps(policy))

    def expiry(self, logical_id: str) -> Undo:
        def change(*, enabled: bool) -> None:
            self.client("dynamodb").update_time_to_live(
                TableName=self.id(logical_id),
                TimeToLiveSpecification={"AttributeName": "expiresAt", "Enabled": enabled},
            )

        change(enabled=False)
        return partial(change, enabled=True)

    def recovery(self, logical_id: str) -> Undo:
        def change(*, enabled: bool) -> None:
            self.client("dynamodb").update_continuous_backups(
                TableName=self.id(logical_id),
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled},
            )

        change(enabled=False)
        return partial(change, enabled=True)

    def billing(self, logical_id: str) -> Undo:
        dynamodb, table = self.client("dynamodb"), {"TableName": self.id(logical_id)}
        provisioned = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
        dynamodb.update_table(**table, BillingMode="PROVISIONED", ProvisionedThroughput=provisioned)
        return partial(dynamodb.update_table, **table, BillingMode="PAY_PER_REQUEST")

    def bucket(self, read: str, change: str, put: str, argument: str, **changes: Any) -> Undo:
        """Change the bucket with one operation; ``read`` and ``put`` restore what was there, as ``argument``."""
        s3, bucket = self.client("s3"), {"Bucket": self.id("ArchiveBucket")}
        before = {name: value for name, value in getattr(s3, read)(**bucket).items() if name != "ResponseMetadata"}
        getattr(s3, change)(**bucket, **changes)
        before.pop("TransitionDefaultMinimumObjectSize", None)  # answered, but not part of what is put
        kept = before.get(argument, before)
        return partial(getattr(s3, put), **bucket, **{argument: kept})

    def snapshots_expire(self) -> Undo:
        found = self.client("s3").get_bucket_lifecycle_configuration(Bucket=self.id("ArchiveBucket"))["Rules"]
        rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "dead-letters/"}, "Expiration": {"Days": 1}}
        changed = {"LifecycleConfiguration": {"Rules": [*found, rule]}}
        return self.bucket(*LIFECYCLE, **changed)

    def alarm(self, logical_id: str, **changes: Any) -> Undo:
        alarms = self.client("cloudwatch")
        (before,) = alarms.describe_alarms(AlarmNames=[self.id(logical_id)])["MetricAlarms"]
        kept = {name: before[name] for name in _ALARM_SETTINGS if name in before}
        alarms.put_metric_alarm(**kept | changes)
        return partial(alarms.put_metric_alarm, **kept)

    def composite(self, logical_id: str, without: str) -> Undo:
        alarms, name = self.client("cloudwatch"), self.id(logical_id)
        (before,) = alarms.describe_alarms(AlarmNames=[name], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
        kept = {name: before[name] for name in _COMPOSITE_SETTINGS if name in before}
        alarms.put_composite_alarm(**{name: value for name, value in kept.items() if name != without})
        return partial(alarms.put_composite_alarm, **kept)

    def without_alarm(self, logical_id: str) -> Undo:
        undo = self.alarm(logical_id)
        self.client("cloudwatch").delete_alarms(AlarmNames=[self.id(logical_id)])
        return undo

    def silent(self, logical_id: str) -> Undo:
        alarms, names = self.client("cloudwatch"), {"AlarmNames": [self.id(logical_id)]}
        alarms.disable_alarm_actions(**names)
        return partial(alarms.enable_alarm_actions, **names)

    def without_subscription(self) -> Undo:
        sns, topic = self.client("sns"), self.stack.outputs["AlarmTopicArn"]
        (found,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
        return partial(sns.subscribe, TopicArn=topic, Protocol=found["Protocol"], Endpoint=found["Endpoint"])

    def topic_policy(self) -> Undo:
        sns, topic = self.client("sns"), {"TopicArn": self.stack.outputs["AlarmTopicArn"], "AttributeName": "Policy"}
        before = sns.get_topic_attributes(TopicArn=topic["TopicArn"])["Attributes"]["Policy"]
        nothing = json.dumps({"Version": "2012-10-17", "Statement": []})
        sns.set_topic_attributes(**topic, AttributeValue=nothing)
        return partial(sns.set_topic_attributes, **topic, AttributeValue=before)

    def log_retention(self, logical_id: str) -> Undo:
        logs, group = self.client("logs"), {"logGroupName": self.id(logical_id)}
        logs.delete_retention_policy(**group)
        return partial(logs.put_retention_policy, **group, retentionInDays=30)

    def role_policy(self, logical_id: str, policy: str, change: Callable[[list[Any]], list[Any]]) -> Undo:
        iam, named = self.client("iam"), {"RoleName": self.id(logical_id), "PolicyName": policy}
        before = iam.get_role_policy(**named)["PolicyDocument"]
        changed = before | {"Statement": change(before["Statement"])}
        iam.put_role_policy(**named, PolicyDocument=json.dumps(changed))
        return partial(iam.put_role_policy, **named, PolicyDocument=json.dumps(before))

    def more_policies(self, logical_id: str) -> Undo:
        iam, named = self.client("iam"), {"RoleName": self.id(logical_id), "PolicyName": "by-hand"}
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        iam.put_role_policy(**named, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        return partial(iam.delete_role_policy, **named)

    def attached_policy(self, logical_id: str) -> Undo:
        iam = self.client("iam")
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        arn = iam.create_policy(PolicyName="by-hand", PolicyDocument=document)["Policy"]["Arn"]
        attached = {"RoleName": self.id(logical_id), "PolicyArn": arn}
        iam.attach_role_policy(**attached)

        def undo() -> None:
            iam.detach_role_policy(**attached)
            iam.delete_policy(PolicyArn=arn)

        return undo

    def trust(self, logical_id: str) -> Undo:
        iam, role = self.client("iam"), {"RoleName": self.id(logical_id)}
        before = iam.get_role(**role)["Role"]["AssumeRolePolicyDocument"]
        more = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        changed = before | {"Statement": [*before["Statement"], more]}
        iam.update_assume_role_policy(**role, PolicyDocument=json.dumps(changed))
        return partial(iam.update_assume_role_policy, **role, PolicyDocument=json.dumps(before))

    def disabled_rule(self, logical_id: str) -> Undo:
        events, rule = self.client("events"), self._rule(logical_id)
        events.disable_rule(**rule)
        return partial(events.enable_rule, **rule)

    def pattern(self, logical_id: str, pattern: Any) -> Undo:
        events, rule = self.client("events"), self._rule(logical_id)
        before = events.describe_rule(**rule)
        kept = {name: before[name] for name in ("State", "Description") if name in before}
        events.put_rule(**rule, **kept, EventPattern=json.dumps(pattern))
        return partial(events.put_rule, **rule, **kept, EventPattern=before["EventPattern"])

    def target(self, logical_id: str, *, without: str = "", **changes: Any) -> Undo:
        events, named = self.client("events"), self._rule(logical_id)
        rule = {"Rule": named.pop("Name"), **named}
        (before,) = events.list_targets_by_rule(**rule)["Targets"]
        changed = {name: value for name, value in before.items() if name != without} | changes
        events.put_targets(**rule, Targets=[changed])
        return partial(events.put_targets, **rule, Targets=[before])

    def _rule(self, logical_id: str) -> dict[str, str]:
        bus = self.stack.outputs["EventBusName"] if logical_id == "EventRule" else "default"
        return {"Name": self.id(logical_id), "EventBusName": bus}

    def machine(self, logical_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Undo:
        """``change`` takes the machine and returns what to update."""
        workflows, arn = self.client("stepfunctions"), self.id(logical_id)
        before = workflows.describe_state_machine(stateMachineArn=arn)
        changed = change(before)
        workflows.update_state_machine(stateMachineArn=arn, **changed)
        kept = {name: before[name] for name in changed}
        return partial(workflows.update_state_machine, stateMachineArn=arn, **kept)

    def arn(self, logical_id: str) -> str:
        declared = DeployedTemplate.read(self.stack)
        return declared.arn(declared.resource(logical_id))


LIFECYCLE = (
    "get_bucket_lifecycle_configuration",
    "put_bucket_lifecycle_configuration",
    "put_bucket_lifecycle_configuration",
    "LifecycleConfiguration",
)
KEY = "arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555"


def _slower(machine: dict[str, Any]) -> dict[str, Any]:
    return {"definition": machine["definition"].replace('"$min(', '"$max(').replace('"Comment": "', '"Comment": "x')}


#: The check that must find it, what is broken, and how.
BROKEN: list[tuple[str, str, Break]] = [
    ("event-rule", "the rule is disabled", lambda s: s.disabled_rule("EventRule")),
    ("event-rule", "its pattern matches nothing", lambda s: s.pattern("EventRule", {"source": ["other"]})),
    ("event-rule-target", "its target is another queue", lambda s: s.target("EventRule", Arn=s.arn("DeadLetterQueue"))),
    ("event-rule-target", "it has no dead-letter queue", lambda s: s.target("EventRule", without="DeadLetterConfig")),
    ("queue-policies", "no service may send to the buffer", lambda s: s.queue("BufferQueue", Policy="")),
    ("queue-policies", "no service may send to the DLQ", lambda s: s.queue("DeadLetterQueue", Policy="")),
    ("queue-retention", "a day in the buffer", lambda s: s.queue("BufferQueue", MessageRetentionPeriod="86400")),
    ("queue-retention", "a day in the DLQ", lambda s: s.queue("DeadLetterQueue", MessageRetentionPeriod="86400")),
    ("redrive-policy", "there is none", lambda s: s.queue("BufferQueue", RedrivePolicy="")),
    ("redrive-policy", "50 receives", lambda s: s.receives(50)),
    ("visibility", "a minute in the buffer", lambda s: s.queue("BufferQueue", VisibilityTimeout="60")),
    ("visibility", "a minute in the DLQ", lambda s: s.queue("DeadLetterQueue", VisibilityTimeout="60")),
    ("processor-mapping", "it is disabled", lambda s: s.mapping("ProcessorFunctionBuffer", Enabled=False)),
    ("intake-mapping", "it is disabled", lambda s: s.mapping("DeadLetterIntakeFunctionDeadLetters", Enabled=False)),
    ("fan-out-mapping", "it is disabled", lambda s: s.mapping("FanOutFunctionNewEvents", Enabled=False)),
    ("batches", "a batch of 1", lambda s: s.mapping("ProcessorFunctionBuffer", BatchSize=1)),
    (
        "partial-failures",
        "a batch fails as a whole",
        lambda s: s.mapping("ProcessorFunctionBuffer", FunctionResponseTypes=[]),
    ),
    ("stream-failures", "no retries", lambda s: s.mapping("FanOutFunctionNewEvents", MaximumRetryAttempts=0)),
    (
        "concurrency",
        "more batches than the template allows",
        lambda s: s.mapping("ProcessorFunctionBuffer", ScalingConfig={"MaximumConcurrency": 8}),
    ),
    ("concurrency", "less is reserved", lambda s: s.reserved("ProcessorFunction", 1)),
    ("concurrency", "a function cannot run", lambda s: s.reserved("SettleFunction", 0)),
    ("functions-active", "another handler", lambda s: s.function("SettleFunction", Handler="archive.app.none")),
    ("function-size", "less memory", lambda s: s.function("DeadLetterIntakeFunction", MemorySize=128)),
    ("function-size", "a shorter timeout", lambda s: s.function("FanOutFunction", Timeout=3)),
    (
        "function-environment",
        "a variable is missing",
        lambda s: s.without_variable("ProcessorFunction", "BUFFER_QUEUE_URL"),
    ),
    (
        "function-logging",
        "another log group",
        lambda s: s.function("SettleFunction", LoggingConfig={"LogGroup": "/aws/lambda/elsewhere"}),
    ),
    ("recursive-loops", "loops are stopped", lambda s: s.recursion("DeadLetterIntakeFunction")),
    ("tables", "another billing mode", lambda s: s.billing("AttemptsTable")),
    ("table-expiry", "attempt records stay", lambda s: s.expiry("AttemptsTable")),
    ("table-recovery", "no recovery", lambda s: s.recovery("EventsTable")),
    (
        "bucket-public-access",
        "it may be public",
        lambda s: s.bucket(
            "get_public_access_block",
            "delete_public_access_block",
            "put_public_access_block",
            "PublicAccessBlockConfiguration",
        ),
    ),
    (
        "bucket-policy",
        "requests without TLS",
        lambda s: s.bucket("get_bucket_policy", "delete_bucket_policy", "put_bucket_policy", "Policy"),
    ),
    (
        "bucket-versioning",
        "it is suspended",
        lambda s: s.bucket(
            "get_bucket_versioning",
            "put_bucket_versioning",
            "put_bucket_versioning",
            "VersioningConfiguration",
            VersioningConfiguration={"Status": "Suspended"},
        ),
    ),
    (
        "bucket-lifecycle",
        "nothing expires",
        lambda s: s.bucket(LIFECYCLE[0], "delete_bucket_lifecycle", *LIFECYCLE[2:]),
    ),
    ("bucket-lifecycle", "snapshots expire", lambda s: s.snapshots_expire()),
    ("encryption", "the buffer is not encrypted", lambda s: s.queue("BufferQueue", SqsManagedSseEnabled="false")),
    ("encryption", "another key of a function", lambda s: s.function("SettleFunction", KMSKeyArn=KEY)),
    (
        "encryption",
        "another key of the bucket",
        lambda s: s.bucket(
            "get_bucket_encryption",
            "put_bucket_encryption",
            "put_bucket_encryption",
            "ServerSideEncryptionConfiguration",
            ServerSideEncryptionConfiguration={
                "Rules": [
                    {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}},
                ]
            },
        ),
    ),
    ("state-machines", "another definition of triage", lambda s: s.machine("TriageStateMachine", _slower)),
    (
        "state-machine-settings",
        "another role of the circuit breaker",
        lambda s: s.machine("CircuitBreakerStateMachine", lambda _: {"roleArn": s.arn("TriageMachineRole")}),
    ),
    ("sweep-schedule", "it is disabled", lambda s: s.disabled_rule("EvidenceSweepFunctionRegularly")),
    (
        "sweep-schedule",
        "what cannot be run is lost",
        lambda s: s.target("EvidenceSweepFunctionRegularly", without="DeadLetterConfig"),
    ),
    ("sweep-permission", "the rule may not invoke it", lambda s: s.without_permission("EvidenceSweepFunction")),
    ("circuit-breaker-rule", "it is disabled", lambda s: s.disabled_rule("CircuitBreakerRule")),
    (
        "circuit-breaker-rule",
        "it starts another state machine",
        lambda s: s.target("CircuitBreakerRule", Arn=s.stack.outputs["TriageStateMachineArn"]),
    ),
    ("alarms", "an alarm does not exist", lambda s: s.without_alarm("ItemsSetAsideAlarm")),
    ("alarm-settings", "a higher threshold", lambda s: s.alarm("LettersGivenUpAlarm", Threshold=100.0)),
    ("alarm-settings", "no suppressor", lambda s: s.composite("BufferAgeAlarm", "ActionsSuppressor")),
    ("alarm-actions", "actions are disabled", lambda s: s.silent("DeadLetterAlarm")),
    ("alarm-actions", "it notifies no topic", lambda s: s.alarm("LettersGivenUpAlarm", AlarmActions=[])),
    ("topic-policy", "alarms may not publish", lambda s: s.topic_policy()),
    ("topic-subscription", "the topic has no subscription", lambda s: s.without_subscription()),
    ("log-retention", "logs are kept forever", lambda s: s.log_retention("ProcessorLog")),
    (
        "role-policies",
        "a statement is missing",
        lambda s: s.role_policy("SettleRole", "settle", lambda all_: all_[:-1]),
    ),
    (
        "role-policies",
        "a statement is wider",
        lambda s: s.role_policy("RedriveRole", "redrive", lambda all_: [*all_[:-1], all_[-1] | {"Resource": "*"}]),
    ),
    ("role-policies", "a policy more", lambda s: s.more_policies("ProcessorRole")),
    ("role-policies", "a managed policy more", lambda s: s.attached_policy("ClassifyRole")),
    ("role-trust", "everybody can use it", lambda s: s.trust("ProcessorRole")),
]
