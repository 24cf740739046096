"""Every engine patch closes a gap that exists.

Each gap has a scenario. On the plain engine it must show the gap, and on the patched engine the behaviour of AWS. If it
no longer shows the gap on the plain engine, a newer engine has closed it and the patch can be deleted.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local.engine import ACCOUNT, REGION
from local.engine_patches import PATCHES
from local.eventually import eventually
from tests.integration.cloud import EVERYTHING, within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.cloud import Cloud

CALLBACK = "arn:aws:states:::lambda:invoke.waitForTaskToken"
INVOKE = "arn:aws:states:::lambda:invoke"
START_AND_WAIT = "arn:aws:states:::states:startExecution.sync:2"
SEND_TASK_SUCCESS = "stepfunctions.send_task_success"
TOKEN = {"token": "{% $states.context.Task.Token %}"}


def callback(function: str, **more: Any) -> dict[str, Any]:
    """A task that waits for its token."""
    return {"Type": "Task", "Resource": CALLBACK, "Arguments": {"FunctionName": function, "Payload": TOKEN}} | more


def task(resource: str, **arguments: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, "Arguments": arguments}


def end_of(cloud: Cloud, state: dict[str, Any], seconds: float = 10, *, role: str | None = None) -> str:
    """The error of an execution of this one state, or its status without an error."""
    outcome = cloud.outcome(cloud.start(cloud.machine(state, role=role)), seconds)
    return str(outcome.get("error", outcome["status"]))


def token_sender(cloud: Cloud) -> tuple[str, Callable[[], list[str]]]:
    """A function that sends its task token to a queue, and a function that reads the tokens from there."""
    url, _ = cloud.queue(VisibilityTimeout="0")
    body = f"boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody=event['token'])"
    return cloud.function(body), lambda: bodies(cloud, url)


def code_of(call: Callable[..., Any], **request: Any) -> str:
    """The error code of a call, or OK."""
    try:
        call(**request)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "OK"


def invoked(cloud: Cloud, body: str, role: str | None = None) -> Any:
    """The result of a new function with this body."""
    function = cloud.function(body, role=role)
    return json.load(cloud.client("lambda").invoke(FunctionName=function)["Payload"])


def code_in_function(cloud: Cloud, call: str, request: dict[str, Any], actions: Sequence[str], on: str = "*") -> str:
    """The error code of a function's call, for example ``s3.get_object``, with these permissions; or OK."""
    service, _, operation = call.partition(".")
    body = f"""
try:
    boto3.client({service!r}).{operation}(**{request!r})
except Exception as error:
    return error.response['Error']['Code']
return 'OK'
"""
    return str(invoked(cloud, body, cloud.role(tuple(actions), on)))


def policy(service: str, action: str) -> str:
    """A resource policy that allows one service one action."""
    principal = {"Service": f"{service}.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def subscribed_topic(cloud: Cloud, publisher: str) -> tuple[str, str]:
    """A topic to which this service may publish, and the URL of a queue that receives its messages."""
    url, arn = cloud.queue(Policy=policy("sns", "sqs:SendMessage"))
    attributes = {"Policy": policy(publisher, "sns:Publish")}
    topic = cloud.client("sns").create_topic(Name=cloud.name(), Attributes=attributes)["TopicArn"]
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic, url


def bodies(cloud: Cloud, url: str) -> list[str]:
    return [message["Body"] for message in messages(cloud, url)]


def messages(cloud: Cloud, url: str) -> list[dict[str, Any]]:
    answer = cloud.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"], VisibilityTimeout=0
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def error_types(cloud: Cloud) -> list[str]:
    """The errorType of an exception and of a process that ends."""
    bodies = ("class BufferFull(Exception): pass\nraise BufferFull('why')", "os._exit(1)")
    return [invoked(cloud, body)["errorType"] for body in bodies]


def failed_start(cloud: Cloud) -> list[Any]:
    """The errorType of a function that cannot start, and whether its log names the error: two imports, one exit."""
    return [
        found
        for statement in ("import no_such_module", "raise LookupError('why')", "os._exit(1)")
        for found in start_of(cloud, statement)
    ]


def start_of(cloud: Cloud, statement: str) -> list[Any]:
    function = cloud.function("pass", first=statement)
    kind = json.load(cloud.client("lambda").invoke(FunctionName=function)["Payload"])["errorType"]
    events = cloud.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
    return [kind, any(kind in event["message"] for event in events)]


def counted_invocations(cloud: Cloud) -> list[float]:
    """Invocations and errors by a machine; invocations and throttles by boto3, which tries three times."""
    failing, throttled = cloud.function("raise ValueError"), cloud.function("pass")
    end_of(cloud, task(INVOKE, FunctionName=failing))
    cloud.client("lambda").put_function_concurrency(FunctionName=throttled, ReservedConcurrentExecutions=0)
    code_of(cloud.client("lambda").invoke, FunctionName=throttled)

    def count(function: str, metric: str) -> float:
        return total(cloud, "AWS/Lambda", metric, {"FunctionName": function})

    return [
        count(failing, "Invocations"),
        count(failing, "Errors"),
        count(throttled, "Invocations"),
        count(throttled, "Throttles"),
    ]


def paused_mapping(cloud: Cloud) -> list[str]:
    """The answer to disabling a mapping, the code of a change right after it, and its state some time later."""
    mappings, (_, arn) = cloud.client("lambda"), cloud.queue()
    mapping = mappings.create_event_source_mapping(EventSourceArn=arn, FunctionName=cloud.function("pass"))["UUID"]
    answer = mappings.update_event_source_mapping(UUID=mapping, Enabled=False)["State"]
    again = code_of(mappings.update_event_source_mapping, UUID=mapping, Enabled=True)

    def state() -> str:
        return str(mappings.get_event_source_mapping(UUID=mapping)["State"])

    within(2, lambda: state() == "Disabled")
    return [answer, again, state()]


def source_of_a_dead_letter(cloud: Cloud) -> Any:
    """Whether a record from a dead-letter queue names its source queue."""
    _, dead_arn = cloud.queue()
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    source_url, source_arn = cloud.queue(VisibilityTimeout="0", RedrivePolicy=redrive)
    seen_url, _ = cloud.queue()
    body = (
        "record = event['Records'][0]['attributes']\n"
        f"boto3.client('sqs').send_message(QueueUrl={seen_url!r}, MessageBody=json.dumps(record))"
    )
    cloud.client("lambda").create_event_source_mapping(EventSourceArn=dead_arn, FunctionName=cloud.function(body))
    cloud.client("sqs").send_message(QueueUrl=source_url, MessageBody="x")
    for _ in range(2):
        messages(cloud, source_url)
    seen = eventually(lambda: bodies(cloud, seen_url), "the record is read", 10)
    return json.loads(seen[0]).get("DeadLetterQueueSourceArn") == source_arn


def peak(cloud: Cloud) -> Any:
    """The recorded peak of one invocation."""
    function = cloud.function("return 1")
    cloud.client("lambda").invoke(FunctionName=function)
    try:
        return cloud.engine.concurrency().get("peak", {}).get(function)
    except OSError:
        return None


def mapping_permissions(cloud: Cloud) -> list[str]:
    """The codes of reading a mapping and of disabling it, with these permissions on this mapping only."""
    _, arn = cloud.queue()
    created = cloud.client("lambda").create_event_source_mapping(
        FunctionName=cloud.function("pass"), EventSourceArn=arn
    )
    on = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{created['UUID']}"
    read, change = "lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"
    request = {"UUID": created["UUID"]}
    return [
        code_in_function(cloud, "lambda.get_event_source_mapping", request, [read], on),
        code_in_function(cloud, "lambda.update_event_source_mapping", {**request, "Enabled": False}, [change], on),
        code_in_function(cloud, "lambda.update_event_source_mapping", {**request, "Enabled": False}, [read], on),
    ]


def partiql_permissions(cloud: Cloud) -> list[str]:
    """An insert with AWS's permission for it, and a delete with the same permission."""
    table, _ = cloud.table()
    statements = ("INSERT INTO {} VALUE {{'id': '1'}}", "DELETE FROM {} WHERE id='1'")
    requests = [{"Statements": [{"Statement": text.format(f'"{table}"')}]} for text in statements]
    call, actions = "dynamodb.batch_execute_statement", ["dynamodb:PartiQLInsert"]
    return [code_in_function(cloud, call, request, actions) for request in requests]


def batch_permissions(cloud: Cloud) -> str:
    """A batch call with the permission to send one message."""
    request = {"QueueUrl": cloud.queue()[0], "Entries": [{"Id": "1", "MessageBody": "x"}]}
    return code_in_function(cloud, "sqs.send_message_batch", request, ["sqs:SendMessage"])


def denial_of_plain_transport(cloud: Cloud) -> str:
    """A message to a queue whose policy denies calls without TLS."""
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": condition}
    url, _ = cloud.queue(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return code_of(cloud.client("sqs").send_message, QueueUrl=url, MessageBody="x")


def mapping_number_as_text(cloud: Cloud) -> bool:
    """Whether a mapping delivers if the template sets its concurrency as text, as a parameter does."""
    url, arn = cloud.queue()
    properties = {
        "EventSourceArn": arn,
        "FunctionName": cloud.function("pass"),
        "ScalingConfig": {"MaximumConcurrency": "7"},
    }
    cloud.stack({"Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}})
    sqs, functions = cloud.client("sqs"), cloud.client("lambda")
    sqs.send_message(QueueUrl=url, MessageBody="x")
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def delivered() -> bool:
        return set(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values()) == {"0"}

    found = bool(within(4, delivered))
    # On the plain engine this mapping would stop the poller for every other mapping.
    for mapping in functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]:
        functions.delete_event_source_mapping(UUID=mapping["UUID"])
    return found


def mapping_without_permission(cloud: Cloud) -> str:
    """A stack whose function may not read the queue it is mapped to."""
    properties = {"EventSourceArn": cloud.queue()[1], "FunctionName": cloud.function("pass", role=cloud.role(()))}
    return cloud.stack({"Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}})


def mapping_to_a_bucket_without_permission(cloud: Cloud) -> str:
    """A mapping whose function may read the stream, but not write to the on-failure bucket."""
    actions = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    return code_of(
        cloud.client("lambda").create_event_source_mapping,
        EventSourceArn=cloud.table()[1],
        FunctionName=cloud.function("pass", role=cloud.role(tuple(f"dynamodb:{action}" for action in actions))),
        StartingPosition="LATEST",
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::a-bucket"}},
    )


def missing_object(cloud: Cloud) -> list[str]:
    """The error for a missing object, without and with the permission to list."""
    request = {"Bucket": cloud.bucket(), "Key": "a=b/none"}
    permissions = (["s3:GetObject"], ["s3:GetObject", "s3:ListBucket"])
    return [code_in_function(cloud, "s3.get_object", request, actions) for actions in permissions]


def logging_without_permission(cloud: Cloud) -> list[bool]:
    """Whether a function's output is logged, without and with the permission."""
    logged = []
    for actions in ((), EVERYTHING):
        function = cloud.function("print('x')", role=cloud.role(actions))
        cloud.client("lambda").invoke(FunctionName=function)
        found = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function}")
        logged.append(bool(found["logGroups"]))
    return logged


def alarm_without_permission(cloud: Cloud) -> list[int]:
    """Messages of an alarm whose topic does not allow CloudWatch to publish, and of one whose topic does."""
    counts = []
    for service in ("events", "cloudwatch"):
        topic, url = subscribed_topic(cloud, service)
        name = cloud.name()
        cloud.client("cloudwatch").put_metric_alarm(AlarmName=name, AlarmActions=[topic], **simple_alarm())
        cloud.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
        counts.append(len(bodies(cloud, url)))
    return counts


def map_without_permission(cloud: Cloud) -> list[str]:
    """A Distributed Map that may not list its bucket, one that may not start its children, and one that may both."""
    bucket = cloud.bucket()
    reader = {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": {"Bucket": bucket}}
    child = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Done",
        "States": {"Done": {"Type": "Succeed"}},
    }
    state = {"Type": "Map", "QueryLanguage": "JSONPath", "ItemReader": reader, "ItemProcessor": child}
    both = ("states:StartExecution", "s3:ListBucket")
    machines = [cloud.machine(state, role=cloud.role(actions)) for actions in (both[:1], both[1:], both)]
    return [cloud.outcome(cloud.start(machine))["status"] for machine in machines]


def waiting_without_permission(cloud: Cloud) -> str:
    """A machine that waits for executions and may not manage the rule for it."""
    state = task(START_AND_WAIT, StateMachineArn=cloud.machine({"Type": "Pass"}))
    return code_of(cloud.machine, state=state, role=cloud.role(("states:StartExecution",)))


def machine_without_permission(cloud: Cloud) -> str:
    return end_of(cloud, task(INVOKE, FunctionName=cloud.function("return 1")), role=cloud.role(()))


def oversized_messages(cloud: Cloud) -> list[str]:
    """A message with eleven attributes, and one with an attribute on top of a body of 1 MiB."""
    url, _ = cloud.queue()
    attribute = {"DataType": "String", "StringValue": "x"}
    return [
        code_of(
            cloud.client("sqs").send_message,
            QueueUrl=url,
            MessageBody=body,
            MessageAttributes={f"a{number}": attribute for number in range(count)},
        )
        for body, count in (("x", 11), ("x" * 1_048_576, 1))
    ]


def oversized_result(cloud: Cloud) -> str:
    """A task whose function returns more than a state may hold."""
    return end_of(cloud, task(INVOKE, FunctionName=cloud.function("return 'x' * 262_143")))


def throttled_task(cloud: Cloud) -> str:
    """A task whose function has no concurrency."""
    function = cloud.function("return 1")
    cloud.client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    return end_of(cloud, task(INVOKE, FunctionName=function))


def workers_of_executions(cloud: Cloud) -> int:
    """How many processes twelve executions use at the same time."""
    state = task(INVOKE, FunctionName=cloud.function("time.sleep(0.5)\nreturn os.getpid()"))
    machine = cloud.machine(state | {"Output": "{% $states.result.Payload %}"})
    started = [cloud.start(machine) for _ in range(12)]
    return len({cloud.outcome(execution, 30)["output"] for execution in started})


def undeliverable_event(cloud: Cloud) -> Any:
    """The ERROR_CODEs in the dead-letter queue for a deleted queue, and for one that allows no sender."""
    codes = []
    for forbidden in (False, True):
        url, arn = cloud.queue()
        if not forbidden:
            cloud.client("sqs").delete_queue(QueueUrl=url)
        codes.append(_dead_letter_of_a_rule(cloud, arn))
    return codes


def _dead_letter_of_a_rule(cloud: Cloud, target: str) -> str | None:
    events, source, rule = cloud.client("events"), cloud.name("source"), cloud.name("rule")
    dead_url, dead_arn = cloud.queue(Policy=policy("events", "sqs:SendMessage"))
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": target, "DeadLetterConfig": {"Arn": dead_arn}}])
    events.put_events(Entries=[{"Source": source, "DetailType": "d", "Detail": '{"a": 1}'}])
    found = within(1, lambda: messages(cloud, dead_url))
    if not found:
        return None
    assert json.loads(found[0]["Body"])["detail"] == {"a": 1}
    assert found[0]["MessageAttributes"]["TARGET_ARN"]["StringValue"] == target
    return str(found[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"])


def function_settings(cloud: Cloud) -> Any:
    """The concurrency that a template reserves for a function, and its recursive loop detection."""
    name = cloud.name("reserved")
    properties = {
        "FunctionName": name,
        "Role": cloud.role(),
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Code": {"ZipFile": "def handler(event, context): pass"},
        "ReservedConcurrentExecutions": 7,
        "RecursiveLoop": "Allow",
    }
    cloud.stack({"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}})
    functions = cloud.client("lambda")
    reserved = functions.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
    return reserved, functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"]


def saved_query(cloud: Cloud) -> str:
    query = {"Type": "AWS::Logs::QueryDefinition", "Properties": {"Name": "all", "QueryString": "limit 1"}}
    try:
        return cloud.stack({"Query": query})
    except ClientError as refused:
        return str(refused.response["Error"]["Code"])


def kept_queue(cloud: Cloud) -> list[str]:
    """The messages of a queue that a deleted stack kept, after a new stack of the same name was created."""
    cloudformation, name = cloud.client("cloudformation"), cloud.name("s")
    queue = {"Type": "AWS::SQS::Queue", "DeletionPolicy": "Retain"}
    kept = ""
    for _ in range(2):
        cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Queue": queue}}))
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
        if not kept:
            (resource,) = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
            kept = resource["PhysicalResourceId"]
            cloud.client("sqs").send_message(QueueUrl=kept, MessageBody="kept")
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    return bodies(cloud, kept)


def condition_on_the_partition(cloud: Cloud) -> bool:
    """Whether a resource exists whose condition compares the partition with this one."""
    name, queue = cloud.name("s"), cloud.name("q")
    template = {
        "Conditions": {"Here": {"Fn::Equals": [{"Ref": "AWS::Partition"}, "aws"]}},
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue", "Condition": "Here", "Properties": {"QueueName": queue}},
            "Other": {"Type": "AWS::SQS::Queue"},
        },
    }
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    return bool(cloud.client("sqs").list_queues(QueueNamePrefix=queue).get("QueueUrls"))


def table_settings(cloud: Cloud) -> list[str]:
    """Time to live and point-in-time recovery of a table in a template."""
    name, dynamodb = cloud.name("settings"), cloud.client("dynamodb")
    properties = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "expiresAt", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
    cloud.stack({"Table": {"Type": "AWS::DynamoDB::Table", "Properties": properties}})
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    return [
        dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["TimeToLiveStatus"],
        backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
    ]


def bucket_lifecycle(cloud: Cloud) -> Any:
    """The lifecycle rules of a bucket in a template."""
    name = cloud.name("lifecycle")
    rules = [
        {"Id": "old", "Status": "Enabled", "Prefix": "a/", "ExpirationInDays": 90},
        {"Id": "rest", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
    ]
    properties = {"BucketName": name, "LifecycleConfiguration": {"Rules": rules}}
    cloud.stack({"Bucket": {"Type": "AWS::S3::Bucket", "Properties": properties}})
    try:
        found = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    except ClientError as error:
        return error.response["Error"]["Code"]
    return [(one["ID"], one.get("Expiration"), one.get("NoncurrentVersionExpiration")) for one in found]


def partiql_stream(cloud: Cloud) -> list[str]:
    """The stream records of an insert, an update, a delete and a refused duplicate."""
    dynamodb, streams = cloud.client("dynamodb"), cloud.client("dynamodbstreams")
    table, stream = cloud.table()
    insert = {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': ?}}", "Parameters": [{"S": "1"}]}
    dynamodb.batch_execute_statement(Statements=[insert])
    dynamodb.batch_execute_statement(Statements=[insert])
    for statement in ("UPDATE {} SET a='b' WHERE id='1'", "DELETE FROM {} WHERE id='1'"):
        dynamodb.execute_statement(Statement=statement.format(f'"{table}"'))
    shard = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = streams.get_shard_iterator(StreamArn=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return [record["eventName"] for record in records]


def queue_beside_a_busy_stream(cloud: Cloud) -> bool:
    """Whether a queue's mapping delivers while a stream's function is busy (until then, or for 3 s)."""
    table, stream = cloud.table()
    url, arn = cloud.queue()
    seen, _ = cloud.queue(VisibilityTimeout="0")

    def report(word: str) -> str:
        return f"boto3.client('sqs').send_message(QueueUrl={seen!r}, MessageBody={word!r})"

    def attach(source: str, body: str, **start: str) -> None:
        function = cloud.function(body, timeout=20)
        cloud.client("lambda").create_event_source_mapping(EventSourceArn=source, FunctionName=function, **start)

    attach(arn, report("served"))
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="warm-up")
    eventually(lambda: bodies(cloud, seen), "the function is warm", 10)
    busy = (
        f"{report('busy')}\n"
        "names = {'QueueUrl': " + repr(seen) + ", 'AttributeNames': ['ApproximateNumberOfMessages']}\n"
        "count = lambda: int(boto3.client('sqs').get_queue_attributes(**names)['Attributes'][names['AttributeNames'][0]])\n"
        "end = time.monotonic() + 3\n"
        "while count() < 3 and time.monotonic() < end: time.sleep(0.1)\n"
        f"{report('idle')}"
    )
    cloud.client("dynamodb").put_item(TableName=table, Item={"id": {"S": "1"}})
    attach(stream, busy, StartingPosition="TRIM_HORIZON")
    eventually(lambda: "busy" in bodies(cloud, seen), "the stream's function is busy", 10)
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="while the stream is busy")
    eventually(lambda: "idle" in bodies(cloud, seen), "the stream's function has ended", 10)
    words = bodies(cloud, seen)
    return words[: words.index("idle")].count("served") == 2


def stream_failures(cloud: Cloud) -> dict[str, Any]:
    """A batch of three whose second record always fails: what the function got, and what went to the bucket."""
    table, stream = cloud.table()
    bucket = cloud.bucket()
    seen_url, _ = cloud.queue(VisibilityTimeout="0")
    body = (
        "ids = [record['dynamodb']['Keys']['id']['S'] for record in event['Records']]\n"
        f"boto3.client('sqs').send_message(QueueUrl={seen_url!r}, MessageBody=','.join(ids))\n"
        "failed = [r['dynamodb']['SequenceNumber'] for r, i in zip(event['Records'], ids) if i == '2']\n"
        "return {'batchItemFailures': [{'itemIdentifier': number} for number in failed]}"
    )
    for number in "123":
        cloud.client("dynamodb").put_item(TableName=table, Item={"id": {"S": number}})
    cloud.client("lambda").create_event_source_mapping(
        EventSourceArn=stream,
        FunctionName=cloud.function(body),
        StartingPosition="TRIM_HORIZON",
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}},
    )
    keys = within(
        6, lambda: [one["Key"] for one in cloud.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]
    )
    records = []
    if keys:
        lost = json.load(cloud.client("s3").get_object(Bucket=bucket, Key=keys[0])["Body"])
        assert lost["requestContext"]["condition"] == "RetryAttemptsExhausted"
        records = [r["dynamodb"]["Keys"]["id"]["S"] for r in json.loads(lost["payload"])["Records"]]
    return {"seen": bodies(cloud, seen_url), "lost": records}


def evaluated_timeout(cloud: Cloud) -> str:
    """A callback whose time-out is an expression."""
    return end_of(cloud, callback(cloud.function("pass"), TimeoutSeconds="{% 1 %}"))


def scaled_timeout(cloud: Cloud) -> str:
    """A callback with a time-out of a minute, at a hundredth of the time."""
    return end_of(cloud, callback(cloud.function("pass"), TimeoutSeconds=60), 3)


def failed_callback(cloud: Cloud) -> str:
    return end_of(cloud, callback(cloud.function("raise ValueError('no')"), TimeoutSeconds=60), 3)


def tokens_of_two_attempts(cloud: Cloud) -> int:
    """The number of tokens of a callback that timed out once and was retried."""
    function, tokens = token_sender(cloud)
    retry = [{"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds=1, Retry=retry))))
    return len(set(tokens()))


def answers_to_two_machines(cloud: Cloud) -> list[str]:
    """The answers of a function to the tasks of two machines. Its role may answer those of the first."""
    allowed, answers = "", []
    for _ in range(2):
        sender, tokens = token_sender(cloud)
        machine = cloud.machine(callback(sender, TimeoutSeconds=600))
        allowed = allowed or machine
        execution = cloud.start(machine)
        answer = {"taskToken": eventually(tokens, "the token is sent", 10)[0], "output": "{}"}
        answers.append(code_in_function(cloud, SEND_TASK_SUCCESS, answer, ["states:SendTaskSuccess"], allowed))
        code_of(cloud.client("stepfunctions").stop_execution, executionArn=execution)
    return answers


def answer_with_an_unknown_token(cloud: Cloud) -> str:
    """The error of an answer with a token that no machine issued. The role may answer the tasks of one machine."""
    machine = cloud.machine({"Type": "Wait", "Seconds": 1})
    answer = {"taskToken": "t", "output": "{}"}
    return code_in_function(cloud, SEND_TASK_SUCCESS, answer, ["states:SendTaskSuccess"], machine)


def query_of_a_permitted_log(cloud: Cloud) -> str:
    """The error of a query over a log group. The role may query this one only."""
    group = cloud.name()
    cloud.client("logs").create_log_group(logGroupName=group)
    query = {"logGroupNames": [group], "startTime": 0, "endTime": 1, "queryString": "limit 1"}
    permitted = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    return code_in_function(cloud, "logs.start_query", query, ["logs:StartQuery"], permitted)


def description_of_a_permitted_map_run(cloud: Cloud) -> str:
    """The error of a description of a map run that does not exist. The role may describe map runs of this account."""
    run = f"arn:aws:states:{REGION}:{ACCOUNT}:mapRun:machine/map:run"
    permitted = f"arn:aws:states:{REGION}:{ACCOUNT}:mapRun:*"
    asked = {"mapRunArn": run}
    return code_in_function(cloud, "stepfunctions.describe_map_run", asked, ["states:DescribeMapRun"], permitted)


def stopped_execution(cloud: Cloud) -> list[Any]:
    """Whether a stopped execution's token is accepted, and the execution's end after its task's time-out."""
    stepfunctions = cloud.client("stepfunctions")
    function, tokens = token_sender(cloud)
    execution = cloud.start(cloud.machine(callback(function, TimeoutSeconds=1)))
    token = eventually(tokens, "the token is sent", 10)[0]
    stepfunctions.stop_execution(executionArn=execution)
    answer = code_of(stepfunctions.send_task_success, taskToken=token, output="{}")
    # An execution with the same time-out that starts later has timed out: so would this one.
    cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds=1))))
    history = stepfunctions.get_execution_history(executionArn=execution)["events"]
    return [answer, cloud.outcome(execution)["status"], history[-1]["type"]]


def same_name_twice(cloud: Cloud) -> list[str]:
    """Starting a running execution again: with its own input, and with another."""
    start = cloud.client("stepfunctions").start_execution
    request = {"stateMachineArn": cloud.machine({"Type": "Wait", "Seconds": 200}), "name": cloud.name()}
    start(**request, input='{"a": 1}')
    return [code_of(start, **request, input=text) for text in ('{"a": 1}', '{"a": 2}')]


def same_child_twice(cloud: Cloud) -> str:
    """A task that starts an execution whose name is already used."""
    child, name = cloud.machine({"Type": "Pass"}), cloud.name()
    cloud.outcome(cloud.start(child, name=name))
    return end_of(cloud, task(START_AND_WAIT, StateMachineArn=child, Name=name, Input={}))


def total(cloud: Cloud, namespace: str, metric: str, dimensions: dict[str, str]) -> float:
    """The sum of a metric over the last hour."""
    now = time.time()
    answer = cloud.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - 3600,
        EndTime=now + 60,
        Period=7200,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in answer["Datapoints"])


def counted_executions(cloud: Cloud) -> list[float]:
    """The executions of a machine that CloudWatch counts as started and as succeeded."""
    machine = cloud.machine({"Type": "Pass"})
    cloud.outcome(cloud.start(machine))
    names = ("ExecutionsStarted", "ExecutionsSucceeded")
    return [total(cloud, "AWS/States", name, {"StateMachineArn": machine}) for name in names]


def embedded_metric(cloud: Cloud) -> float:
    """The sum of a metric that a function logs in the embedded metric format."""
    namespace = cloud.name("Own")
    directive = {"Namespace": namespace, "Dimensions": [["service"]], "Metrics": [{"Name": "Letters"}]}
    line = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "service": "s", "Letters": [2.0]}
    cloud.client("lambda").invoke(FunctionName=cloud.function(f"print({json.dumps(line)!r})"))
    return float(within(3, lambda: total(cloud, namespace, "Letters", {"service": "s"})) or 0)


def simple_alarm(**more: Any) -> dict[str, Any]:
    """The properties of an alarm on the sum of the metric Own/Letters."""
    common = {"EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}
    metric = {"Namespace": "Own", "MetricName": "Letters", "Statistic": "Sum", "Period": 60}
    return common | (metric if "Metrics" not in more else {}) | {"TreatMissingData": "notBreaching"} | more


def suppressor_of_a_composite_alarm(cloud: Cloud) -> list[Any]:
    """The suppressor of an alarm and its periods, as CloudWatch reports them."""
    alarms, name = cloud.client("cloudwatch"), cloud.name("composite")
    alarms.put_metric_alarm(AlarmName=f"{name}-child", **simple_alarm())
    rule = f'ALARM("{name}-child")'
    periods = {"ActionsSuppressorWaitPeriod": 120, "ActionsSuppressorExtensionPeriod": 300}
    alarms.put_composite_alarm(AlarmName=name, AlarmRule=rule, ActionsSuppressor=f"{name}-child", **periods)
    (found,) = alarms.describe_alarms(AlarmNames=[name], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    return [found.get(one, 0) for one in periods]


def composite_stack(cloud: Cloud) -> str:
    rule = {"Fn::Sub": 'ALARM("${Child}")'}
    resources = {
        "Child": {"Type": "AWS::CloudWatch::Alarm", "Properties": simple_alarm()},
        "Parent": {"Type": "AWS::CloudWatch::CompositeAlarm", "Properties": {"AlarmRule": rule}},
    }
    try:
        return cloud.stack(resources)
    except ClientError as refused:
        return str(refused.response["Error"]["Code"])


def math_stack(cloud: Cloud) -> str:
    stat = {"Stat": "Sum", "Period": 60, "Metric": {"Namespace": "Own", "MetricName": "Letters"}}
    metrics = [{"Id": "all", "Expression": "FILL(one, 0)"}, {"Id": "one", "MetricStat": stat, "ReturnData": False}]
    return cloud.stack({"Sum": {"Type": "AWS::CloudWatch::Alarm", "Properties": simple_alarm(Metrics=metrics)}})


def suppressed_alarm(cloud: Cloud) -> int:
    """Messages of an alarm while its suppressor is in ALARM."""
    cloudwatch = cloud.client("cloudwatch")
    topic, url = subscribed_topic(cloud, "cloudwatch")
    cause, symptom = cloud.name("cause"), cloud.name("symptom")
    for name in (cause, symptom):
        cloudwatch.put_metric_alarm(AlarmName=name, **simple_alarm(TreatMissingData="missing"))
    cloudwatch.put_composite_alarm(
        AlarmName=cloud.name("notifying"),
        AlarmRule=f'ALARM("{symptom}")',
        AlarmActions=[topic],
        ActionsSuppressor=cause,
        ActionsSuppressorWaitPeriod=1,
        ActionsSuppressorExtensionPeriod=1,
    )
    for name in (cause, symptom):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    return len(within(2, lambda: bodies(cloud, url)) or ())


def state_of(cloud: Cloud, alarm: str) -> str:
    found = cloud.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    return str(found[0]["StateValue"]) if found else "no alarm"


def alarm_on_another_dimension(cloud: Cloud) -> list[str]:
    """An alarm's state after a breach of another dimension, after one of its own, and after a while without data."""
    cloudwatch, name, metric = cloud.client("cloudwatch"), cloud.name("alarm"), cloud.name("Letters")
    own, other = ([{"Name": "Stack", "Value": value}] for value in ("own", "other"))

    def put(dimensions: list[dict[str, str]]) -> str:
        cloudwatch.put_metric_data(
            Namespace="Own", MetricData=[{"MetricName": metric, "Dimensions": dimensions, "Value": 1}]
        )
        return state_of(cloud, name)

    cloudwatch.put_metric_alarm(AlarmName=name, **simple_alarm(MetricName=metric, Dimensions=own))
    seen = [put(other), put(own)]
    within(7, lambda: state_of(cloud, name) == "OK")
    return [*seen, state_of(cloud, name)]


def alarm_on_a_condition(cloud: Cloud) -> list[str]:
    """The states of an alarm on work that arrives and is not done: after it arrived, and after it was done."""
    namespace, alarm = cloud.name("Own"), cloud.name("alarm")
    metrics: list[dict[str, Any]] = [
        {"Id": "stopped", "Expression": "IF((FILL(arrived, 0) > 0) AND (FILL(done, 0) == 0), 1, 0)"}
    ]
    for name in ("arrived", "done"):
        stat = {"Stat": "Sum", "Period": 60, "Metric": {"Namespace": namespace, "MetricName": name}}
        metrics.append({"Id": name, "MetricStat": stat, "ReturnData": False})
    properties = simple_alarm(Metrics=metrics, AlarmName=alarm)
    cloud.stack({"Stopped": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}})

    def put(name: str, expected: str) -> str:
        cloud.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[{"MetricName": name, "Value": 1}])
        within(3, lambda: state_of(cloud, alarm) == expected)
        return state_of(cloud, alarm)

    return [put("arrived", "ALARM"), put("done", "OK")]


def alarm_event(cloud: Cloud) -> list[str]:
    """The states in the events of a composite alarm and of its child."""
    cloudwatch, child, parent = cloud.client("cloudwatch"), cloud.name("child"), cloud.name("parent")
    cloudwatch.put_metric_alarm(AlarmName=child, **simple_alarm(TreatMissingData="missing"))
    cloudwatch.put_composite_alarm(AlarmName=parent, AlarmRule=f'ALARM("{child}")')
    url = rule_to_queue(cloud, {"source": ["aws.cloudwatch"], "detail": {"alarmName": [child, parent]}})
    cloudwatch.set_alarm_state(AlarmName=child, StateValue="ALARM", StateReason="a test")
    within(2, lambda: len(bodies(cloud, url)) == 2)
    details = [json.loads(body)["detail"] for body in bodies(cloud, url)]
    return sorted(f"{one['alarmName'].partition('-')[0]} {one['state']['value']}" for one in details)


def rule_to_queue(cloud: Cloud, pattern: dict[str, Any]) -> str:
    """The URL of a queue that receives the events of the default bus that match."""
    url, arn = cloud.queue(Policy=policy("events", "sqs:SendMessage"))
    events, name = cloud.client("events"), cloud.name("rule")
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return url


def received_messages(cloud: Cloud) -> float:
    """The metric of a queue that a mapping reads."""
    url, arn = cloud.queue()
    cloud.client("lambda").create_event_source_mapping(FunctionName=cloud.function("pass"), EventSourceArn=arn)
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    dimensions = {"QueueName": url.rpartition("/")[2]}
    return float(within(5, lambda: total(cloud, "AWS/SQS", "NumberOfMessagesReceived", dimensions)) or 0)


def execution_by_rule(cloud: Cloud) -> list[str | None]:
    """Whether a rule starts an execution with a role that may not, and with one that may: the reason if it does not."""

    def reason(role: str) -> str | None:
        machine = cloud.machine({"Type": "Pass"})
        dead_letters, arn = cloud.queue(Policy=policy("events", "sqs:SendMessage"))
        events, name, source = cloud.client("events"), cloud.name("rule"), cloud.name("source")
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
        target = {"Id": "machine", "Arn": machine, "RoleArn": role, "DeadLetterConfig": {"Arn": arn}}
        events.put_targets(Rule=name, Targets=[target])
        events.put_events(Entries=[{"Source": source, "DetailType": "test", "Detail": "{}"}])
        list_executions = cloud.client("stepfunctions").list_executions
        if within(2, lambda: list_executions(stateMachineArn=machine)["executions"]):
            return "started"
        found = messages(cloud, dead_letters)
        return str(found[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"]) if found else None

    return [reason(cloud.role(())), reason(cloud.role())]


def mapping_changed_by_a_task(cloud: Cloud) -> list[str]:
    """The end of an execution that disables a mapping without and with the permission, and the mapping's state."""
    _, arn = cloud.queue()
    mappings = cloud.client("lambda")
    created = mappings.create_event_source_mapping(FunctionName=cloud.function("pass"), EventSourceArn=arn)
    state = task("arn:aws:states:::aws-sdk:lambda:updateEventSourceMapping", Uuid=created["UUID"], Enabled=False)
    ends = [end_of(cloud, state, role=role) for role in (cloud.role(()), cloud.role())]
    return [*ends, mappings.get_event_source_mapping(UUID=created["UUID"])["State"].replace("Disabling", "Disabled")]


def event_of_a_task(cloud: Cloud) -> list[str]:
    """The end of an execution that publishes without and with the permission, and the details of its events."""
    source = cloud.name("source")
    url = rule_to_queue(cloud, {"source": [source], "detail": {"a": [1]}})
    entry = {"EventBusName": "default", "Source": source, "DetailType": "test", "Detail": {"a": 1}}
    state = task("arn:aws:states:::events:putEvents", Entries=[entry])
    ends = [end_of(cloud, state, role=role) for role in (cloud.role(()), cloud.role())]
    return [*ends, *(json.dumps(json.loads(body)["detail"]) for body in bodies(cloud, url))]


def item_of_a_task(cloud: Cloud) -> list[str]:
    """How a task ends that writes an item without and with the permission, and the item's key."""
    dynamodb, table = cloud.client("dynamodb"), cloud.name()
    dynamodb.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put = task("arn:aws:states:::aws-sdk:dynamodb:putItem", TableName=table, Item={"k": {"S": "a"}})
    refused = end_of(cloud, put, role=cloud.role(()))
    written = end_of(cloud, put, role=cloud.role(("dynamodb:PutItem",)))
    return [refused, written, dynamodb.scan(TableName=table)["Items"][0]["k"]["S"]]


def query_of_json_lines(cloud: Cloud) -> list[list[str]]:
    """The rows of a query that counts JSON log lines by one of their fields."""
    logs, group = cloud.client("logs"), cloud.name()
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    lines = ({"message": "verdict", "kind": "a"}, {"message": "verdict", "kind": "a"}, {"message": "other"})
    at = int(time.time() * 1000)
    events = [{"timestamp": at, "message": json.dumps(line)} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    text = "fields kind | filter message = 'verdict' and kind != 'b' | stats count(*) as lines, latest(none) as last by kind | limit 2"
    started = logs.start_query(logGroupName=group, startTime=0, endTime=at // 1000 + 1, queryString=text)
    found = logs.get_query_results(queryId=started["queryId"])["results"]
    return [[field["value"] for field in row if field["field"] != "@ptr"] for row in found]


#: The patch, the scenario, what the plain engine does, and what AWS does.
SCENARIOS: list[tuple[str, Callable[[Cloud], Any], Any, Any]] = [
    ("publish_execution_metrics", counted_executions, [0, 0], [1, 1]),
    ("extract_embedded_metrics", embedded_metric, 0, 2),
    ("deploy_composite_alarms", composite_stack, "ValidationError", "CREATE_COMPLETE"),
    ("deploy_alarms_on_metric_math", math_stack, "ROLLBACK_COMPLETE", "CREATE_COMPLETE"),
    ("evaluate_alarms", alarm_on_another_dimension, ["ALARM"] * 3, ["OK", "ALARM", "OK"]),
    ("evaluate_alarms", alarm_on_a_condition, ["no alarm"] * 2, ["ALARM", "OK"]),
    ("run_alarm_actions", suppressed_alarm, 1, 0),
    ("run_alarm_actions", suppressor_of_a_composite_alarm, [0, 0], [120, 300]),
    ("run_alarm_actions", alarm_without_permission, [1, 1], [0, 1]),
    ("run_alarm_actions", alarm_event, [], ["child ALARM", "parent ALARM"]),
    ("count_received_messages", received_messages, 0, 1),
    ("report_error_classes", error_types, ["Runtime.HandlerError"] * 2, ["BufferFull", "Runtime.ExitError"]),
    (
        "report_error_classes",
        failed_start,
        ["RuntimeError", False, "RuntimeError", False, "RuntimeError", False],
        ["Runtime.ImportModuleError", True, "LookupError", True, "Runtime.ExitError", True],
    ),
    ("count_invocations", counted_invocations, [0, 0, 6, 6], [1, 1, 0, 3]),
    ("add_source_of_dead_letters", source_of_a_dead_letter, False, True),
    ("count_concurrent_invocations", peak, None, 1),
    ("limit_message_size", oversized_messages, ["OK", "OK"], ["InvalidParameterValue"] * 2),
    ("name_permissions_as_aws", batch_permissions, "AccessDenied", "OK"),
    (
        "name_permissions_as_aws",
        answers_to_two_machines,
        ["AccessDeniedException"] * 2,
        ["OK", "AccessDeniedException"],
    ),
    ("name_permissions_as_aws", answer_with_an_unknown_token, "AccessDeniedException", "TaskDoesNotExist"),
    ("name_permissions_as_aws", query_of_a_permitted_log, "AccessDeniedException", "OK"),
    ("name_permissions_as_aws", description_of_a_permitted_map_run, "AccessDeniedException", "ResourceNotFound"),
    (
        "name_permissions_as_aws",
        mapping_permissions,
        ["AccessDeniedException", "OK", "OK"],
        ["OK", "OK", "AccessDeniedException"],
    ),
    ("check_partiql_permissions", partiql_permissions, ["AccessDeniedException"] * 2, ["OK", "AccessDeniedException"]),
    ("hide_missing_objects", missing_object, ["NoSuchKey"] * 2, ["AccessDenied", "NoSuchKey"]),
    ("treat_loopback_as_tls", denial_of_plain_transport, "AccessDenied", "OK"),
    ("check_role_of_function_logs", logging_without_permission, [True, True], [False, True]),
    (
        "send_undeliverable_events_to_the_dead_letter_queue",
        undeliverable_event,
        [None, None],
        ["NO_RESOURCE", "NO_PERMISSIONS"],
    ),
    (
        "send_undeliverable_events_to_the_dead_letter_queue",
        execution_by_rule,
        ["started", "started"],
        ["NO_PERMISSIONS", "started"],
    ),
    ("accept_saved_queries", saved_query, "ValidationError", "CREATE_COMPLETE"),
    ("name_resources_of_each_stack", kept_queue, [], ["kept"]),
    ("create_mappings", mapping_number_as_text, False, True),
    ("create_mappings", mapping_without_permission, "CREATE_COMPLETE", "ROLLBACK_COMPLETE"),
    ("create_mappings", mapping_to_a_bucket_without_permission, "OK", "InvalidParameterValueException"),
    (
        "pause_mappings",
        paused_mapping,
        ["Disabled", "OK", "Enabled"],
        ["Disabling", "ResourceInUseException", "Disabled"],
    ),
    ("resolve_pseudo_parameters_in_conditions", condition_on_the_partition, False, True),
    ("apply_function_settings", function_settings, (None, "Terminate"), (7, "Allow")),
    ("apply_table_settings", table_settings, ["DISABLED"] * 2, ["ENABLED"] * 2),
    (
        "apply_lifecycle",
        bucket_lifecycle,
        "NoSuchLifecycleConfiguration",
        [("old", {"Days": 90}, None), ("rest", None, {"NoncurrentDays": 30})],
    ),
    ("record_partiql_writes", partiql_stream, [], ["INSERT", "MODIFY", "REMOVE"]),
    ("poll_streams_beside_queues", queue_beside_a_busy_stream, False, True),
    (
        "retry_from_the_first_failure, write_failures_to_a_bucket",
        stream_failures,
        {"seen": ["1,2,3"], "lost": []},
        {"seen": ["1,2,3", "2,3"], "lost": ["2", "3"]},
    ),
    ("execute_tasks", evaluated_timeout, "States.Runtime", "States.Timeout"),
    ("call_functions", machine_without_permission, "SUCCEEDED", "Lambda.AWSLambdaException"),
    ("call_functions", oversized_result, "SUCCEEDED", "States.DataLimitExceeded"),
    ("call_functions", throttled_task, "Lambda.Unknown", "Lambda.TooManyRequestsException"),
    ("call_functions", failed_callback, "RUNNING", "ValueError"),
    ("call_functions", workers_of_executions, 12, 4),
    ("wait_for_callbacks", scaled_timeout, "RUNNING", "States.Timeout"),
    ("wait_for_callbacks", tokens_of_two_attempts, 1, 2),
    (
        "stop_executions",
        stopped_execution,
        ["OK", "ABORTED", "TaskStateExited"],
        ["TaskDoesNotExist", "ABORTED", "ExecutionAborted"],
    ),
    ("reuse_execution_names", same_name_twice, ["ExecutionAlreadyExists"] * 2, ["OK", "ExecutionAlreadyExists"]),
    ("reuse_execution_names", same_child_twice, "SUCCEEDED", "StepFunctions.ExecutionAlreadyExistsException"),
    ("check_role_of_nested_executions", waiting_without_permission, "OK", "AccessDeniedException"),
    (
        "change_mappings",
        mapping_changed_by_a_task,
        ["States.Runtime", "States.Runtime", "Enabled"],
        ["Lambda.AccessDeniedException", "SUCCEEDED", "Disabled"],
    ),
    (
        "publish_from_tasks",
        event_of_a_task,
        ["SUCCEEDED", "SUCCEEDED", '{"a": 1}', '{"a": 1}'],
        ["Events.AccessDeniedException", "SUCCEEDED", '{"a": 1}'],
    ),
    (
        "write_items_from_tasks",
        item_of_a_task,
        ["SUCCEEDED", "SUCCEEDED", "a"],
        ["DynamoDb.AccessDeniedException", "SUCCEEDED", "a"],
    ),
    ("query_structured_logs", query_of_json_lines, [[""], [""]], [["a", "2"]]),
    ("check_role_of_distributed_maps", map_without_permission, ["SUCCEEDED"] * 3, ["FAILED", "FAILED", "SUCCEEDED"]),
]


def test_every_patch_has_a_scenario() -> None:
    assert {name for names, *_ in SCENARIOS for name in names.split(", ")} == {patch.__name__ for patch in PATCHES}


@pytest.mark.parametrize("engine", ["plain", "patched"])
@pytest.mark.parametrize(
    ("patches", "scenario", "gap", "aws"), SCENARIOS, ids=[scenario.__name__ for _, scenario, _, _ in SCENARIOS]
)
def test_the_plain_engine_has_the_gap_and_the_patched_engine_does_what_aws_does(
    request: pytest.FixtureRequest, engine: str, patches: str, scenario: Callable[[Cloud], Any], gap: Any, aws: Any
) -> None:
    found = scenario(request.getfixturevalue(engine))
    advice = f"AWS returns {aws}. If the plain engine does too, delete the patch {patches}."
    assert found == (gap if engine == "plain" else aws), advice


def test_a_function_that_cannot_start_turns_an_alarm_on_its_errors(patched: Cloud) -> None:
    alarm, function = patched.name("alarm"), patched.function("pass", first="import no_such_module")
    errors = {"Namespace": "AWS/Lambda", "MetricName": "Errors"}
    dimensions = [{"Name": "FunctionName", "Value": function}]
    properties = simple_alarm() | errors | {"Dimensions": dimensions}
    patched.client("cloudwatch").put_metric_alarm(AlarmName=alarm, **properties)
    url, arn = patched.queue()
    patched.client("lambda").create_event_source_mapping(EventSourceArn=arn, FunctionName=function)
    patched.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    eventually(lambda: state_of(patched, alarm) == "ALARM", "the alarm is in ALARM", 10)


def test_an_update_of_a_stack_leaves_a_disabled_mapping_disabled(patched: Cloud) -> None:
    """Until it is enabled again, nothing is received."""
    url, arn = patched.queue()
    properties = {"EventSourceArn": arn, "FunctionName": patched.function("pass")}

    def template(batch_size: int) -> str:
        mapping = {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {**properties, "BatchSize": batch_size}}
        return json.dumps({"Resources": {"Mapping": mapping}})

    cloudformation, mappings, name = patched.client("cloudformation"), patched.client("lambda"), patched.name("s")
    cloudformation.create_stack(StackName=name, TemplateBody=template(1))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    (resource,) = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    mapping = {"UUID": resource["PhysicalResourceId"]}

    def state() -> str:
        return str(mappings.get_event_source_mapping(**mapping)["State"])

    def left() -> str:
        answer = patched.client("sqs").get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return str(answer["Attributes"]["ApproximateNumberOfMessages"])

    mappings.update_event_source_mapping(**mapping, Enabled=False)
    eventually(lambda: state() == "Disabled", "the mapping is disabled", 5)
    cloudformation.update_stack(StackName=name, TemplateBody=template(2))
    cloudformation.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    found = mappings.get_event_source_mapping(**mapping)
    assert (found["State"], found["BatchSize"]) == ("Disabled", 2)
    patched.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    assert within(2, lambda: left() == "0") is None

    mappings.update_event_source_mapping(**mapping, Enabled=True)
    eventually(lambda: left() == "0", "the message is received", 10)
