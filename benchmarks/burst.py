"""10,000 events at once on the deployed stack: ``make burst``, about seven minutes.

The events are put into the queue while its mapping is switched off, so that all of them are there when it is switched
on. Two more functions take the same burst from queues of their own, with the same mapping, role and limit, on the same
engine, in an order that turns around from round to round:

- ``no-op`` does nothing. It shows what the engine's queue, mapping and invocation cost.
- ``store only`` makes the one request without which no handler does this job, and nothing else. What it writes is
  streamed and published as ours is. It shows what the engine's table, stream and bus cost.

Concurrency is seen twice: by the engine, which counts each invocation as it begins, and by the functions' own clocks in
the metric records that the processor logs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import statistics
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.domain.envelope import identify
from local.engine import concurrency
from local.environment import LocalStack
from local.errors import LocalError
from local.genesys import GenesysStandIn
from local.reconciliation import look
from local.send import example
from local.sending import ENTRIES_PER_CALL
from local.stack import Stack
from local.traffic import BusEvent, burst, envelope
from local.watch import queue_length
from ops.reconciliation import Expected, Sent, reconcile

EVENTS = 10_000
LIMIT = 10
ROUNDS = 4
#: Enough to start every worker before anything is measured.
WARM_UP = 300
#: A burst that waits for Genesys and hardly computes: there the limit decides, and the capacity model can be checked.
SLOW_EVENTS, SLOW_LIMIT, SLOW_SECONDS = 2_000, 4, 0.4
PATIENCE_SECONDS = 400
LOOK_SECONDS = 0.2
#: Nothing ran at so many looks in a row: the stream has been published too.
QUIET_LOOKS = 8
OURS, NO_OP, STORE_ONLY = "holdfast", "no-op", "store only"
RESULTS = Path(__file__).parent / "results" / "burst.json"
#: What ``make bench`` writes; it takes over our figures, and so it does from us.
HEADLINE = RESULTS.with_name("latest.json")

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
    """A function and the queue that it works on."""

    name: str
    function: str
    queue_url: str


@dataclass(frozen=True, slots=True)
class Drain:
    """How one burst went through one function.

    Attributes:
        consumer: The function's name here.
        events: How many there were.
        seconds: From switching the mapping on to the empty queue.
        peak: The most invocations at once, as the engine saw it.
        began: Milliseconds since 1970 when the mapping was switched on.
        engine_cpu_seconds: What the engine itself computed meanwhile, the workers of the functions not included.
    """

    consumer: str
    events: int
    seconds: float
    peak: int
    began: int
    engine_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Events in a second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation by the function's own clock, in milliseconds since 1970, and how many events it was given."""

    began: float
    ended: float
    events: int


# -- what goes in ------------------------------------------------------------------------------------------------


def mixed_events(count: int) -> list[str]:
    """Bodies of valid events in all shapes, of a few dozen agents."""
    now = datetime.now(UTC)
    plan = burst(count + count // 10 + 50, random.Random(), now)
    valid = [item for item in plan if isinstance(item, BusEvent) and item.expected is Expected.STORED]
    return [json.dumps(envelope(str(uuid.uuid4()), item.detail_type, item.detail, now)) for item in valid[:count]]


def events_of_newcomers(count: int) -> list[str]:
    """Bodies of events each of which names an agent who was never seen."""
    made = (example() for _ in range(count))
    now = datetime.now(UTC)
    return [json.dumps(envelope(str(uuid.uuid4()), one["detail-type"], one["detail"], now)) for one in made]


def drain(stack: Stack, consumer: Consumer, bodies: Sequence[str], engine: int = 0) -> Drain:
    """Let a function work through these messages, all there at once; answers when its queue is empty.

    ``engine`` is the process of which the CPU is told.

    Raises:
        LocalError: It was not empty in time.
    """
    with _switched_off(stack, consumer.function):
        for first in range(0, len(bodies), ENTRIES_PER_CALL):
            _send(stack, consumer.queue_url, bodies[first : first + ENTRIES_PER_CALL])
        concurrency(stack.endpoint, reset=True)
        began, start, computed = int(time.time() * 1000), time.monotonic(), _cpu_seconds(engine)
    _wait(lambda: not queue_length(stack, consumer.queue_url), f"{consumer.name} to work through the burst")
    seconds, computed = time.monotonic() - start, _cpu_seconds(engine) - computed
    peak = concurrency(stack.endpoint)["peak"][consumer.function]
    return Drain(consumer.name, len(bodies), seconds, peak, began, computed)


def _cpu_seconds(pid: int) -> float:
    """What a process has computed so far, all its threads together."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _switched_off(stack: Stack, function: str) -> Iterator[None]:
    """The function's mapping takes nothing meanwhile."""
    mappings = stack.client("lambda")
    (mapping,) = mappings.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    mappings.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        mappings.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def _send(stack: Stack, queue_url: str, bodies: Sequence[str]) -> None:
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    if stack.client("sqs").send_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed"):
        raise LocalError("The queue refused a part of the burst.")


def await_quiet(stack: Stack) -> None:
    """Wait until no function runs any more, the fan-out included."""
    silent = 0

    def quiet() -> bool:
        nonlocal silent
        silent = 0 if concurrency(stack.endpoint)["running"] else silent + 1
        return silent >= QUIET_LOOKS

    _wait(quiet, "the fan-out to publish the burst")


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise LocalError(f"Waited {PATIENCE_SECONDS} s in vain for {what}.")
        time.sleep(LOOK_SECONDS)


# -- what was seen -----------------------------------------------------------------------------------------------


def invocations(stack: Stack, log_group: str, since: int) -> list[Invocation]:
    """What the processor's metric records say of its invocations that ended since then (milliseconds since 1970)."""
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(logGroupName=log_group, startTime=since)
    messages = (event["message"] for page in pages for event in page["events"])
    records = (json.loads(message) for message in messages if message.startswith('{"_aws"'))
    return [_invocation(record) for record in records if "BatchLatency" in record and _ended(record) >= since]


def _ended(record: dict[str, Any]) -> float:
    return float(record["_aws"]["Timestamp"])


def _invocation(record: dict[str, Any]) -> Invocation:
    """By a clock that was cut to whole milliseconds, so the beginning is taken as late as it can have been."""
    return Invocation(_ended(record) - record["BatchLatency"][0] + 1, _ended(record), int(record["Received"][0]))


def most_at_once(seen: Iterable[Invocation]) -> int:
    """The most invocations that ran at the same time; one that ends as another begins does not count."""
    changes = sorted([(one.ended, -1) for one in seen] + [(one.began, 1) for one in seen])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def sent(bodies: Iterable[str]) -> list[Sent]:
    """The bodies as the reconciliation needs them."""
    return [Sent(identify(body)[0], body=body) for body in bodies]


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of a run.

    Attributes:
        limit: The allowed number of invocations at once.
        drains: Every burst, in order.
        peak_by_own_clock: The most invocations of the processor at once by their own clocks.
        stored: How many of our events the table holds at the end.
        lost: How many are nowhere.
        slow: The burst that waits for Genesys, with what one batch took by the functions' own clocks, in seconds.
    """

    limit: int
    drains: Sequence[Drain]
    peak_by_own_clock: int
    stored: int
    lost: int
    slow: dict[str, float]

    def rates(self, consumer: str) -> list[float]:
        """Events in a second, round by round."""
        return [one.rate for one in self.drains if one.consumer == consumer]

    def ratio(self, to: str) -> float:
        """Our throughput as a multiple of another's, the median over the rounds."""
        return statistics.median(ours / other for ours, other in zip(self.rates(OURS), self.rates(to), strict=True))

    def engine_ms(self, consumer: str) -> float:
        """What the engine computed for one event of a handler, in milliseconds, the median over the rounds."""
        own = [one for one in self.drains if one.consumer == consumer]
        return round(statistics.median(one.engine_cpu_seconds / one.events * 1000 for one in own), 2)

    def figures(self) -> dict[str, Any]:
        """What ``latest.json`` tells of the burst."""
        return {
            "engine_throughput_vs_noop": round(self.ratio(NO_OP), 2),
            "engine_throughput_vs_store_only": round(self.ratio(STORE_ONLY), 2),
            "engine_cpu_ms_per_event": {name: self.engine_ms(name) for name in (NO_OP, STORE_ONLY, OURS)},
            "concurrency_violations": violations(
                self.limit, [*(one.peak for one in self.drains), self.peak_by_own_clock]
            ),
        }


def violations(limit: int, peaks: Iterable[int]) -> int:
    """By how many invocations the limit was exceeded at the worst moment."""
    return max(0, *(peak - limit for peak in peaks))


# -- the run -----------------------------------------------------------------------------------------------------


def run(events: int = EVENTS, say: Callable[[str], None] = print) -> Burst:
    """Deploy, let the three take turns, then let ours wait for Genesys. Nothing is left running."""
    parameters = {"MaxConcurrency": str(LIMIT), "EnrichmentPolicy": "required"}
    with LocalStack(parameters=parameters, genesys=GenesysStandIn(requests_per_minute=1_000_000), say=say) as local:
        stack = local.stack
        ours = processor(stack)
        others = [_deploy(stack, NO_OP, NO_OP_CODE), _deploy(stack, STORE_ONLY, STORE_ONLY_CODE)]
        consumers = [others[0], ours, others[1]]
        everything: list[str] = []
        drains: list[Drain] = []
        for number in range(-1, ROUNDS):
            for consumer in consumers:
                bodies = mixed_events(events if number >= 0 else WARM_UP)
                everything += [] if consumer is others[0] else bodies
                drains.append(drain(stack, consumer, bodies, local.engine.pid))
                await_quiet(stack)
                say(f"  {'warm-up' if number < 0 else f'round {number + 1}'}: {_told(drains[-1])}")
            consumers.reverse()
        measured = drains[len(consumers) :]
        peak = max(most_at_once(_during(stack, one)) for one in measured if one.consumer == OURS)
        result = reconcile(sent(everything), look(stack))
        return Burst(LIMIT, measured, peak, result.stored, len(result.lost), _slow(local))


def processor(stack: Stack) -> Consumer:
    """The deployed processor with its queue."""
    return Consumer(OURS, stack.outputs["ProcessorFunctionName"], stack.outputs["BufferQueueUrl"])


def log_group(stack: Stack) -> str:
    """Where the processor logs."""
    return f"/aws/lambda/{stack.name}/processor"


def _during(stack: Stack, one: Drain) -> list[Invocation]:
    end = one.began + one.seconds * 1000
    return [seen for seen in invocations(stack, log_group(stack), one.began) if seen.began < end]


def _deploy(stack: Stack, name: str, code: str) -> Consumer:
    """Another function with the processor's configuration and mapping, at a queue of its own."""
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
    # The processor's role may read only its own queue; the engine asks as AWS does.
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
    """Each batch asks Genesys for its agents and waits for the answer; few at once, so that the limit decides."""
    local.update({"MaxConcurrency": str(SLOW_LIMIT)})
    local.genesys.set_faults({"latencySeconds": SLOW_SECONDS})
    one = drain(local.stack, processor(local.stack), events_of_newcomers(SLOW_EVENTS))
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


def _told(one: Drain) -> str:
    told = f"{one.consumer:<12} {one.events} events in {one.seconds:5.1f} s, {one.rate:6.0f}/s, peak {one.peak}"
    return f"{told}, {one.engine_cpu_seconds:5.1f} s of it computed by the engine"


def write(result: Burst) -> None:
    """Write the result down, and put its figures among those of ``make bench``."""
    RESULTS.write_text(json.dumps(asdict(result) | {"figures": result.figures()}, indent=2) + "\n")
    if HEADLINE.exists():
        found = json.loads(HEADLINE.read_text())
        HEADLINE.write_text(json.dumps(with_figures(found), indent=2) + "\n")


def with_figures(found: dict[str, Any]) -> dict[str, Any]:
    """The results of ``make bench`` with what the last burst told."""
    figures = json.loads(RESULTS.read_text())["figures"] if RESULTS.exists() else {}
    throughput = {"engine_throughput_vs_noop": figures.get("engine_throughput_vs_noop")}
    return {
        **found,
        "ratios": found.get("ratios", {}) | throughput,
        "concurrency_violations": figures.get("concurrency_violations"),
    }


def main() -> int:
    """Print the table and write it down; 0 if nothing was lost and the limit held."""
    try:
        result = run()
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
    figures = result.figures()
    write(result)
    print(f"\nlimit {result.limit}, peak by the functions' own clocks {result.peak_by_own_clock}")
    print(f"stored {result.stored}, lost {result.lost}")
    for name, value in (figures | {"slow": result.slow}).items():
        print(f"{name}: {value}")
    return int(bool(result.lost or figures["concurrency_violations"]))


if __name__ == "__main__":
    sys.exit(main())
