"""An outage of everything on the deployed stack, with the circuit breaker and without it: ``make outage``.

Two incidents, with a steady rate of events: Genesys Cloud does not answer for an hour and ``EnrichmentPolicy`` is
``required``; and a deployment of the processor cannot start, and is mended after 45 minutes. Every time is scaled by
the same factor: the outage, the waits of the state machines, the periods of the alarms, the backoff and the visibility
timeout of the buffer. Without the circuit breaker a shorter outage is enough: its cost per event does not depend on the
length.

The results are in ``benchmarks/results/outage.json``.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import measurements
from benchmarks.cost import PRICES, TRIAGE_GB, TRIAGE_SECONDS
from holdfast.domain.replay import ARCHIVE_PREFIX
from local.environment import LocalStack
from local.errors import exit_code
from local.eventually import eventually
from local.genesys import GenesysStandIn
from local.mappings import processing_of
from ops.audit import Auditor, Place
from ops.deployed import executions, history, keys
from ops.pause import ProcessingState

RESULTS = Path(__file__).parent / "results" / "outage.json"
#: Real seconds for each second here. The engine's alarms look at five seconds at least, which are two minutes then.
FACTOR = 24
#: An hour at sixty events a minute. The circuit breaker costs the same at every rate, what it saves grows with it.
EVENTS_PER_SECOND = 24
#: The incident, its seconds with the circuit breaker, and its seconds without it. Without it, events of the outage die
#: from the third minute on. After a bad deployment they die after 40 minutes, five times the visibility timeout.
INCIDENTS = (("outage", 3_600 / FACTOR, 30.0), ("bad_deployment", 2_700 / FACTOR, 2_700 / FACTOR))
SETTLE_SECONDS = 600.0
#: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
ENTRIES_PER_CALL = 10
#: Further short outages on the same stack, which show how the time until the pause varies.
OPENINGS = 4
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "BatchWindowSeconds": "1",
    # The defaults are waits of 3, 12, 48 and 192 seconds: 8 seconds in all here.
    "BackoffBaseSeconds": "1",
    "BackoffCapSeconds": "2",
    "MaxConcurrency": "4",
    # In one period of the alarm, which is 2.5 seconds here.
    "CircuitBreakerMinEvents": "8",
}
BUFFER_VISIBILITY_SECONDS = 480 // FACTOR
WORKING, BROKEN = "processor.app.lambda_handler", "processor.missing.lambda_handler"
TOPIC = "v2.detail.events.conversation.{id}.user.start"


@dataclass(frozen=True, slots=True)
class Result:
    """What an incident cost.

    Attributes:
        events: Events that were sent during the outage.
        executions_per_1000: Triage executions per 1,000 of them.
        archived: Events that were archived.
        receives_per_event: Receives that failed, per event.
        lost: Events that are in no store.
        doubled: Events that are stored and archived.
        triage_dollars_per_1000: Dollars for the executions of triage and of the circuit breaker, per 1,000 events.
        periods_to_open: Periods of the alarm from the first failure to the pause, of each outage of this length and of
            :data:`OPENINGS` short ones after it; empty without the breaker.
        waits_to_close: Waits of the circuit breaker from the end of the outage to the resumption.
        drained_after: Seconds from the end of the outage until every event is stored, as in AWS.
    """

    events: int
    executions_per_1000: float
    archived: int
    receives_per_event: float
    lost: int
    doubled: int
    triage_dollars_per_1000: float
    periods_to_open: tuple[float, ...]
    waits_to_close: float | None
    drained_after: float


class Incident:
    """One incident on a stack of its own."""

    def __init__(self, local: LocalStack) -> None:
        self._local = local
        self._stack = local.stack
        self.sent: list[str] = []
        url = self._stack.outputs["BufferQueueUrl"]
        visibility = {"VisibilityTimeout": str(BUFFER_VISIBILITY_SECONDS)}
        self._stack.client("sqs").set_queue_attributes(QueueUrl=url, Attributes=visibility)

    def genesys_down(self, *, down: bool) -> None:
        """Begin or end the outage of Genesys Cloud."""
        self._local.genesys.set_faults({"down": True} if down else None)

    def bad_deployment(self, *, down: bool) -> None:
        """Deploy a handler that fails at import, or the working one."""
        name, functions = self._stack.resources["ProcessorFunction"], self._stack.client("lambda")
        functions.update_function_configuration(FunctionName=name, Handler=BROKEN if down else WORKING)

    def run(self, fault: Callable[..., None], seconds: float) -> Result:
        """Send events during an outage of this length and until everything has settled."""
        self._warm_up()
        before = self._receives()
        fault(down=True)
        began, opened, closed = time.monotonic(), None, None
        with self._traffic():
            while time.monotonic() < began + seconds:
                time.sleep(0.1)
                opened = opened or (time.monotonic() if self._paused() else None)
        ended = time.monotonic()
        wait = self._last_wait()
        fault(down=False)
        while opened and self._paused():
            time.sleep(0.1)
        closed = time.monotonic()
        eventually(self._settled, "every event is settled", SETTLE_SECONDS, every=0.5)
        result = self._result(
            receives=self._receives() - before + self._probed(),
            periods=(opened - began) * FACTOR / 60 if opened else None,
            waits=(closed - ended) * FACTOR / wait if opened and wait else None,
            drained=(time.monotonic() - ended) * FACTOR,
        )
        more = [self._opening(fault) for _ in range(OPENINGS if opened else 0)]
        return replace(result, periods_to_open=(*result.periods_to_open, *more))

    def _opening(self, fault: Callable[..., None]) -> float:
        """Periods of the alarm from the beginning of one more outage to the pause."""
        fault(down=True)
        began = time.monotonic()
        with self._traffic():
            eventually(self._paused, "processing is paused", SETTLE_SECONDS, every=0.1)
        opened = time.monotonic()
        fault(down=False)
        eventually(self._settled, "every event is settled", SETTLE_SECONDS, every=0.5)
        return round((opened - began) * FACTOR / 60, 1)

    def _result(self, *, receives: float, periods: float | None, waits: float | None, drained: float) -> Result:
        places = Auditor(self._stack).locate(self.sent).values()
        archived = sum(one.place is Place.ARCHIVED for one in places)
        lost = sum(one.place is Place.IN_NO_STORE for one in places)
        per_thousand = 1000 / len(self.sent)
        found = list(executions(self._stack))
        arns = [one["executionArn"] for one in (*found, *self._breakers())]
        return Result(
            events=len(self.sent),
            executions_per_1000=round(len(found) * per_thousand, 1),
            archived=archived,
            # One receive of each event stores it.
            receives_per_event=round(receives / len(self.sent) - 1, 3),
            lost=lost,
            doubled=self._doubled(),
            triage_dollars_per_1000=round(sum(map(self._dollars, arns)) * per_thousand, 6),
            periods_to_open=(round(periods, 1),) if periods else (),
            waits_to_close=waits and round(waits, 2),
            drained_after=round(drained),
        )

    def _warm_up(self) -> None:
        self._send(EVENTS_PER_SECOND)
        eventually(lambda: self._stored() >= set(self.sent), "the first events are stored", 120)
        self.sent.clear()

    @contextmanager
    def _traffic(self) -> Iterator[None]:
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(1):
                self._send(EVENTS_PER_SECOND)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _send(self, count: int) -> None:
        entries = [
            {
                "EventBusName": self._stack.outputs["EventBusName"],
                "Source": "genesys.cloud",
                "DetailType": TOPIC,
                "Detail": json.dumps(_event()),
            }
            for _ in range(count)
        ]
        bus = self._stack.client("events")
        for first in range(0, count, ENTRIES_PER_CALL):
            answer = bus.put_events(Entries=entries[first : first + ENTRIES_PER_CALL])
            self.sent += [entry["EventId"] for entry in answer["Entries"]]

    def _stored(self) -> set[str]:
        pages = self._stack.client("dynamodb").get_paginator("scan")
        found = pages.paginate(TableName=self._stack.outputs["EventsTableName"], ProjectionExpression="eventId")
        return {item["eventId"]["S"] for page in found for item in page["Items"]}

    def _settled(self) -> bool:
        running = [*executions(self._stack, statusFilter="RUNNING"), *self._breakers(statusFilter="RUNNING")]
        return not running and set(self.sent) <= self._stored() | set(self._archived())

    def _archived(self) -> list[str]:
        return [one.event_id for one in Auditor(self._stack).locate(self.sent).values() if one.place is Place.ARCHIVED]

    def _doubled(self) -> int:
        """Events with two archive objects, or with one although they are stored."""
        s3, bucket = self._stack.client("s3"), self._stack.outputs["ArchiveBucketName"]
        found = (s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys(self._stack, ARCHIVE_PREFIX))
        ids = [json.loads(body)["eventId"] for body in found]
        return len(ids) - len(set(ids)) + len(set(ids) & self._stored())

    def _receives(self) -> float:
        """Messages that the mapping has received from the buffer."""
        now = datetime.now(UTC)
        answer = self._stack.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="NumberOfMessagesReceived",
            Dimensions=[{"Name": "QueueName", "Value": self._stack.outputs["BufferQueueUrl"].rpartition("/")[2]}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    def _paused(self) -> bool:
        return processing_of(self._stack) in {ProcessingState.PAUSED, ProcessingState.PAUSING}

    def _breakers(self, **filters: str) -> list[dict[str, Any]]:
        if "CircuitBreakerStateMachineArn" not in self._stack.outputs:
            return []
        return list(executions(self._stack, "CircuitBreaker", **filters))

    def _last_wait(self) -> int:
        """The wait of the circuit breaker at the end of the outage, as in AWS."""
        entered = (self._entered(one["executionArn"]) for one in self._breakers(statusFilter="RUNNING"))
        return max((int(data[-1]["input"].get("waitSeconds", 0)) for data in entered if data), default=0)

    def _probed(self) -> int:
        """Messages that probes have received. The result of a probe is in the input of the next state."""
        entered = (pairwise(self._entered(one["executionArn"])) for one in self._breakers())
        after = [second["input"] for pairs in entered for first, second in pairs if first["name"] == "Probe"]
        return sum(int((data.get("probe") or {}).get("received", 0)) for data in after)

    def _entered(self, arn: str) -> list[dict[str, Any]]:
        """The ``name`` and the ``input`` of the states that an execution entered."""
        found = [event.get("stateEnteredEventDetails") for event in history(self._stack, arn)]
        return [{"name": one["name"], "input": json.loads(one["input"])} for one in found if one]

    def _dollars(self, arn: str) -> float:
        events = history(self._stack, arn)
        transitions = sum("stateEnteredEventDetails" in event for event in events)
        tasks = sum(event["type"] == "TaskScheduled" for event in events)
        run = PRICES["lambda"]["request"] + TRIAGE_SECONDS * TRIAGE_GB * PRICES["lambda"]["gigabyte_second"]
        return float(transitions * PRICES["stepfunctions"]["transition"] + tasks * run)


def _event() -> dict[str, Any]:
    """An event with a new agent, whose name is in no cache. The processor has to call Genesys Cloud."""
    conversation, agent = str(uuid.uuid4()), str(uuid.uuid4())
    return {
        "topicName": TOPIC.replace("{id}", conversation),
        "version": "2",
        "timestamp": "2026-11-26T12:00:00.123Z",
        "eventBody": {"eventTime": 1795694400123, "conversationId": conversation, "userId": agent},
        "metadata": {"CorrelationId": str(uuid.uuid4())},
    }


def main() -> int:
    """Run both incidents with the circuit breaker and without it, and write the results."""
    results: dict[str, Any] = {}
    for name, seconds, without_breaker in INCIDENTS:
        with_breaker = incident(name, seconds, breaker="on")
        without = incident(name, without_breaker, breaker="off")
        share = with_breaker.triage_dollars_per_1000 / without.triage_dollars_per_1000
        results[name] = {
            "executions_per_1000": with_breaker.executions_per_1000,
            "archived": with_breaker.archived,
            "receives_per_event": with_breaker.receives_per_event,
            "lost": with_breaker.lost,
            "doubled": with_breaker.doubled,
            "triage_dollars_vs_off": round(share, 4),
            "periods_to_open": {
                "median": statistics.median(with_breaker.periods_to_open),
                "worst": max(with_breaker.periods_to_open),
            },
            "on": asdict(with_breaker),
            "off": asdict(without),
        }
        print(f"{name}: {measurements.to_json(results[name])}", flush=True)
    measured = {"measuredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "factor": FACTOR}
    measurements.write(RESULTS, {**measured, **results})
    print(f"Written to {RESULTS}")
    return 0


def incident(name: str, seconds: float, *, breaker: str) -> Result:
    """Run one incident on a new stack."""
    print(
        f"{name}, circuit breaker {breaker}: {seconds:.0f} seconds, which stand for {seconds * FACTOR / 60:.0f} minutes"
    )
    genesys = GenesysStandIn(requests_per_minute=1_000_000)
    parameters = {**PARAMETERS, "CircuitBreaker": breaker}
    with LocalStack(parameters=parameters, wait_scale=1 / FACTOR, callback_floor_seconds=5, genesys=genesys) as local:
        made = Incident(local)
        return made.run(made.genesys_down if name == "outage" else made.bad_deployment, seconds)


if __name__ == "__main__":
    sys.exit(exit_code(main))
