"""Measure the failure path at scale: ``python -m benchmarks.failure_path``.

The real handlers of intake and fan-out run against the HTTP servers of :mod:`benchmarks.servers` with a latency for
each call. Their CPU time is converted to the CPU share of a memory size. Each of these figures is measured twice: with
one request at a time, and as it is deployed. Sweep and replay are simulated (:mod:`benchmarks.simulations`).

The same calculation gives duration, throughput and cost for each memory size, for the processor too.

The results are the key ``failure_path`` of ``results/latest.json``, and the picture of the memory sizes.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import os
import statistics
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar

from benchmarks import events, measurements, simulations
from benchmarks.comparison import CONTEXT as PROCESSOR_CONTEXT
from benchmarks.comparison import RECORDS, processor_environment
from benchmarks.cost import PRICES
from benchmarks.pictures import draw_memory
from benchmarks.servers import Upstream

T = TypeVar("T")
R = TypeVar("R")

HANDLERS_CORE, SERVERS_CORE = 0, 1
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEGABYTES_PER_CORE = 1_769
#: The sizes of the table of memory, duration and cost.
MEMORY_SIZES = (256, 512, 1_024, 1_769)
#: From the end of a batch until the mapping invokes the function with the next one. Assumed.
SECONDS_BETWEEN_BATCHES = 0.02
ROUNDS = 15

INTAKE_CALL_MS, INTAKE_BATCH, INTAKE_CONCURRENCY = 30, 10, 2
PUT_EVENTS_MS, FAN_OUT_BATCH = 15, 100
#: The processor stores ten events of 10 KB whose users are known.
TABLE_MS, EVENT_KILOBYTES = 5, 10
#: As in template.yaml. A test compares them.
INTAKE_MEGABYTES, FAN_OUT_MEGABYTES, FAN_OUT_PARALLEL_BATCHES = 1_769, 512, 2
MAX_CONCURRENCY = 10
#: Before the calls of a batch were made at once.
EARLIER_MEGABYTES = 256
EVENT_BYTES = 2_000
#: More than a day of sweeps can decide on, and the letters of a replay.
SWEPT_LETTERS, REPLAYED_LETTERS = 180_000, 1_000_000
ENVIRONMENT = {
    "TRIAGE_STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:triage",
    "ENRICHED_BUS_NAME": "enriched",
}
CONTEXT = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000)


@dataclass(frozen=True, slots=True)
class Batch:
    """The medians of one batch: records, seconds on a core of its own, and CPU seconds."""

    records: int
    seconds: float
    cpu_seconds: float

    def duration(self, megabytes: int) -> float:
        """Seconds with this memory. The CPU time that a smaller share adds does not overlap with waits."""
        share = min(1.0, megabytes / MEGABYTES_PER_CORE)
        return self.seconds + self.cpu_seconds * (1 / share - 1)

    def per_second(self, megabytes: int, concurrency: int) -> float:
        """Records per second of so many concurrent batches."""
        return concurrency * self.records / (self.duration(megabytes) + SECONDS_BETWEEN_BATCHES)

    def dollars_per_million(self, megabytes: int) -> float:
        """The cost of the Lambda function for a million records."""
        prices = PRICES["lambda"]
        invocation = prices["request"] + self.duration(megabytes) * megabytes / 1_024 * prices["gigabyte_second"]
        return 1e6 / self.records * float(invocation)


def measure(run: Callable[[], dict[str, Any]], records: int) -> Batch:
    """Run a batch several times. Nothing in it may fail."""
    walls, cpus = [], []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if answer["batchItemFailures"]:
            raise RuntimeError("a record failed, so the time of the batch says nothing")
    return Batch(records, statistics.median(walls[1:]), statistics.median(cpus[1:]))


def one_at_a_time(work: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """The opposite of ``in_parallel``."""
    return [work(value) for value in values]


def intake(upstream: Upstream) -> tuple[Batch, Batch]:
    """A batch of ten dead letters: one letter at a time, and all at once."""
    app: Any = importlib.import_module("dead_letter_intake.app")
    upstream.charge(dynamodb_ms=INTAKE_CALL_MS)
    event = {"Records": [dead_letter(number) for number in range(INTAKE_BATCH)]}
    deployed = app.production()
    earlier = replace(deployed, parallel=one_at_a_time)
    return (
        measure(lambda: app.lambda_handler(event, CONTEXT, services=earlier), INTAKE_BATCH),
        measure(lambda: app.lambda_handler(event, CONTEXT, services=deployed), INTAKE_BATCH),
    )


def fan_out(upstream: Upstream) -> tuple[Batch, Batch]:
    """A batch of a hundred stream records: one request at a time, and ten at once."""
    app: Any = importlib.import_module("fan_out.app")
    upstream.charge(dynamodb_ms=PUT_EVENTS_MS)
    event = {"Records": [stream_record(number) for number in range(FAN_OUT_BATCH)]}
    deployed = app.production()
    earlier = replace(deployed, bus=replace(deployed.bus, parallel=one_at_a_time))
    return (
        measure(lambda: app.lambda_handler(event, CONTEXT, services=earlier), FAN_OUT_BATCH),
        measure(lambda: app.lambda_handler(event, CONTEXT, services=deployed), FAN_OUT_BATCH),
    )


def processor(upstream: Upstream) -> Batch:
    """A batch of the buffer queue."""
    app: Any = importlib.import_module("processor.app")
    upstream.charge(dynamodb_ms=TABLE_MS)
    users = events.new_users(RECORDS)
    batches = iter([events.batch(RECORDS, EVENT_KILOBYTES, users) for _ in range(ROUNDS + 1)])
    return measure(lambda: app.lambda_handler(next(batches), PROCESSOR_CONTEXT), RECORDS)


def envelope(number: int) -> str:
    """An event of two kilobytes."""
    return json.dumps({"id": f"event-{number}", "detail-type": "topic", "detail": {"text": "x" * EVENT_BYTES}})


def dead_letter(number: int) -> dict[str, Any]:
    """A record of the dead-letter queue."""
    return {
        "messageId": f"message-{number}",
        "receiptHandle": "r",
        "body": envelope(number),
        "attributes": {"SentTimestamp": "1795428000000", "ApproximateReceiveCount": "1"},
        "messageAttributes": {},
    }


def stream_record(number: int) -> dict[str, Any]:
    """A record of the stream of the events table."""
    image = {
        "eventId": {"S": f"event-{number}"},
        "detailType": {"S": "topic"},
        "eventPacked": {"B": base64.b64encode(zlib.compress(envelope(number).encode())).decode()},
    }
    return {"eventName": "INSERT", "dynamodb": {"SequenceNumber": str(number), "NewImage": image}}


def sizes(batch: Batch, concurrency: int) -> dict[str, dict[str, float]]:
    """Throughput and cost by memory size."""
    return {
        f"{megabytes} MB": {
            "batch_ms": round(batch.duration(megabytes) * 1_000, 1),
            "per_second": round(batch.per_second(megabytes, concurrency)),
            "dollars_per_million": round(batch.dollars_per_million(megabytes), 3),
        }
        for megabytes in MEMORY_SIZES
    }


def main() -> None:
    """Measure, print and write."""
    os.sched_setaffinity(0, {HANDLERS_CORE})
    with Upstream(SERVERS_CORE) as upstream, contextlib.redirect_stdout(io.StringIO()):  # the logs of the handlers
        os.environ.update(processor_environment(upstream.url, upstream.url), **ENVIRONMENT)
        one_letter, letters = intake(upstream)
        one_request, published = fan_out(upstream)
        stored = processor(upstream)
        swept, reported = simulations.sweep(SWEPT_LETTERS), simulations.replay(REPLAYED_LETTERS)
    memory = {
        "processor": sizes(stored, MAX_CONCURRENCY),
        "intake": sizes(letters, INTAKE_CONCURRENCY),
        "fan_out": sizes(published, FAN_OUT_PARALLEL_BATCHES),
    }
    result = {
        "intake_letters_per_second": round(letters.per_second(INTAKE_MEGABYTES, INTAKE_CONCURRENCY)),
        "fan_out_events_per_second_per_shard": round(published.per_second(FAN_OUT_MEGABYTES, FAN_OUT_PARALLEL_BATCHES)),
        "sweep_letters_per_day": swept,
        "replay_letters_reported": reported,
        "before": {
            "intake_letters_per_second": round(one_letter.per_second(EARLIER_MEGABYTES, INTAKE_CONCURRENCY)),
            "fan_out_events_per_second_per_shard": round(one_request.per_second(EARLIER_MEGABYTES, 1)),
        },
        "memory": memory,
    }
    measurements.write(measurements.LATEST, {**measurements.read(measurements.LATEST), "failure_path": result})
    draw_memory(memory)
    print(measurements.to_json(result))


if __name__ == "__main__":
    main()
