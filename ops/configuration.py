"""Checks of the configuration of a stack as AWS reports it, against the template that was deployed. They only read.

:func:`examine` reads everything once, in parallel. A check compares answers that are there already, and one setting
is compared by one check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.checks import CheckResult, Finding, NotCheckedError, differences, policy_differences
from ops.deployed import DeployedStack
from ops.errors import explain
from ops.facts import ALARMS, FUNCTION, LOGS, MACHINE, MAPPING, QUEUE, ROLE, TABLE, TOPIC, Facts, Properties, read
from ops.template import DeployedTemplate, Resource, UnresolvedError

#: A new alarm has no state until CloudWatch has evaluated it.
_EVALUATED_AFTER = timedelta(minutes=15)
_SHOWN_PROBLEMS = 3

#: What a check has seen in a few words, and how it differs from what must be.
Comparison = tuple[str, Iterable[str]]
Compare = Callable[[Facts], Comparison]


@dataclass(frozen=True, slots=True)
class Check:
    """A named check of the configuration."""

    group: str
    name: str
    promise: str
    compare: Compare

    def run(self, facts: Facts) -> Finding:
        """Make the check. It never raises for what AWS answers."""
        try:
            summary, found = self.compare(facts)
            problems = list(found)
        except (NotCheckedError, UnresolvedError) as reason:
            return self._finding(str(reason), CheckResult.NOT_CHECKED)
        except (ClientError, BotoCoreError) as error:
            return self._finding(explain(error), CheckResult.UNREADABLE)
        return self._finding(_joined(problems) or summary, CheckResult.FAIL if problems else CheckResult.PASS)

    def _finding(self, seen: str, result: CheckResult) -> Finding:
        return Finding(self.group, self.name, self.promise, seen, result)


CHECKS: list[Check] = []


def examine(stack: DeployedStack, declared: DeployedTemplate) -> list[Finding]:
    """Make all checks of the configuration against the template."""
    facts = read(stack, declared, datetime.now(UTC))
    return [one.run(facts) for one in CHECKS]


def _check(group: str, name: str, promise: str) -> Callable[[Compare], Compare]:
    def register(compare: Compare) -> Compare:
        CHECKS.append(Check(group, name, promise, compare))
        return compare

    return register


def _joined(problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN_PROBLEMS
    return "; ".join([*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _of(*names: str) -> Callable[[Properties], dict[str, Any]]:
    """Take these properties, as far as they are set."""
    return lambda properties: {name: properties[name] for name in names if name in properties}


def _within(*path: str) -> Callable[[Properties], Any]:
    """Take what is at this path of an answer."""

    def found(answer: Properties) -> Any:
        for name in path:
            answer = answer.get(name, {})
        return answer

    return found


def _compared(
    facts: Facts,
    kind: str,
    types: Sequence[str],
    declared: Callable[[Properties], Any],
    seen: Callable[[Properties], Any] = dict,
) -> Iterator[str]:
    """The differences of all resources of some types."""
    for resource, properties, answer in facts.each(kind, *types):
        yield from _named(resource.logical_id, differences(declared(properties), seen(answer)))


def _named(name: str, problems: Iterable[str]) -> Iterator[str]:
    return (f"{name}: {one}" for one in problems)


def _number(facts: Facts, what: str, *types: str) -> str:
    return f"{len(facts.declared.of_type(*types))} {what}"


# -- receiving -----------------------------------------------------------------------------------------------------

_RECEIVING = "Receiving"
_QUEUES = ("BufferQueue", "DeadLetterQueue", "OperationsDeadLetterQueue")
_DAY = 86_400


@_check(_RECEIVING, "event-rule", "The rule is enabled and matches the events")
def _event_rule(facts: Facts) -> Comparison:
    return _rule_is(facts, "EventRule")


@_check(_RECEIVING, "event-rule-target", "It delivers to BufferQueue or DeadLetterQueue")
def _event_rule_target(facts: Facts) -> Comparison:
    return "1 target", _targets_are(facts, "EventRule")


@_check(_RECEIVING, "queue-policies", "EventBridge may send, and only with TLS")
def _queue_policies(facts: Facts) -> Comparison:
    return f"{len(_QUEUES)} policies", (
        problem
        for queue in _QUEUES
        for problem in _named(
            queue, policy_differences(_policy(facts, f"{queue}Policy"), facts.one("queue", queue)[1].get("Policy"))
        )
    )


@_check(_RECEIVING, "queue-retention", "Queues keep messages for 14 days")
def _queue_retention(facts: Facts) -> Comparison:
    _, buffer = facts.one("queue", "BufferQueue")
    days = int(buffer.get("MessageRetentionPeriod", 0)) // _DAY
    return f"{days} days", _compared(facts, "queue", [QUEUE], _of("MessageRetentionPeriod"))


@_check(_RECEIVING, "redrive-policy", "Failing messages move to the dead-letter queue")
def _redrive_policy(facts: Facts) -> Comparison:
    declared, seen = facts.one("queue", "BufferQueue")
    policy = json.loads(seen.get("RedrivePolicy") or "{}")
    return f"after {policy.get('maxReceiveCount')} receives", differences(declared["RedrivePolicy"], policy)


@_check(_RECEIVING, "visibility", "Invisible for 6 x timeout + batch window")
def _visibility(facts: Facts) -> Comparison:
    shown, problems = [], []
    for queue, function, mapping in (
        ("BufferQueue", "ProcessorFunction", "ProcessorFunctionBuffer"),
        ("DeadLetterQueue", "DeadLetterIntakeFunction", "DeadLetterIntakeFunctionDeadLetters"),
    ):
        visible = int(facts.one("queue", queue)[1].get("VisibilityTimeout", 0))
        timeout = int(facts.one("function", function)[1].get("Configuration", {}).get("Timeout", 0))
        least = 6 * timeout + int(facts.one("mapping", mapping)[1].get("MaximumBatchingWindowInSeconds", 0))
        shown.append(f"{visible} s")
        if visible < least:
            problems.append(f"{queue}: VisibilityTimeout is {visible}, it must be at least {least}")
    return " and ".join(shown), problems


# -- processing ----------------------------------------------------------------------------------------------------

_PROCESSING = "Processing"


@_check(_PROCESSING, "processor-mapping", "The processor receives from the buffer")
def _processor_mapping(facts: Facts) -> Comparison:
    return _mapping_is(facts, "ProcessorFunctionBuffer")


@_check(_PROCESSING, "intake-mapping", "The intake receives from the dead-letter queue")
def _intake_mapping(facts: Facts) -> Comparison:
    return _mapping_is(facts, "DeadLetterIntakeFunctionDeadLetters")


@_check(_PROCESSING, "fan-out-mapping", "The fan-out receives from the stream")
def _fan_out_mapping(facts: Facts) -> Comparison:
    return _mapping_is(facts, "FanOutFunctionNewEvents")


def _mapping_is(facts: Facts, mapping: str) -> Comparison:
    _, seen = facts.one("mapping", mapping)
    state = str(seen.get("State", "missing"))
    return state, [] if state in {"Enabled", "Updating"} else [f"{mapping}: its state is {state}"]


@_check(_PROCESSING, "batches", "Batches have the declared size and window")
def _batches(facts: Facts) -> Comparison:
    _, seen = facts.one("mapping", "ProcessorFunctionBuffer")
    chosen = _of("BatchSize", "MaximumBatchingWindowInSeconds", "ParallelizationFactor")
    return (
        f"{seen.get('BatchSize')} events or {seen.get('MaximumBatchingWindowInSeconds')} s",
        _compared(
            facts, "mapping", [MAPPING], lambda declared: {"MaximumBatchingWindowInSeconds": 0} | chosen(declared)
        ),
    )


@_check(_PROCESSING, "partial-failures", "One failing event does not fail its batch")
def _partial_failures(facts: Facts) -> Comparison:
    return _number(facts, "mappings", MAPPING), _compared(facts, "mapping", [MAPPING], _of("FunctionResponseTypes"))


@_check(_PROCESSING, "stream-failures", "Failed publications are retried and recorded")
def _stream_failures(facts: Facts) -> Comparison:
    declared, seen = facts.one("mapping", "FanOutFunctionNewEvents")
    names = ["BisectBatchOnFunctionError", "MaximumRetryAttempts", "FilterCriteria", "DestinationConfig"]
    # The local engine does not report the metrics of mappings.
    names += [] if facts.local else ["MetricsConfig"]
    return f"{seen.get('MaximumRetryAttempts')} retries", differences(_of(*names)(declared), seen)


@_check(_PROCESSING, "concurrency", "Mapping and function have the same concurrency")
def _concurrency(facts: Facts) -> Comparison:
    _, seen = facts.one("mapping", "ProcessorFunctionBuffer")
    limit = _within("ScalingConfig", "MaximumConcurrency")
    return f"{limit(seen)} batches", [
        *_compared(
            facts,
            "mapping",
            [MAPPING],
            lambda declared: {"MaximumConcurrency": declared.get("ScalingConfig", {}).get("MaximumConcurrency")},
            _within("ScalingConfig"),
        ),
        *_compared(facts, "function", [FUNCTION], _reserved, _within("Concurrency")),
    ]


def _reserved(properties: Properties) -> dict[str, Any]:
    return {"ReservedConcurrentExecutions": properties.get("ReservedConcurrentExecutions")}


@_check(_PROCESSING, "functions-active", "Functions are active, with the declared code")
def _functions_active(facts: Facts) -> Comparison:
    named = _of("Runtime", "Handler", "Role", "Architectures")
    return _number(facts, "functions", FUNCTION), _compared(
        facts,
        "function",
        [FUNCTION],
        lambda declared: {"State": "Active", "LastUpdateStatus": "Successful"} | named(declared),
        _configuration,
    )


def _configuration(answer: Properties) -> dict[str, Any]:
    """A function's configuration. An inactive one counts as active: it was not invoked for weeks."""
    found: dict[str, Any] = dict(answer.get("Configuration", {}))
    return found | ({"State": "Active"} if found.get("State") == "Inactive" else {})


@_check(_PROCESSING, "function-size", "They have the declared memory and timeout")
def _function_size(facts: Facts) -> Comparison:
    return _number(facts, "functions", FUNCTION), _compared(
        facts, "function", [FUNCTION], _of("MemorySize", "Timeout"), _configuration
    )


@_check(_PROCESSING, "function-environment", "They have the declared environment")
def _function_environment(facts: Facts) -> Comparison:
    return _number(facts, "functions", FUNCTION), (
        problem
        for function, declared, seen in facts.each("function", FUNCTION)
        for problem in _named(function.logical_id, _changed_variables(declared, _configuration(seen)))
    )


def _changed_variables(declared: Properties, seen: Properties) -> Iterator[str]:
    """The names of the changed variables. Values are not shown, because one may be a secret."""
    wanted, found = (one.get("Environment", {}).get("Variables", {}) for one in (declared, seen))
    changed = {name for name in wanted.keys() | found.keys() if str(wanted.get(name)) != str(found.get(name))}
    return (f"{name} differs from the template" for name in sorted(changed))


@_check(_PROCESSING, "function-logging", "They log and trace as declared")
def _function_logging(facts: Facts) -> Comparison:
    return _number(facts, "functions", FUNCTION), _compared(
        facts, "function", [FUNCTION], _of("LoggingConfig", "TracingConfig"), _configuration
    )


@_check(_PROCESSING, "recursive-loops", "Lambda does not stop dead letters as a loop")
def _recursive_loops(facts: Facts) -> Comparison:
    declared, seen = facts.one("recursion", "DeadLetterIntakeFunction")
    if "RecursiveLoop" not in declared:
        raise NotCheckedError("this region has no recursive loop detection")
    problems = differences(_of("RecursiveLoop")(declared), seen)
    return str(seen.get("RecursiveLoop")), _named("DeadLetterIntakeFunction", problems)


# -- storing -------------------------------------------------------------------------------------------------------

_STORING = "Storing"


@_check(_STORING, "tables", "Tables have the declared keys and indexes")
def _tables(facts: Facts) -> Comparison:
    chosen = _of("KeySchema", "GlobalSecondaryIndexes")
    return _number(facts, "tables", TABLE), _compared(
        facts,
        "table",
        [TABLE],
        lambda declared: chosen(declared) | {"BillingModeSummary": {"BillingMode": declared["BillingMode"]}},
        _within("Table"),
    )


@_check(_STORING, "table-expiry", "Old events and attempt records expire")
def _table_expiry(facts: Facts) -> Comparison:
    return _number(facts, "tables", TABLE), _compared(
        facts,
        "ttl",
        [TABLE],
        lambda declared: {
            "TimeToLiveStatus": "ENABLED",
            "AttributeName": declared["TimeToLiveSpecification"]["AttributeName"],
        },
        _time_to_live,
    )


def _time_to_live(answer: Properties) -> dict[str, Any]:
    """The time to live of a table. ENABLING counts as ENABLED: it takes up to an hour."""
    found: dict[str, Any] = dict(answer.get("TimeToLiveDescription", {}))
    return found | ({"TimeToLiveStatus": "ENABLED"} if found.get("TimeToLiveStatus") == "ENABLING" else {})


@_check(_STORING, "table-stream", "The events table has a stream")
def _table_stream(facts: Facts) -> Comparison:
    stream = (
        facts.answer_about("table", facts.declared.resource("EventsTable"))
        .get("Table", {})
        .get("StreamSpecification", {})
    )
    wanted = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    return str(stream.get("StreamViewType")), _named("EventsTable", differences(wanted, stream))


@_check(_STORING, "table-recovery", "Tables can be restored to a point in time")
def _table_recovery(facts: Facts) -> Comparison:
    return _number(facts, "tables", TABLE), _compared(
        facts,
        "backups",
        [TABLE],
        lambda _: {"PointInTimeRecoveryStatus": "ENABLED"},
        _within("ContinuousBackupsDescription", "PointInTimeRecoveryDescription"),
    )


@_check(_STORING, "bucket-public-access", "The archive bucket is not public")
def _bucket_public_access(facts: Facts) -> Comparison:
    declared, blocked = facts.one("public", "ArchiveBucket")
    _, ownership = facts.one("ownership", "ArchiveBucket")
    return "blocked", [
        *differences(declared["PublicAccessBlockConfiguration"], blocked.get("PublicAccessBlockConfiguration")),
        *differences(declared["OwnershipControls"], ownership.get("OwnershipControls")),
    ]


@_check(_STORING, "bucket-policy", "It accepts requests with TLS only")
def _bucket_policy(facts: Facts) -> Comparison:
    _, seen = facts.one("policy", "ArchiveBucket")
    return "TLS only", _named(
        "ArchiveBucket", policy_differences(_policy(facts, "ArchiveBucketPolicy"), seen.get("Policy"))
    )


@_check(_STORING, "bucket-versioning", "It keeps earlier versions of objects")
def _bucket_versioning(facts: Facts) -> Comparison:
    declared, seen = facts.one("versioning", "ArchiveBucket")
    return str(seen.get("Status")), _named("ArchiveBucket", differences(declared["VersioningConfiguration"], seen))


@_check(_STORING, "bucket-lifecycle", "Its objects expire as declared")
def _bucket_lifecycle(facts: Facts) -> Comparison:
    declared, seen = facts.one("lifecycle", "ArchiveBucket")
    wanted = {one["Id"]: _lifecycle_rule(one) for one in declared["LifecycleConfiguration"]["Rules"]}
    found = {one.get("ID", ""): _seen_lifecycle_rule(one) for one in seen.get("Rules", [])}
    more = (f"rule {name} is not in the template" for name in found.keys() - wanted.keys())
    lacking = (f"rule {name} does not exist" for name in wanted.keys() - found.keys())
    both = wanted.keys() & found.keys()
    changed = differences({name: wanted[name] for name in sorted(both)}, found)
    return f"{len(found)} rules", _named("ArchiveBucket", [*lacking, *more, *changed])


def _lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """A rule of a template in the form of :func:`_seen_lifecycle_rule`."""
    return {
        "Status": rule["Status"],
        "Prefix": rule.get("Prefix", ""),
        "Days": rule.get("ExpirationInDays"),
        "DeleteMarkers": rule.get("ExpiredObjectDeleteMarker", False),
        **_ages(rule),
    }


def _seen_lifecycle_rule(rule: Properties) -> dict[str, Any]:
    chosen, expiration = rule.get("Filter", {}), rule.get("Expiration", {})
    return {
        "Status": rule["Status"],
        "Prefix": chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix", ""),
        "Days": expiration.get("Days"),
        "DeleteMarkers": expiration.get("ExpiredObjectDeleteMarker", False),
        **_ages(rule),
    }


def _ages(rule: Properties) -> dict[str, Any]:
    return {
        "NoncurrentDays": rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        "UploadDays": rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    }


@_check(_STORING, "encryption", "All data is encrypted with the declared key")
def _encryption(facts: Facts) -> Comparison:
    problems = [*_queue_encryption(facts), *_bucket_encryption(facts), *_key_encryption(facts)]
    return "your key" if facts.declared.parameters.get("KmsKeyArn") else "default keys", problems


def _queue_encryption(facts: Facts) -> Iterator[str]:
    without: dict[str, Any] = {"SqsManagedSseEnabled": False, "KmsMasterKeyId": None}
    chosen = _of(*without)
    return _compared(
        facts, "queue", [QUEUE], lambda declared: without | chosen(declared), lambda seen: {**without, **seen}
    )


def _bucket_encryption(facts: Facts) -> Iterator[str]:
    declared, seen = facts.one("encryption", "ArchiveBucket")
    (wanted,) = declared["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    found: Properties = next(iter(seen.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])), {})
    key: dict[str, Any] = {"KMSMasterKeyID": None} | wanted["ServerSideEncryptionByDefault"]
    return _named("ArchiveBucket", differences(key, found.get("ApplyServerSideEncryptionByDefault")))


def _key_encryption(facts: Facts) -> Iterator[str]:
    """The resources that are encrypted with another key than the declared one."""
    for kind, resource_type, declared, seen in (
        ("function", FUNCTION, _within("KmsKeyArn"), _within("Configuration", "KMSKeyArn")),
        (
            "table",
            TABLE,
            _within("SSESpecification", "KMSMasterKeyId"),
            _within("Table", "SSEDescription", "KMSMasterKeyArn"),
        ),
        ("logs", LOGS, _within("KmsKeyId"), _within("kmsKeyId")),
        ("topic", TOPIC, _within("KmsMasterKeyId"), _within("Attributes", "KmsMasterKeyId")),
    ):
        for resource, properties, answer in facts.each(kind, resource_type):
            wanted, found = {"key": declared(properties) or None}, {"key": seen(answer) or None}
            yield from _named(resource.logical_id, differences(wanted, found))


# -- triage and circuit breaker ------------------------------------------------------------------------------------

_TRIAGE = "Triage and circuit breaker"


@_check(_TRIAGE, "state-machines", "State machines run the deployed definitions")
def _state_machines(facts: Facts) -> Comparison:
    return _number(facts, "state machines", MACHINE), (
        problem
        for machine, declared, seen in facts.each("machine", MACHINE)
        for problem in _named(machine.logical_id, _definition_differences(declared, seen))
    )


def _definition_differences(declared: Properties, seen: Properties) -> Iterator[str]:
    if isinstance(seen["uploaded"], NotCheckedError):
        raise seen["uploaded"]
    values = declared.get("DefinitionSubstitutions", {})
    text = re.sub(r"\$\{(\w+)\}", lambda match: str(values.get(match[1], match[0])), seen["uploaded"])
    wanted, found = json.loads(text), json.loads(seen["machine"]["definition"])
    if wanted != found:
        before, after = wanted.get("States", {}), found.get("States", {})
        changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        yield f"its definition differs in {', '.join(changed) or 'its head'}"


@_check(_TRIAGE, "state-machine-settings", "They have the declared role and tracing")
def _state_machine_settings(facts: Facts) -> Comparison:
    return _number(facts, "state machines", MACHINE), _compared(
        facts,
        "machine",
        [MACHINE],
        lambda declared: {
            "status": "ACTIVE",
            "roleArn": declared["RoleArn"],
            "type": declared["StateMachineType"],
            "tracing": declared.get("TracingConfiguration", {}).get("Enabled", False),
        },
        lambda seen: {
            **seen["machine"],
            "tracing": seen["machine"].get("tracingConfiguration", {}).get("enabled", False),
        },
    )


@_check(_TRIAGE, "sweep-schedule", "The sweep runs every 30 minutes")
def _sweep_schedule(facts: Facts) -> Comparison:
    summary, problems = _rule_is(facts, "EvidenceSweepFunctionRegularly")
    return summary, [*problems, *_targets_are(facts, "EvidenceSweepFunctionRegularly")]


@_check(_TRIAGE, "sweep-permission", "EventBridge may invoke the sweep")
def _sweep_permission(facts: Facts) -> Comparison:
    permission = _properties(facts, "EvidenceSweepFunctionRegularlyPermission")
    _, seen = facts.one("policy", "EvidenceSweepFunction")
    statements = json.loads(seen.get("Policy") or "{}").get("Statement", [])
    allowed = any(permission["SourceArn"] in json.dumps(one.get("Condition", {})) for one in statements)
    return "allowed", [] if allowed else ["EvidenceSweepFunction: its policy does not allow the schedule to invoke it"]


@_check(_TRIAGE, "circuit-breaker-rule", "EverythingFailsAlarm starts the breaker")
def _circuit_breaker_rule(facts: Facts) -> Comparison:
    if "CircuitBreakerRule" not in facts.declared.physical_ids:
        raise NotCheckedError("this stack has none: CircuitBreaker is off")
    summary, problems = _rule_is(facts, "CircuitBreakerRule")
    return summary, [*problems, *_targets_are(facts, "CircuitBreakerRule")]


def _rule_is(facts: Facts, rule: str) -> Comparison:
    declared, seen = facts.one("rule", rule)
    wanted = {"State": declared.get("State", "ENABLED")} | _of("EventPattern", "ScheduleExpression")(declared)
    found = {**seen, "EventPattern": json.loads(seen.get("EventPattern") or "{}")}
    return str(seen.get("State", "missing")), _named(rule, differences(wanted, found))


def _targets_are(facts: Facts, rule: str) -> Iterator[str]:
    declared, seen = facts.one("rule", rule)
    return _named(rule, differences(_of("Targets")(declared), seen))


# -- alarms and logs -----------------------------------------------------------------------------------------------

_WATCHING = "Alarms and logs"
_NOT_COMPARED = {"AlarmName", "AlarmDescription", "AlarmActions", "ActionsEnabled", "Tags"}
_ALARM_ARN = re.compile(r"arn:[a-z-]+:cloudwatch:[a-z0-9-]+:\d+:alarm:")


@_check(_WATCHING, "alarms", "Every declared alarm exists")
def _alarms(facts: Facts) -> Comparison:
    return _number(facts, "alarms", *ALARMS), (
        f"{alarm.logical_id} does not exist" for alarm, _, seen in facts.each("alarm", *ALARMS) if not seen
    )


@_check(_WATCHING, "alarm-settings", "They have the declared metrics and thresholds")
def _alarm_settings(facts: Facts) -> Comparison:
    return _number(facts, "alarms", *ALARMS), (
        problem
        for alarm, declared, seen in _existing_alarms(facts)
        for problem in _named(alarm.logical_id, differences(_alarm_of(declared), _alarm_of(seen)))
    )


def _existing_alarms(facts: Facts) -> Iterator[tuple[Resource, Properties, Any]]:
    """The declared alarms that exist. The check ``alarms`` reports the others."""
    return (found for found in facts.each("alarm", *ALARMS) if found[2])


def _alarm_of(alarm: Properties) -> dict[str, Any]:
    """The settings of an alarm: its rule without line breaks, and the names of alarms instead of their ARNs."""

    def plain(value: Any) -> Any:
        return " ".join(_ALARM_ARN.sub("", value).split()) if isinstance(value, str) else value

    return {name: plain(value) for name, value in alarm.items() if name not in _NOT_COMPARED}


@_check(_WATCHING, "alarm-actions", "They are enabled and notify the topic")
def _alarm_actions(facts: Facts) -> Comparison:
    found = list(_existing_alarms(facts))
    notifying = sum("AlarmActions" in declared for _, declared, _ in found)
    return f"{notifying} alarms notify", (
        problem
        for alarm, declared, seen in found
        for problem in _named(
            alarm.logical_id,
            differences({"ActionsEnabled": True, "AlarmActions": []} | _of("AlarmActions")(declared), seen),
        )
    )


@_check(_WATCHING, "topic-policy", "Alarms may publish to the topic")
def _topic_policy(facts: Facts) -> Comparison:
    _, seen = facts.one("topic", "AlarmTopic")
    policy = seen.get("Attributes", {}).get("Policy")
    return "allowed", _named("AlarmTopic", policy_differences(_policy(facts, "AlarmTopicPolicy"), policy))


@_check(_WATCHING, "topic-subscription", "The topic has a confirmed subscription")
def _topic_subscription(facts: Facts) -> Comparison:
    _, found = facts.one("subscriptions", "AlarmTopic")
    confirmed = [one for one in found if one["SubscriptionArn"].startswith("arn:")]
    waiting = f", {len(found) - len(confirmed)} to be confirmed" if len(found) > len(confirmed) else ""
    summary = f"{len(confirmed)} confirmed{waiting}"
    return summary, [] if confirmed else [f"{summary}: subscribe to the topic in the output AlarmTopicArn"]


@_check(_WATCHING, "log-retention", "Log groups keep logs for the declared time")
def _log_retention(facts: Facts) -> Comparison:
    days = facts.declared.parameters.get("LogRetentionDays")
    return f"{days} days", _compared(
        facts,
        "logs",
        [LOGS],
        lambda declared: {"RetentionInDays": declared["RetentionInDays"]},
        lambda seen: {"RetentionInDays": seen.get("retentionInDays")},
    )


# -- permissions ---------------------------------------------------------------------------------------------------

_PERMISSIONS = "Permissions"


@_check(_PERMISSIONS, "role-policies", "Roles have exactly the declared permissions")
def _role_policies(facts: Facts) -> Comparison:
    return _number(facts, "roles", ROLE), (
        problem
        for role, declared, seen in facts.each("role", ROLE)
        for problem in _named(role.logical_id, _permission_differences(facts, role, declared, seen))
    )


def _permission_differences(facts: Facts, role: Resource, declared: Properties, seen: Properties) -> Iterator[str]:
    wanted, found = _inline_policies(facts, role, declared), seen.get("Policies", {})
    for name, document in wanted.items():
        yield from (f"policy {name} {problem}" for problem in policy_differences(document, found.get(name)))
    yield from (f"policy {name} is not in the template" for name in found.keys() - wanted.keys())
    attached = {"managed policies": declared.get("ManagedPolicyArns", [])}
    yield from differences(attached, {"managed policies": seen.get("Attached", [])})


def _inline_policies(facts: Facts, role: Resource, declared: Properties) -> Mapping[str, Properties]:
    """The policies inside the role, and the policies that name it."""
    apart = map(facts.declared.properties, facts.declared.of_type("AWS::IAM::Policy"))
    named = [one for one in apart if role.name in one.get("Roles", [])]
    return {one["PolicyName"]: one["PolicyDocument"] for one in [*declared.get("Policies", []), *named]}


@_check(_PERMISSIONS, "role-trust", "Only the declared services use the roles")
def _role_trust(facts: Facts) -> Comparison:
    return _number(facts, "roles", ROLE), (
        problem
        for role, declared, seen in facts.each("role", ROLE)
        for problem in _named(
            role.logical_id,
            policy_differences(declared["AssumeRolePolicyDocument"], seen.get("AssumeRolePolicyDocument")),
        )
    )


def _policy(facts: Facts, logical_id: str) -> Properties:
    found: Properties = _properties(facts, logical_id)["PolicyDocument"]
    return found


def _properties(facts: Facts, logical_id: str) -> Properties:
    return facts.declared.properties(facts.declared.resource(logical_id))


# -- only in AWS ---------------------------------------------------------------------------------------------------

_ONLY_AWS = "Only AWS can answer"


@_check(_ONLY_AWS, "answer-permissions", "Narrow SendTask permissions suffice")
def _answer_permissions(facts: Facts) -> Comparison:
    _only_in_aws(facts, "it evaluates policies in its own way")
    return "allowed", (
        f"{role}: {decision}"
        for role in ("ProcessorRole", "DeadLetterIntakeRole")
        if (decision := facts.answer_about("answers", facts.declared.resource(role))) != "allowed"
    )


@_check(_ONLY_AWS, "alarms-without-data", "Alarms without data are OK")
def _alarms_without_data(facts: Facts) -> Comparison:
    _only_in_aws(facts, "it evaluates alarms in its own way")
    found = list(_existing_alarms(facts))
    undecided = [(alarm, seen) for alarm, _, seen in found if seen["StateValue"] == "INSUFFICIENT_DATA"]
    if any(facts.now - seen["StateUpdatedTimestamp"] < _EVALUATED_AFTER for _, seen in undecided):
        raise NotCheckedError("the alarms are new: run it again in 15 minutes")
    return f"{len(found)} alarms have a state", (f"{alarm.logical_id}: INSUFFICIENT_DATA" for alarm, _ in undecided)


@_check(_ONLY_AWS, "redrive-lineage", "Lambda does not drop redriven events")
def _redrive_lineage(facts: Facts) -> Comparison:
    _only_in_aws(facts, "it does not follow a message through its redrives")
    found = facts.answer_about("lineage", facts.declared.resource("ProcessorFunction"))
    if not found["redriven"]:
        raise NotCheckedError("no letter was redriven in 14 days: run it again after an outage")
    dropped = found["dropped"]
    return f"{found['redriven']:.0f} redrives in 14 days", [f"Lambda dropped {dropped:.0f} events"] if dropped else []


def _only_in_aws(facts: Facts, why: str) -> None:
    if facts.local:
        raise NotCheckedError(f"this is the local engine: {why}")
