"""Drain 10,000 events at once on the deployed stack: ``make burst``, about seven minutes.

The events are sent while the event source mapping is disabled, so all of them wait when it is enabled. Two more
functions drain the same number of events from queues of their own, with the same mapping, role and limit. The order of
the three reverses from round to round.

- ``no-op`` does nothing. It shows the cost of the engine's queue, mapping and invocation.
- ``store only`` sends the one request that every handler for this job needs. Its items go through the stream and the
  fan-out as ours do. It shows the cost of the engine's table, stream and bus.

Concurrency is measured twice: the engine counts running invocations, and the metric records that the processor logs
show when each invocation ran.
"""

from __future__ import annotations

import io
import json
import os
import random
import statistics
import sys
import time
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measurements
from local.engine import concurrency
from local.environment import LocalStack
from local.errors import exit_code
from local.eventually import eventually
from local.genesys import GenesysStandIn
from local.mappings import changed_mapping
from local.reconciliation import look
from local.samples import user_event
from local.sending import ENTRIES_PER_CALL, send_messages
from local.stack import Stack
from local.traffic import BusEvent, burst, envelope
from local.watch import queue_length
from ops.reconciliation import Expected, SentEvent, reconcile

EVENTS = 10_000
LIMIT = 10
ROUNDS = 4
#: Fields of a drain that are written with two decimals.
ROUNDED = ("seconds", "engine_cpu_seconds")
#: Events of the first, unmeasured burst. They start every worker.
WARM_UP = 300
#: A burst whose batches mostly wait for Genesys. The concurrency limits it, so it can check the capacity model.
SLOW_EVENTS, SLOW_LIMIT, SLOW_SECONDS = 2_000, 4, 0.4
TIMEOUT_SECONDS = 400
POLL_SECONDS = 0.2
#: When no function ran at this many polls in a row, the fan-out has published everything.
IDLE_POLLS = 8
OURS, NO_OP, STORE_ONLY = "holdfast", "no-op", "store only"

NO_OP_CODE = "def lambda_handler(event, context):\n    return {'batchItemFailures': []}\n"
STORE_ONLY_CODE = """
import json, os, boto3
dynamodb = boto3.client("dynamodb")
NAMES = ("eventId", "source", "detailType", "receivedAt", "event")
INSERT = f'INSERT INTO "{os.environ["EVENTS_TABLE_NAME"]}" VALUE {{' + ", ".join(f"'{n}': ?" for n in NAMES) + "}"

def lambda_handler(event, context):
    statements = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        values = body["id"], body["source"], body["detail-type"], body["time"], record["body"]
        statements.append({"Statement": INSERT, "Parameters": [{"S": value} for value in values]})
    dynamodb.batch_execute_statement(Statements=statements)
    return {"batchItemFailures": []}
"""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A function and the queue that it drains."""

    name: str
    function: str
    queue_url: str


@dataclass(frozen=True, slots=True)
class Drain:
    """One burst through one function.

    Attributes:
        seconds: From enabling the mapping to the empty queue.
        peak: The highest concurrency that the engine counted.
        began: When the mapping was enabled, in milliseconds since 1970.
        engine_cpu_seconds: CPU time of the engine process, without its workers.
    """

    consumer: str
    events: int
    seconds: float
    peak: int
    began: int
    engine_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Invocation:
    """When an invocation ran by its own clock, in milliseconds since 1970, and how many events it received."""

    began: float
    ended: float
    events: int


# -- sending and draining ----------------------------------------------------------------------------------------


def mixed_events(count: int) -> list[str]:
    """Bodies of valid events of all topics, from a few dozen agents."""
    now = datetime.now(UTC)
    plan = burst(count + count // 10 + 50, random.Random(), now)
    valid = [item for item in plan if isinstance(item, BusEvent) and item.expected is Expected.STORED]
    return [json.dumps(envelope(str(uuid.uuid4()), item.detail_type, item.detail, now)) for item in valid[:count]]


def events_of_new_agents(count: int) -> list[str]:
    """Bodies of events that each name a different new agent."""
    made = (user_event() for _ in range(count))
    now = datetime.now(UTC)
    return [json.dumps(envelope(str(uuid.uuid4()), one.detail_type, one.detail, now)) for one in made]


def drain(stack: Stack, consumer: Consumer, bodies: Sequence[str], engine: int = 0) -> Drain:
    """Send these messages at once and wait until the function has drained its queue.

    ``engine`` is the process id of the engine, for its CPU time.
    """
    functions = stack.client("lambda")
    (mapping,) = functions.list_event_source_mappings(FunctionName=consumer.function)["EventSourceMappings"]
    with changed_mapping(functions, mapping["UUID"], enabled=False):
        for first in range(0, len(bodies), ENTRIES_PER_CALL):
            send_messages(stack.client("sqs"), consumer.queue_url, bodies[first : first + ENTRIES_PER_CALL])
        concurrency(stack.endpoint, reset=True)
        began, start, computed = int(time.time() * 1000), time.monotonic(), _cpu_seconds(engine)
    eventually(
        lambda: not queue_length(stack, consumer.queue_url),
        f"{consumer.name} drained its queue",
        TIMEOUT_SECONDS,
        every=POLL_SECONDS,
    )
    seconds, computed = time.monotonic() - start, _cpu_seconds(engine) - computed
    peak = concurrency(stack.endpoint)["peak"][consumer.function]
    return Drain(consumer.name, len(bodies), seconds, peak, began, computed)


def _cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, summed over its threads."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def await_idle(stack: Stack) -> None:
    """Wait until no function runs, including the fan-out."""
    idle = 0

    def is_idle() -> bool:
        nonlocal idle
        idle = 0 if concurrency(stack.endpoint)["running"] else idle + 1
        return idle >= IDLE_POLLS

    eventually(is_idle, "no function runs", TIMEOUT_SECONDS, every=POLL_SECONDS)


# -- results -----------------------------------------------------------------------------------------------------


def invocations(stack: Stack, log_group: str, since: int) -> list[Invocation]:
    """The processor's invocations that ended since then (milliseconds since 1970), from its metric records."""
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(logGroupName=log_group, startTime=since)
    messages = (event["message"] for page in pages for event in page["events"])
    records = (json.loads(message) for message in messages if message.startswith('{"_aws"'))
    found = (_invocation(record) for record in records if "BatchLatency" in record)
    return [one for one in found if one.ended >= since]


def _invocation(record: dict[str, Any]) -> Invocation:
    """The timestamp is cut to whole milliseconds, so the latest possible start is taken."""
    ended = float(record["_aws"]["Timestamp"])
    return Invocation(ended - record["BatchLatency"][0] + 1, ended, int(record["Received"][0]))


def most_at_once(seen: Iterable[Invocation]) -> int:
    """The highest number of invocations that overlap. One that ends when another begins does not overlap with it."""
    changes = sorted([(one.ended, -1) for one in seen] + [(one.began, 1) for one in seen])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def sent(bodies: Iterable[str]) -> list[SentEvent]:
    """The bodies as the reconciliation needs them."""
    return [SentEvent(json.loads(body)["id"], body=body) for body in bodies]


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of a run.

    Attributes:
        drains: The measured bursts, in order.
        peak_by_own_clock: The highest concurrency of the processor by its own clocks.
        stored: How many events the table holds at the end.
        lost: How many events are neither stored, archived nor in progress.
        slow: The burst that waits for Genesys, with the mean duration of a batch by the functions' own clocks.
    """

    limit: int
    drains: Sequence[Drain]
    peak_by_own_clock: int
    stored: int
    lost: int
    slow: dict[str, float]

    def rates(self, consumer: str) -> list[float]:
        """Events per second in each round."""
        return [one.rate for one in self.drains if one.consumer == consumer]

    def ratio(self, to: str) -> float:
        """Our throughput divided by another's, the median over the rounds."""
        return statistics.median(ours / other for ours, other in zip(self.rates(OURS), self.rates(to), strict=True))

    def engine_ms(self, consumer: str) -> float:
        """CPU time of the engine for one event, in milliseconds, the median over the rounds."""
        own = [one for one in self.drains if one.consumer == consumer]
        return round(statistics.median(one.engine_cpu_seconds / one.events * 1000 for one in own), 2)

    def figures(self) -> dict[str, Any]:
        """The main figures; ``make bench`` copies some of them into ``latest.json``."""
        peaks = [*(one.peak for one in self.drains), self.peak_by_own_clock]
        return {
            "engine_throughput_vs_noop": round(self.ratio(NO_OP), 2),
            "engine_throughput_vs_store_only": round(self.ratio(STORE_ONLY), 2),
            "engine_cpu_ms_per_event": {name: self.engine_ms(name) for name in (NO_OP, STORE_ONLY, OURS)},
            "concurrency_violations": max(0, *(peak - self.limit for peak in peaks)),
        }


# -- the run -----------------------------------------------------------------------------------------------------


def run() -> Burst:
    """Deploy, drain the bursts of all consumers, then the slow burst. The engine is stopped at the end."""
    parameters = {"MaxConcurrency": str(LIMIT), "EnrichmentPolicy": "required"}
    with LocalStack(parameters=parameters, genesys=GenesysStandIn(requests_per_minute=1_000_000), say=print) as local:
        stack = local.stack
        ours = processor(stack)
        consumers = [_deploy(stack, NO_OP, NO_OP_CODE), ours, _deploy(stack, STORE_ONLY, STORE_ONLY_CODE)]
        everything: list[str] = []
        drains: list[Drain] = []
        for number in range(-1, ROUNDS):
            for consumer in consumers:
                bodies = mixed_events(EVENTS if number >= 0 else WARM_UP)
                everything += [] if consumer.name == NO_OP else bodies
                drains.append(drain(stack, consumer, bodies, local.engine.pid))
                await_idle(stack)
                print(f"  {'warm-up' if number < 0 else f'round {number + 1}'}: {_line(drains[-1])}")
            consumers.reverse()
        measured = drains[len(consumers) :]
        peak = max(most_at_once(_during(stack, one)) for one in measured if one.consumer == OURS)
        result = reconcile(sent(everything), look(stack))
        return Burst(LIMIT, measured, peak, result.stored, len(result.lost), _slow(local))


def processor(stack: Stack) -> Consumer:
    """The deployed processor and its queue."""
    return Consumer(OURS, stack.outputs["ProcessorFunctionName"], stack.outputs["BufferQueueUrl"])


def log_group(stack: Stack) -> str:
    """The processor's log group."""
    return f"/aws/lambda/{stack.name}/processor"


def _during(stack: Stack, one: Drain) -> list[Invocation]:
    end = one.began + one.seconds * 1000
    return [seen for seen in invocations(stack, log_group(stack), one.began) if seen.began < end]


def _deploy(stack: Stack, name: str, code: str) -> Consumer:
    """Deploy another function with the processor's configuration and mapping, and a queue of its own."""
    functions, label = stack.client("lambda"), name.replace(" ", "-")
    like = functions.get_function_configuration(FunctionName=stack.outputs["ProcessorFunctionName"])
    (mapping,) = functions.list_event_source_mappings(FunctionName=like["FunctionName"])["EventSourceMappings"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("app.py", code)
    functions.create_function(
        FunctionName=label,
        Handler="app.lambda_handler",
        Code={"ZipFile": archive.getvalue()},
        **{name: like[name] for name in ("Runtime", "Role", "Timeout", "MemorySize", "Environment")},
    )
    queues = stack.client("sqs")
    like_queue = queues.get_queue_attributes(QueueUrl=stack.outputs["BufferQueueUrl"], AttributeNames=["All"])
    url = queues.create_queue(
        QueueName=label, Attributes={"VisibilityTimeout": like_queue["Attributes"]["VisibilityTimeout"]}
    )["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    # The processor's role may read only its own queue, and the engine checks permissions.
    role = like["Role"].rpartition("/")[2]
    actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.client("iam").put_role_policy(RoleName=role, PolicyName=label, PolicyDocument=policy)
    functions.create_event_source_mapping(
        FunctionName=label,
        EventSourceArn=arn,
        **{name: mapping[name] for name in ("BatchSize", "FunctionResponseTypes", "ScalingConfig")},
    )
    return Consumer(name, label, url)


def _slow(local: LocalStack) -> dict[str, float]:
    """Drain a burst in which every batch waits for Genesys, at a low concurrency."""
    local.update({"MaxConcurrency": str(SLOW_LIMIT)})
    local.genesys.set_faults({"latencySeconds": SLOW_SECONDS})
    one = drain(local.stack, processor(local.stack), events_of_new_agents(SLOW_EVENTS))
    seen = _during(local.stack, one)
    local.genesys.set_faults(None)
    seconds = statistics.mean(invocation.ended - invocation.began for invocation in seen) / 1000
    return {
        "events": SLOW_EVENTS,
        "limit": SLOW_LIMIT,
        "events_per_batch": SLOW_EVENTS / len(seen),
        "seconds_per_batch": round(seconds, 4),
        "drain_seconds": round(one.seconds, 2),
        "peak": max(one.peak, most_at_once(seen)),
    }


def _line(one: Drain) -> str:
    line = f"{one.consumer:<12} {one.events} events in {one.seconds:5.1f} s, {one.rate:6.0f}/s, peak {one.peak}"
    return f"{line}, CPU of the engine {one.engine_cpu_seconds:5.1f} s"


def write(result: Burst) -> None:
    """Write the result, and copy its figures into the results of ``make bench``."""
    drains = [asdict(one) | {name: round(getattr(one, name), 2) for name in ROUNDED} for one in result.drains]
    measurements.write(measurements.BURST, asdict(result) | {"drains": drains, "figures": result.figures()})
    if measurements.LATEST.exists():
        latest = measurements.read(measurements.LATEST)
        measurements.write(measurements.LATEST, measurements.with_burst(latest))


def main() -> int:
    """Run, print and write the result. Returns 0 if no event was lost and the limit was kept."""
    result = run()
    figures = result.figures()
    write(result)
    print(f"\nlimit {result.limit}, peak by the functions' own clocks {result.peak_by_own_clock}")
    print(f"stored {result.stored}, lost {result.lost}")
    for name, value in (figures | {"slow": result.slow}).items():
        print(f"{name}: {value}")
    return int(bool(result.lost or figures["concurrency_violations"]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
