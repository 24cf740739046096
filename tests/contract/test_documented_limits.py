"""At the minimum and the maximum of every parameter, the template keeps the limits that AWS documents.

AWS checks most of them only when the stack is deployed, and some only when an event arrives.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.deployed import deployed
from tests.contract.project import MACHINES, machine, template, values
from tests.contract.test_template import VALUES

Resources = dict[str, dict[str, Any]]
DAY = 86_400
#: For an alarm with a period of an hour or more: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
WEEK = 7 * DAY
YEAR = 365 * DAY
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LOG_RETENTION = [
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
]
#: Events in the history of an execution: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
HISTORY_EVENTS = 25_000
#: A state is entered and exited. Its last attempt is scheduled, started, submitted and ended.
EVENTS_OF_A_STATE = 2 + 4
#: Scheduled, started, failed.
EVENTS_OF_A_FAILED_ATTEMPT = 3


def of(resources: Resources, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in resources.items():
        if found["Type"] == kind:
            yield name, found["Properties"]


def target_of(resources: Resources, reference: Any) -> dict[str, Any]:
    """The properties of the resource to which a property refers."""
    name = reference.get("Ref") or reference["Fn::GetAtt"][0]
    found: dict[str, Any] = resources[name]["Properties"]
    return found


def queue_mappings(resources: Resources) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Each mapping of a queue with the properties of the queue and of the function."""
    for name, mapping in of(resources, "AWS::Lambda::EventSourceMapping"):
        source = resources[mapping["EventSourceArn"]["Fn::GetAtt"][0]]
        if source["Type"] == "AWS::SQS::Queue":
            yield name, mapping, source["Properties"], target_of(resources, mapping["FunctionName"])


def numbers(found: Iterator[tuple[str, Any, int, int]]) -> Iterator[str]:
    """The values that are outside their range."""
    for name, value, low, high in found:
        if value is not None and not low <= int(value) <= high:
            yield f"{name}: {value} is not from {low} to {high}"


# ------------------------------------------------------------------ one function per documented limit


def queues(resources: Resources) -> Iterator[str]:
    def ranges() -> Iterator[tuple[str, Any, int, int]]:
        for name, queue in of(resources, "AWS::SQS::Queue"):
            yield f"{name} MessageRetentionPeriod", queue.get("MessageRetentionPeriod"), 60, 14 * DAY
            yield f"{name} VisibilityTimeout", queue.get("VisibilityTimeout"), 0, 12 * 3_600
            yield f"{name} maxReceiveCount", queue.get("RedrivePolicy", {}).get("maxReceiveCount"), 1, 1_000

    return numbers(ranges())


def visibility(resources: Resources) -> Iterator[str]:
    for name, mapping, queue, function in queue_mappings(resources):
        least = 6 * int(function["Timeout"]) + int(mapping.get("MaximumBatchingWindowInSeconds", 0))
        if int(queue["VisibilityTimeout"]) < least:
            yield f"{name}: messages are visible again after {queue['VisibilityTimeout']} s, before {least} s"


def receives(resources: Resources) -> Iterator[str]:
    for name, _, queue, _ in queue_mappings(resources):
        count = queue.get("RedrivePolicy", {}).get("maxReceiveCount")
        if count is not None and int(count) < 5:
            yield f"{name}: a message becomes a dead letter after {count} receives"


def batches(resources: Resources) -> Iterator[str]:
    def ranges() -> Iterator[tuple[str, Any, int, int]]:
        for name, mapping, _, _ in queue_mappings(resources):
            yield f"{name} BatchSize", mapping["BatchSize"], 1, 10_000
            yield f"{name} window", mapping.get("MaximumBatchingWindowInSeconds"), 0, 300
            yield f"{name} MaximumConcurrency", mapping.get("ScalingConfig", {}).get("MaximumConcurrency"), 2, 1_000

    yield from numbers(ranges())
    for name, mapping, _, _ in queue_mappings(resources):
        if int(mapping["BatchSize"]) > 10 and int(mapping.get("MaximumBatchingWindowInSeconds", 0)) < 1:
            yield f"{name}: a batch of more than 10 needs a window of at least a second"


def stream_batches(resources: Resources) -> Iterator[str]:
    def ranges() -> Iterator[tuple[str, Any, int, int]]:
        for name, mapping in of(resources, "AWS::Lambda::EventSourceMapping"):
            if "StartingPosition" in mapping:
                yield f"{name} BatchSize", mapping["BatchSize"], 1, 10_000
                yield f"{name} window", mapping.get("MaximumBatchingWindowInSeconds"), 0, 300
                yield f"{name} ParallelizationFactor", mapping.get("ParallelizationFactor"), 1, 10
                yield f"{name} MaximumRetryAttempts", mapping.get("MaximumRetryAttempts"), -1, 10_000
                yield f"{name} MaximumRecordAgeInSeconds", mapping.get("MaximumRecordAgeInSeconds"), 60, 604_800

    return numbers(ranges())


def reservations(resources: Resources) -> Iterator[str]:
    for name, mapping, _, function in queue_mappings(resources):
        reserved = function.get("ReservedConcurrentExecutions")
        if reserved is not None and int(mapping["ScalingConfig"]["MaximumConcurrency"]) > int(reserved):
            yield f"{name}: more concurrency than {reserved}, which is reserved"


def function_settings(resources: Resources) -> Iterator[str]:
    def ranges() -> Iterator[tuple[str, Any, int, int]]:
        for name, function in of(resources, "AWS::Lambda::Function"):
            variables = function["Environment"]["Variables"]
            # A reference to a resource is at most an ARN long.
            size = sum(len(key) + (len(value) if isinstance(value, str) else 256) for key, value in variables.items())
            yield f"{name} Timeout", function["Timeout"], 1, 900
            yield f"{name} MemorySize", function["MemorySize"], 128, 10_240
            yield f"{name} environment", size, 0, 4_096

    return numbers(ranges())


def backoff(resources: Resources) -> Iterator[str]:
    """The processor sets the visibility of a message that failed."""
    variables = resources["ProcessorFunction"]["Properties"]["Environment"]["Variables"]
    for name in ("BACKOFF_BASE_SECONDS", "BACKOFF_CAP_SECONDS"):
        yield from numbers(iter([(name, variables[name], 0, 12 * 3_600)]))


def lifecycle(resources: Resources) -> Iterator[str]:
    for _, bucket in of(resources, "AWS::S3::Bucket"):
        rules = bucket["LifecycleConfiguration"]["Rules"]
        if len({rule["Id"] for rule in rules}) != len(rules):
            yield "two rules have the same id"
        for rule in rules:
            days = int(rule.get("ExpirationInDays", 0))
            noncurrent = int(rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", 1))
            transitions = [int(one["TransitionInDays"]) for one in rule.get("Transitions", [])]
            if "ExpirationInDays" in rule and days < 1:
                yield f"{rule['Id']}: objects expire after {days} days"
            if transitions and days and days <= max(transitions):
                yield f"{rule['Id']}: objects expire after {days} days, not later than the transition"
            if rule.get("ExpiredObjectDeleteMarker") and "ExpirationInDays" in rule:
                yield f"{rule['Id']}: ExpiredObjectDeleteMarker cannot be in a rule with ExpirationInDays"
            if noncurrent < 1:
                yield f"{rule['Id']}: noncurrent versions expire after {noncurrent} days"


def log_retention(resources: Resources) -> Iterator[str]:
    for name, group in of(resources, "AWS::Logs::LogGroup"):
        if int(group["RetentionInDays"]) not in LOG_RETENTION:
            yield f"{name}: logs cannot be kept {group['RetentionInDays']} days"


def alarms(resources: Resources) -> Iterator[str]:
    for name, alarm in of(resources, "AWS::CloudWatch::Alarm"):
        evaluated = int(alarm["EvaluationPeriods"])
        if not 1 <= int(alarm.get("DatapointsToAlarm", evaluated)) <= evaluated:
            yield f"{name}: DatapointsToAlarm is more than EvaluationPeriods"
        for period in map(int, {*values(alarm, "Period")}):
            if period not in {10, 20, 30} and period % 60:
                yield f"{name}: a period of {period} s"
            if period * evaluated > (WEEK if period >= 3_600 else DAY):
                yield f"{name}: evaluates {period * evaluated} s"


def rule_targets(resources: Resources) -> Iterator[str]:
    def ranges() -> Iterator[tuple[str, Any, int, int]]:
        for name, rule in of(resources, "AWS::Events::Rule"):
            for target in rule["Targets"]:
                policy = target.get("RetryPolicy", {})
                yield f"{name} MaximumRetryAttempts", policy.get("MaximumRetryAttempts"), 0, 185
                yield f"{name} MaximumEventAgeInSeconds", policy.get("MaximumEventAgeInSeconds"), 60, DAY

    return numbers(ranges())


def definitions(resources: Resources) -> Iterator[dict[str, Any]]:
    """The states of each definition, with the substitutions of this deployment."""
    for name, found in of(resources, "AWS::StepFunctions::StateMachine"):
        short = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("StateMachine")).lower()
        known = {key: value for key, value in found["DefinitionSubstitutions"].items() if isinstance(value, str)}
        assert short in MACHINES
        yield machine(short, known)["States"]


def seconds(text: Any) -> int:
    """The number in a field of a state: a number, or an expression with only a number."""
    found = re.fullmatch(r"(?:\{% )?(\d+)(?: %\})?", str(text))
    return int(found[1]) if found else 0


def state_times(resources: Resources) -> Iterator[str]:
    for states in definitions(resources):
        for field in ("TimeoutSeconds", "HeartbeatSeconds", "Seconds"):
            yield from numbers((field, seconds(one), 0, 99_999_999) for one in values(states, field))
        for name in ("TimeoutSeconds", "HeartbeatSeconds"):
            yield from (f"{name} is 0" for one in values(states, name) if str(one).strip("{%} ") == "0")


def retriers(resources: Resources) -> Iterator[str]:
    for states in definitions(resources):
        for retry in (one for group in values(states, "Retry") for one in group):
            first, longest = retry.get("IntervalSeconds", 1), retry.get("MaxDelaySeconds")
            label = ", ".join(retry["ErrorEquals"][:2])
            yield from numbers(iter([(f"{label} IntervalSeconds", first, 1, 99_999_999)]))
            yield from numbers(iter([(f"{label} MaxAttempts", retry.get("MaxAttempts"), 0, 99_999_999)]))
            yield from numbers(iter([(f"{label} MaxDelaySeconds", longest, first + 1, 31_622_399)]))
            if retry.get("BackoffRate", 2) < 1:
                yield f"{label}: BackoffRate is less than 1"


def history(resources: Resources) -> Iterator[str]:
    """Triage uses every redrive, and every task is throttled for a day each time."""
    variables = resources["ClassifyFunction"]["Properties"]["Environment"]["Variables"]
    redrives = int(variables["MAX_RETRIES"])
    (states,) = [found for found in definitions(resources) if "Redrive" in found]
    events = 0
    for name, state in states.items():
        retries = sum(attempts_in_a_day(retry) for retry in state.get("Retry", []))
        one = EVENTS_OF_A_STATE + EVENTS_OF_A_FAILED_ATTEMPT * retries
        events += one * (redrives + 1 if name in {"Classify", "Decide", "BackOff", "Redrive"} else 1)
    if events > HISTORY_EVENTS:
        yield f"an execution can have {events} events"


def attempts_in_a_day(retry: dict[str, Any]) -> int:
    """How often a task is retried that fails with this error for a day."""
    waited, attempts, delay = 0.0, 0, float(retry.get("IntervalSeconds", 1))
    while waited < DAY and attempts < retry.get("MaxAttempts", 3):
        waited += delay / (2 if retry.get("JitterStrategy") == "FULL" else 1)
        delay = min(delay * retry.get("BackoffRate", 2), retry.get("MaxDelaySeconds", float("inf")))
        attempts += 1
    return attempts


def duration(resources: Resources) -> Iterator[str]:
    """The waits of the longest execution of triage: a redrive waits a week and half the cap, then for its outcome."""
    variables = resources["ClassifyFunction"]["Properties"]["Environment"]["Variables"]
    given = resources["TriageStateMachine"]["Properties"]["DefinitionSubstitutions"]
    wait = 7 * DAY + int(given["RetryCapSeconds"]) // 2
    longest = int(variables["MAX_RETRIES"]) * (wait + int(given["OutcomeTimeoutSeconds"]))
    yield from numbers(iter([("an execution in seconds", longest, 0, YEAR)]))


def topic_pattern(resources: Resources) -> Iterator[str]:
    """A rule refuses an empty list, an empty string in the place of a detail-type or a prefix, and a single ``$or``."""
    pattern = resources["EventRule"]["Properties"]["EventPattern"]
    entries = [*values(pattern, "detail-type")]
    texts = [one.get("prefix") if isinstance(one, dict) else one for entry in entries for one in entry]
    if not (all(entries) and all(texts)) or len(pattern.get("$or", entries + entries)) == 1:
        yield f"the pattern of the rule is {pattern}"


SQS = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html"
SQS_MAPPINGS = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html"
SQS_CONFIGURATION = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"
STEP_FUNCTIONS = "https://docs.aws.amazon.com/step-functions/latest/dg"
#: Each limit, with the page on which AWS documents it.
LIMITS: dict[Callable[[Resources], Iterator[str]], str] = {
    queues: SQS,
    visibility: SQS_CONFIGURATION,
    receives: SQS_CONFIGURATION,
    batches: SQS_MAPPINGS,
    stream_batches: "https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html",
    reservations: "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html",
    function_settings: "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html",
    backoff: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html",
    lifecycle: "https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html",
    log_retention: "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html",
    alarms: "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html",
    rule_targets: "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RetryPolicy.html",
    state_times: f"{STEP_FUNCTIONS}/state-task.html",
    retriers: f"{STEP_FUNCTIONS}/concepts-error-handling.html",
    history: f"{STEP_FUNCTIONS}/service-quotas.html",
    duration: f"{STEP_FUNCTIONS}/service-quotas.html",
    topic_pattern: "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern.html",
}


def extremes() -> dict[str, list[Any]]:
    """The values to try for each parameter: minimum and maximum, every allowed value, or the samples of a text."""
    samples = {name: accepted for name, accepted, _ in VALUES} | {"DetailTypes": ["a", "a,b"]}
    return {
        name: parameter.get("AllowedValues")
        or ([parameter["MinValue"], parameter["MaxValue"]] if "MinValue" in parameter else ["", *samples[name]])
        for name, parameter in template()["Parameters"].items()
    }


def deployments() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each value of each parameter, while the others have their defaults, their first or their last value."""
    found = extremes()
    others: dict[str, dict[str, Any]] = {
        "default": {},
        "first": {name: options[0] for name, options in found.items()},
        "last": {name: options[-1] for name, options in found.items()},
    }
    for label, chosen in others.items():
        for name, options in found.items():
            for value in options:
                yield f"{name}={value}, others {label}", chosen | {name: value}


@pytest.fixture(scope="module")
def every_deployment() -> dict[str, Resources]:
    return {label: deployed(parameters) for label, parameters in deployments()}


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.__name__)
def test_every_value_of_every_parameter_keeps_the_limit(
    limit: Callable[[Resources], Iterator[str]], every_deployment: dict[str, Resources]
) -> None:
    problems = {label: found for label, resources in every_deployment.items() if (found := [*limit(resources)])}
    assert problems == {}, LIMITS[limit]


#: A change that AWS refuses, and the limit that finds it.
MISTAKES: list[tuple[Callable[[Resources], Iterator[str]], str, str, Any]] = [
    (queues, "BufferQueue", "MessageRetentionPeriod", 1_209_601),
    (visibility, "BufferQueue", "VisibilityTimeout", 180),
    (receives, "BufferQueue", "RedrivePolicy", {"maxReceiveCount": 4}),
    (batches, "DeadLetterIntakeFunctionDeadLetters", "BatchSize", 11),
    (stream_batches, "FanOutFunctionNewEvents", "MaximumRetryAttempts", 10_001),
    (reservations, "ProcessorFunction", "ReservedConcurrentExecutions", 9),
    (function_settings, "ReplayFunction", "Timeout", 901),
    (
        lifecycle,
        "ArchiveBucket",
        "LifecycleConfiguration",
        {"Rules": [{"Id": "a", "ExpirationInDays": 30, "Transitions": [{"TransitionInDays": 30}]}]},
    ),
    (log_retention, "ProcessorLog", "RetentionInDays", 31),
    (alarms, "RecursionAlarm", "EvaluationPeriods", 1_441),
    (rule_targets, "EventRule", "Targets", [{"RetryPolicy": {"MaximumRetryAttempts": 186}}]),
    (topic_pattern, "EventRule", "EventPattern", {"detail-type": [""]}),
    (topic_pattern, "EventRule", "EventPattern", {"detail-type": [{"prefix": ""}]}),
    (topic_pattern, "EventRule", "EventPattern", {"$or": [{"detail-type": ["a"]}]}),
]


@pytest.mark.parametrize(("limit", "name", "key", "value"), MISTAKES, ids=[limit.__name__ for limit, *_ in MISTAKES])
def test_a_limit_finds_a_mistake(limit: Callable[[Resources], Iterator[str]], name: str, key: str, value: Any) -> None:
    resources = copy.deepcopy(deployed({}))
    assert [*limit(resources)] == []
    resources[name]["Properties"][key] = value
    assert [*limit(resources)] != []
