"""Every bridge closes a gap that is really there.

Each gap has one scenario. It runs on the plain engine, where it must show the gap, and on the bridged one, where it must
behave as AWS does. When the first of the two fails, a newer engine has closed the gap itself and the bridge can go.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local.engine_patches import BRIDGES
from tests.integration.cloud import EVERYTHING, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.cloud import Cloud

CALLBACK = "arn:aws:states:::lambda:invoke.waitForTaskToken"
INVOKE = "arn:aws:states:::lambda:invoke"
TOKEN = {"token": "{% $states.context.Task.Token %}"}


def callback(function: str, **more: Any) -> dict[str, Any]:
    """A task that waits for its token."""
    return {"Type": "Task", "Resource": CALLBACK, "Arguments": {"FunctionName": function, "Payload": TOKEN}} | more


def noting(cloud: Cloud) -> tuple[str, Callable[[], list[str]]]:
    """A function that sends the token it was given to a queue, and what reads the tokens from there."""
    url, _ = cloud.queue(VisibilityTimeout="0")
    body = f"boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody=event['token'])"
    return cloud.function(body), lambda: bodies(cloud, url)


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
    names = []
    for body in ("class BufferFull(Exception): pass\nraise BufferFull('why')", "os._exit(1)"):
        answer = cloud.client("lambda").invoke(FunctionName=cloud.function(body))
        names.append(json.load(answer["Payload"])["errorType"])
    return names


def source_of_a_dead_letter(cloud: Cloud) -> Any:
    """Whether a record from a dead-letter queue says which queue it came from."""
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
    seen = eventually(lambda: bodies(cloud, seen_url))
    return json.loads(seen[0]).get("DeadLetterQueueSourceArn") == source_arn


def peak(cloud: Cloud) -> Any:
    """Whether the engine can tell the most invocations at once."""
    function = cloud.function("return 1")
    cloud.client("lambda").invoke(FunctionName=function)
    try:
        return cloud.engine.concurrency().get("peak", {}).get(function)
    except OSError:
        return None


def partiql_permissions(cloud: Cloud) -> list[str]:
    """Whether a role with AWS's permission may insert, and may delete without it."""
    table, _ = cloud.table()
    role = cloud.role(("dynamodb:PartiQLInsert",))
    answers = []
    for statement in ("INSERT INTO {} VALUE {{'id': '1'}}", "DELETE FROM {} WHERE id='1'"):
        request = {"Statement": statement.format(f'"{table}"')}
        body = f"boto3.client('dynamodb').batch_execute_statement(Statements=[{request!r}])\nreturn 'done'"
        answer = cloud.client("lambda").invoke(FunctionName=cloud.function(body, role=role))["Payload"].read().decode()
        answers.append("denied" if "not authorized to perform" in answer else answer)
    return answers


def batch_permissions(cloud: Cloud) -> str:
    """Whether a role that may send a message may send ten."""
    url, _ = cloud.queue()
    request = {"QueueUrl": url, "Entries": [{"Id": "1", "MessageBody": "x"}]}
    body = f"boto3.client('sqs').send_message_batch(**{request!r})\nreturn 'done'"
    function = cloud.function(body, role=cloud.role(("sqs:SendMessage",)))
    answer: str = cloud.client("lambda").invoke(FunctionName=function)["Payload"].read().decode()
    return "denied" if "not authorized to perform" in answer else answer


def denial_of_plain_transport(cloud: Cloud) -> str:
    """What a queue answers whose policy denies calls without TLS."""
    url, arn = cloud.queue()
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn, "Condition": condition}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    try:
        cloud.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    except ClientError as err:
        return str(err.response["Error"]["Code"])
    return "OK"


def mapping_number_as_text(cloud: Cloud) -> bool:
    """Whether a mapping delivers whose concurrency the template gives as text, as a parameter does."""
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
    delivered = False
    for _ in range(20):
        time.sleep(0.2)
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]
        delivered = all(found[count] == "0" for count in counts)
        if delivered:
            break
    # On the plain engine it would stop the poller for every other mapping, too.
    for mapping in functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]:
        functions.delete_event_source_mapping(UUID=mapping["UUID"])
    return delivered


def mapping_without_permission(cloud: Cloud) -> str:
    """A stack whose function may not read the queue it is mapped to."""
    _, arn = cloud.queue()
    function = cloud.function("pass", role=cloud.role(()))
    return cloud.stack(
        {
            "Mapping": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {"EventSourceArn": arn, "FunctionName": function},
            }
        }
    )


def mapping_to_a_bucket_without_permission(cloud: Cloud) -> str:
    """A mapping whose function may read the stream, and may not write to the bucket behind it."""
    actions = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    role = cloud.role(tuple(f"dynamodb:{action}" for action in actions))
    try:
        cloud.client("lambda").create_event_source_mapping(
            EventSourceArn=cloud.table()[1],
            FunctionName=cloud.function("pass", role=role),
            StartingPosition="LATEST",
            DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::a-bucket"}},
        )
    except ClientError as err:
        return str(err.response["Error"]["Code"])
    return "OK"


def missing_object(cloud: Cloud) -> list[str]:
    """What a role that may read is told of a missing object, without and with the permission to list."""
    bucket = cloud.name()
    cloud.client("s3").create_bucket(Bucket=bucket)
    request = {"Bucket": bucket, "Key": "a=b/none"}
    body = f"""try:
    boto3.client('s3').get_object(**{request!r})
except Exception as err:
    return err.response['Error']['Code']"""
    answers = []
    for actions in (("s3:GetObject",), ("s3:GetObject", "s3:ListBucket")):
        function = cloud.function(body, role=cloud.role(actions))
        answers.append(json.load(cloud.client("lambda").invoke(FunctionName=function)["Payload"]))
    return answers


def logging_without_permission(cloud: Cloud) -> list[bool]:
    """Whether what a function prints is logged, without and with the permission."""
    logged = []
    for actions in ((), EVERYTHING):
        function = cloud.function("print('x')", role=cloud.role(actions))
        cloud.client("lambda").invoke(FunctionName=function)
        found = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function}")
        logged.append(bool(found["logGroups"]))
    return logged


def alarm_without_permission(cloud: Cloud) -> list[int]:
    """How many messages an alarm brings whose topic does not let CloudWatch in, and one whose topic does."""
    sqs, topics = cloud.client("sqs"), cloud.client("sns")
    url, arn = cloud.queue()
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy("sns", "sqs:SendMessage", arn)})
    told = []
    for service in ("events", "cloudwatch"):
        topic = topics.create_topic(Name=cloud.name())["TopicArn"]
        text = policy(service, "sns:Publish", topic)
        topics.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=text)
        topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        alarm = {"AlarmName": cloud.name(), "MetricName": "m", "Namespace": "n", "Statistic": "Sum", "Period": 60}
        bounds = {"EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
        cloud.client("cloudwatch").put_metric_alarm(**alarm, **bounds, AlarmActions=[topic])
        cloud.client("cloudwatch").set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="ALARM", StateReason="r")
        told.append(len(bodies(cloud, url)))
        sqs.purge_queue(QueueUrl=url)
    return told


def policy(service: str, action: str, resource: str) -> str:
    """The policy of a resource that lets one service do one thing."""
    who = {"Service": f"{service}.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": who, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def map_without_permission(cloud: Cloud) -> list[str]:
    """A Distributed Map that may not list its bucket, one that may not start its children, and one that may both."""
    bucket = cloud.name()
    cloud.client("s3").create_bucket(Bucket=bucket)
    reader = {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": {"Bucket": bucket}}
    child = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Done",
        "States": {"Done": {"Type": "Succeed"}},
    }
    state = {"Type": "Map", "QueryLanguage": "JSONPath", "ItemReader": reader, "ItemProcessor": child}
    statuses = []
    for actions in (("states:StartExecution",), ("s3:ListBucket",), ("states:StartExecution", "s3:ListBucket")):
        machine = cloud.machine(state, role=cloud.role(actions))
        statuses.append(cloud.outcome(cloud.start(machine))["status"])
    return statuses


def waiting_without_permission(cloud: Cloud) -> str:
    """A machine that waits for executions and may not manage the rule that tells of their end."""
    arguments = {"StateMachineArn": cloud.machine({"Type": "Pass"})}
    task = {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "Arguments": arguments}
    try:
        cloud.machine(task, role=cloud.role(("states:StartExecution",)))
    except ClientError as err:
        return str(err.response["Error"]["Code"])
    return "OK"


def machine_without_permission(cloud: Cloud) -> Any:
    """A state machine that may not invoke its function."""
    task = {"Type": "Task", "Resource": INVOKE, "Arguments": {"FunctionName": cloud.function("return 1")}}
    outcome = cloud.outcome(cloud.start(cloud.machine(task, role=cloud.role(()))))
    return outcome.get("error", outcome["status"])


def oversized_messages(cloud: Cloud) -> list[str]:
    """What SQS answers to eleven attributes, and to an attribute on top of a body of 1 MiB."""
    url, _ = cloud.queue()
    attribute = {"DataType": "String", "StringValue": "x"}
    answers = []
    for body, count in (("x", 11), ("x" * 1_048_576, 1)):
        attributes = {f"a{number}": attribute for number in range(count)}
        try:
            cloud.client("sqs").send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)
            answers.append("OK")
        except ClientError as err:
            answers.append(err.response["Error"]["Code"])
    return answers


def oversized_result(cloud: Cloud) -> Any:
    """A task whose function answers with more than a state may hold."""
    task = {"Type": "Task", "Resource": INVOKE, "Arguments": {"FunctionName": cloud.function("return 'x' * 262_143")}}
    outcome = cloud.outcome(cloud.start(cloud.machine(task)))
    return outcome.get("error", outcome["status"])


def throttled_task(cloud: Cloud) -> Any:
    """A task whose function has no concurrency."""
    function = cloud.function("return 1")
    cloud.client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    task = {"Type": "Task", "Resource": INVOKE, "Arguments": {"FunctionName": function}}
    return cloud.outcome(cloud.start(cloud.machine(task)))["error"]


def workers_of_executions(cloud: Cloud) -> int:
    """How many processes work for twelve executions at once."""
    function = cloud.function("time.sleep(0.5)\nreturn os.getpid()")
    task = {"Type": "Task", "Resource": INVOKE, "Arguments": {"FunctionName": function}}
    machine = cloud.machine(task | {"Output": "{% $states.result.Payload %}"})
    started = [cloud.start(machine) for _ in range(12)]
    return len({cloud.outcome(execution, 30)["output"] for execution in started})


def undeliverable_event(cloud: Cloud) -> Any:
    """The ERROR_CODEs in the dead-letter queue for a queue that is gone, and for one that lets nobody in."""
    codes = []
    for forbidden in (False, True):
        url, arn = cloud.queue()
        if not forbidden:
            cloud.client("sqs").delete_queue(QueueUrl=url)
        codes.append(_dead_letter_of_a_rule(cloud, arn))
    return codes


def _dead_letter_of_a_rule(cloud: Cloud, target: str) -> str | None:
    events, sqs = cloud.client("events"), cloud.client("sqs")
    dead_url, dead_arn = cloud.queue()
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": dead_arn}]}
    sqs.set_queue_attributes(QueueUrl=dead_url, Attributes={"Policy": json.dumps(policy)})
    source = cloud.name("source")
    rule = cloud.name("rule")
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": target, "DeadLetterConfig": {"Arn": dead_arn}}])
    events.put_events(Entries=[{"Source": source, "DetailType": "d", "Detail": '{"a": 1}'}])
    found = eventually(lambda: messages(cloud, dead_url), 1)
    if not found:
        return None
    assert json.loads(found[0]["Body"])["detail"] == {"a": 1}
    assert found[0]["MessageAttributes"]["TARGET_ARN"]["StringValue"] == target
    return str(found[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"])


def reserved_concurrency(cloud: Cloud) -> Any:
    """What a template reserves for a function."""
    name = cloud.name("reserved")
    cloud.stack(
        {
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": name,
                    "Role": cloud.role(),
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Code": {"ZipFile": "def handler(event, context): pass"},
                    "ReservedConcurrentExecutions": 7,
                },
            }
        }
    )
    answer = cloud.client("lambda").get_function_concurrency(FunctionName=name)
    return answer.get("ReservedConcurrentExecutions")


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
    """Whether the mapping of a queue works while a stream's function is busy; it is busy until then, or for 3 s."""
    table, stream = cloud.table()
    url, arn = cloud.queue()
    told, _ = cloud.queue(VisibilityTimeout="0")

    def tell(word: str) -> str:
        return f"boto3.client('sqs').send_message(QueueUrl={told!r}, MessageBody={word!r})"

    def attach(source: str, body: str, **start: str) -> None:
        function = cloud.function(body, timeout=20)
        cloud.client("lambda").create_event_source_mapping(EventSourceArn=source, FunctionName=function, **start)

    attach(arn, tell("served"))
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="so that the function is warm")
    assert eventually(lambda: bodies(cloud, told))
    busy = (
        f"{tell('busy')}\n"
        "names = {'QueueUrl': " + repr(told) + ", 'AttributeNames': ['ApproximateNumberOfMessages']}\n"
        "count = lambda: int(boto3.client('sqs').get_queue_attributes(**names)['Attributes'][names['AttributeNames'][0]])\n"
        "end = time.monotonic() + 3\n"
        "while count() < 3 and time.monotonic() < end: time.sleep(0.1)\n"
        f"{tell('idle')}"
    )
    cloud.client("dynamodb").put_item(TableName=table, Item={"id": {"S": "1"}})
    attach(stream, busy, StartingPosition="TRIM_HORIZON")
    assert eventually(lambda: "busy" in bodies(cloud, told))
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="while the stream is busy")
    assert eventually(lambda: "idle" in bodies(cloud, told))
    return bodies(cloud, told).count("served") == 2


def stream_failures(cloud: Cloud) -> dict[str, Any]:
    """A batch of three of which the second always fails: what the function saw, and what went to the bucket."""
    table, stream = cloud.table()
    bucket = cloud.name("bucket")
    cloud.client("s3").create_bucket(Bucket=bucket)
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
    keys = eventually(
        lambda: [o["Key"] for o in cloud.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])], 6
    )
    records = []
    if keys:
        lost = json.load(cloud.client("s3").get_object(Bucket=bucket, Key=keys[0])["Body"])
        assert lost["requestContext"]["condition"] == "RetryAttemptsExhausted"
        records = [r["dynamodb"]["Keys"]["id"]["S"] for r in json.loads(lost["payload"])["Records"]]
    return {"seen": bodies(cloud, seen_url), "lost": records}


def evaluated_timeout(cloud: Cloud) -> Any:
    """A callback whose time-out is an expression."""
    function, _ = noting(cloud)
    outcome = cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds="{% 1 %}"))))
    return outcome.get("error")


def scaled_timeout(cloud: Cloud) -> str:
    """A callback that nobody answers within a minute, at a hundredth of the time."""
    function, _ = noting(cloud)
    return str(cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds=60))), 3)["status"])


def failed_callback(cloud: Cloud) -> Any:
    """A callback whose function fails."""
    function = cloud.function("raise ValueError('no')")
    outcome = cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds=60))), 3)
    return outcome.get("error", outcome["status"])


def tokens_of_two_attempts(cloud: Cloud) -> int:
    """How many tokens a callback used that timed out once and was retried."""
    function, tokens = noting(cloud)
    retry = [{"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    cloud.outcome(cloud.start(cloud.machine(callback(function, TimeoutSeconds=1, Retry=retry))))
    return len(set(tokens()))


def stopped_execution(cloud: Cloud) -> list[Any]:
    """What the token of a stopped execution answers, and what the execution is after its task's time-out."""
    stepfunctions = cloud.client("stepfunctions")
    function, tokens = noting(cloud)
    execution = cloud.start(cloud.machine(callback(function, TimeoutSeconds=1)))
    token = eventually(tokens)[0]
    stepfunctions.stop_execution(executionArn=execution)
    try:
        stepfunctions.send_task_success(taskToken=token, output="{}")
        answer = "OK"
    except ClientError as err:
        answer = err.response["Error"]["Code"]
    time.sleep(1.2)
    history = stepfunctions.get_execution_history(executionArn=execution)["events"]
    return [answer, cloud.outcome(execution)["status"], history[-1]["type"]]


def same_name_twice(cloud: Cloud) -> list[str]:
    """What starting a running execution again answers: with its own input, and with another."""
    machine = cloud.machine({"Type": "Wait", "Seconds": 200})
    name = cloud.name()
    first = cloud.start(machine, name=name, input='{"a": 1}')
    answers = []
    for text in ('{"a": 1}', '{"a": 2}'):
        try:
            answers.append("same" if cloud.start(machine, name=name, input=text) == first else "another")
        except ClientError as err:
            answers.append(err.response["Error"]["Code"])
    return answers


def same_child_twice(cloud: Cloud) -> Any:
    """What a task answers that starts an execution whose name is used up."""
    child = cloud.machine({"Type": "Pass"})
    arguments = {"StateMachineArn": child, "Name": cloud.name(), "Input": {}}
    cloud.outcome(cloud.start(child, name=arguments["Name"]))
    task = {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "Arguments": arguments}
    outcome = cloud.outcome(cloud.start(cloud.machine(task)))
    return outcome.get("error", outcome["status"])


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
    """The sum of what a function has written in the embedded metric format."""
    namespace = cloud.name("Own")
    directive = {"Namespace": namespace, "Dimensions": [["service"]], "Metrics": [{"Name": "Letters"}]}
    line = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "service": "s", "Letters": [2.0]}
    cloud.client("lambda").invoke(FunctionName=cloud.function(f"print({json.dumps(line)!r})"))
    return float(eventually(lambda: total(cloud, namespace, "Letters", {"service": "s"}), seconds=3) or 0)


def simple_alarm(**more: Any) -> dict[str, Any]:
    """The properties of an alarm on the sum of the metric Own/Letters."""
    common = {"EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}
    metric = {"Namespace": "Own", "MetricName": "Letters", "Statistic": "Sum", "Period": 60}
    return common | (metric if "Metrics" not in more else {}) | {"TreatMissingData": "notBreaching"} | more


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


def let_sns_send(cloud: Cloud, url: str, arn: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def suppressed_alarm(cloud: Cloud) -> int:
    """How often an alarm notifies whose suppressor is in ALARM."""
    cloudwatch, sns = cloud.client("cloudwatch"), cloud.client("sns")
    url, arn = cloud.queue()
    topic = sns.create_topic(Name=cloud.name())["TopicArn"]
    let_sns_send(cloud, url, arn)
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    cause, sign, told = cloud.name("cause"), cloud.name("sign"), cloud.name("told")
    for name in (cause, sign):
        cloudwatch.put_metric_alarm(AlarmName=name, **simple_alarm(TreatMissingData="missing"))
    cloudwatch.put_composite_alarm(
        AlarmName=told,
        AlarmRule=f'ALARM("{sign}")',
        AlarmActions=[topic],
        ActionsSuppressor=cause,
        ActionsSuppressorWaitPeriod=1,
        ActionsSuppressorExtensionPeriod=1,
    )
    for name in (cause, sign):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    return len(eventually(lambda: bodies(cloud, url), seconds=2))


def alarm_on_another_dimension(cloud: Cloud) -> list[str]:
    """An alarm's state after a breach of its own and then of another's dimension, and again after a while of silence."""
    cloudwatch, name, metric = cloud.client("cloudwatch"), cloud.name("alarm"), cloud.name("Letters")
    own, other = ([{"Name": "Stack", "Value": value}] for value in ("own", "other"))

    def put(dimensions: list[dict[str, str]]) -> str:
        cloudwatch.put_metric_data(
            Namespace="Own", MetricData=[{"MetricName": metric, "Dimensions": dimensions, "Value": 1}]
        )
        return state()

    def state() -> str:
        return str(cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"])

    cloudwatch.put_metric_alarm(AlarmName=name, **simple_alarm(MetricName=metric, Dimensions=own))
    seen = [put(other), put(own)]
    eventually(lambda: state() == "OK", seconds=7)
    return [*seen, state()]


SCENARIOS: dict[str, tuple[Callable[[Cloud], Any], Any, Any]] = {
    "name_errors_by_their_class": (error_types, ["Runtime.HandlerError"] * 2, ["BufferFull", "Runtime.ExitError"]),
    "tell_source_queue_of_dead_letters": (source_of_a_dead_letter, False, True),
    "count_concurrent_invocations": (peak, None, 1),
    "ask_for_partiql_permissions": (partiql_permissions, ["denied", "denied"], ['"done"', "denied"]),
    "ask_for_single_message_permissions": (batch_permissions, "denied", '"done"'),
    "count_the_loopback_as_tls": (denial_of_plain_transport, "AccessDenied", "OK"),
    "read_numbers_of_mappings": (mapping_number_as_text, False, True),
    "tell_of_missing_objects_only_who_may_list": (missing_object, ["NoSuchKey"] * 2, ["AccessDenied", "NoSuchKey"]),
    "let_mappings_read_only_with_their_role": (
        lambda cloud: [mapping_without_permission(cloud), mapping_to_a_bucket_without_permission(cloud)],
        ["CREATE_COMPLETE", "OK"],
        ["ROLLBACK_COMPLETE", "InvalidParameterValueException"],
    ),
    "let_distributed_maps_run_only_with_their_role": (
        map_without_permission,
        ["SUCCEEDED"] * 3,
        ["FAILED", "FAILED", "SUCCEEDED"],
    ),
    "let_state_machines_wait_only_with_their_role": (waiting_without_permission, "OK", "AccessDeniedException"),
    "let_alarms_publish_only_where_they_may": (alarm_without_permission, [1, 1], [0, 1]),
    "let_functions_log_only_with_their_role": (logging_without_permission, [True, True], [False, True]),
    "let_state_machines_act_only_with_their_role": (
        machine_without_permission,
        "SUCCEEDED",
        "Lambda.AWSLambdaException",
    ),
    "limit_what_a_message_holds": (oversized_messages, ["OK", "OK"], ["InvalidParameterValue"] * 2),
    "limit_what_a_state_holds": (oversized_result, "SUCCEEDED", "States.DataLimitExceeded"),
    "name_throttling": (throttled_task, "Lambda.Unknown", "Lambda.TooManyRequestsException"),
    "send_undeliverable_events_to_the_dead_letter_queue": (
        undeliverable_event,
        [None, None],
        ["NO_RESOURCE", "NO_PERMISSIONS"],
    ),
    "apply_reserved_concurrency": (reserved_concurrency, None, 7),
    "record_partiql_writes": (partiql_stream, [], ["INSERT", "MODIFY", "REMOVE"]),
    "read_streams_beside_the_queues": (queue_beside_a_busy_stream, False, True),
    "resume_at_the_first_failure": (
        stream_failures,
        {"seen": ["1,2,3"], "lost": []},
        {"seen": ["1,2,3", "2,3"], "lost": ["2", "3"]},
    ),
    "count_executions": (counted_executions, [0, 0], [1, 1]),
    "read_embedded_metrics": (embedded_metric, 0, 2),
    "deploy_composite_alarms": (composite_stack, "ValidationError", "CREATE_COMPLETE"),
    "keep_silent_while_suppressed": (suppressed_alarm, 1, 0),
    "deploy_alarms_on_metric_math": (math_stack, "ROLLBACK_COMPLETE", "CREATE_COMPLETE"),
    "look_at_alarms_as_cloudwatch_does": (
        alarm_on_another_dimension,
        ["ALARM", "ALARM", "ALARM"],
        ["OK", "ALARM", "OK"],
    ),
    "share_a_few_workers": (workers_of_executions, 12, 4),
    "evaluate_timeouts": (evaluated_timeout, "States.Runtime", "States.Timeout"),
    "scale_callback_timeouts": (scaled_timeout, "RUNNING", "FAILED"),
    "fail_callbacks_whose_function_failed": (failed_callback, "RUNNING", "ValueError"),
    "give_every_attempt_its_own_token": (tokens_of_two_attempts, 1, 2),
    "close_tokens_of_stopped_executions": (
        stopped_execution,
        ["OK", "ABORTED", "TaskStateExited"],
        ["TaskDoesNotExist", "ABORTED", "ExecutionAborted"],
    ),
    "start_a_name_once": (
        lambda cloud: [*same_name_twice(cloud), same_child_twice(cloud)],
        ["ExecutionAlreadyExists", "ExecutionAlreadyExists", "SUCCEEDED"],
        ["same", "ExecutionAlreadyExists", "StepFunctions.ExecutionAlreadyExistsException"],
    ),
}


def test_every_bridge_has_its_scenario() -> None:
    # What fails over to a bucket is shown where the stream resumes.
    names = {bridge.__name__ for bridge in BRIDGES} - {"fail_over_to_a_bucket"}
    assert names == SCENARIOS.keys()


@pytest.mark.parametrize("bridge", SCENARIOS)
def test_the_plain_engine_still_has_the_gap(plain: Cloud, bridge: str) -> None:
    scenario, gap, _ = SCENARIOS[bridge]
    found = scenario(plain)
    assert found == gap, f"the engine answers {found} by itself now: delete or change the bridge {bridge}"


@pytest.mark.parametrize("bridge", SCENARIOS)
def test_the_bridged_engine_does_what_aws_does(bridged: Cloud, bridge: str) -> None:
    scenario, _, aws = SCENARIOS[bridge]
    assert scenario(bridged) == aws
