"""Run handlers side by side, in one process on one core, against the same servers on another core.

Every round calls each handler once. The order rotates and reverses from round to round, so that each handler has each
position equally often. Before every measured call the handler processes one small event that is not measured: in Lambda
each function has its processor caches to itself. A ratio is the median of the ratios within a round, so a slow phase of
the machine affects both sides. Our handler runs twice in each round. The difference between the two is the A/A control;
smaller differences between handlers mean nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks import events
from benchmarks.servers import Upstream

OURS, CONTROL, FLOOR = "holdfast", "holdfast, again", "floor"
PEERS = ("per_event", "powertools", "threaded")
RECORDS = 10

Handler = Callable[[dict[str, Any], Any], Any]

#: The parts of Lambda's context that the handlers use.
CONTEXT = SimpleNamespace(
    function_name="bench",
    function_version="1",
    invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:bench",
    memory_limit_in_mb=512,
    aws_request_id="bench",
    get_remaining_time_in_millis=lambda: 30_000,
)


@dataclass(frozen=True)
class Samples:
    """The time of each handler in each round, in milliseconds."""

    by_name: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """The median of one handler."""
        return statistics.median(self.by_name[name])

    def ratio(self, name: str, to: str) -> float:
        """The median over the rounds of one handler's time divided by another's."""
        pairs = zip(self.by_name[name], self.by_name[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    @property
    def control(self) -> float:
        """The ratio of our handler to itself. Its distance from 1 is the error of the measurement."""
        return self.ratio(CONTROL, OURS)


class Comparison:
    """The handlers, ready to run against one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        """Set the environment that the handlers have in Lambda, and import them."""
        os.environ.update(processor_environment(upstream.url, upstream.url))
        ours = importlib.import_module("processor.app").lambda_handler
        peers = {name: importlib.import_module(f"benchmarks.peers.{name}") for name in (*PEERS, FLOOR)}
        self.upstream = upstream
        self.handlers: dict[str, Handler] = {OURS: ours, CONTROL: ours}
        self.handlers |= {name: module.lambda_handler for name, module in peers.items()}
        self._prepare_floor = peers[FLOOR].prepare
        self._known_users = events.new_users(RECORDS)
        for name in self.handlers:
            self._call(name, events.batch(RECORDS, 1, self._known_users))

    def latency(self, kilobytes: int, *, known_users: bool, rounds: int) -> Samples:
        """Wall-clock time of one batch."""
        return self._run(kilobytes, time.perf_counter, rounds, known_users=known_users)

    def cpu(self, kilobytes: int, *, rounds: int, records: int = RECORDS, names: Sequence[str] = ()) -> Samples:
        """CPU time of one batch whose users are known, summed over all threads."""
        return self._run(kilobytes, time.process_time, rounds, records=records, names=names)

    def calls(self, kilobytes: int, *, known_users: bool) -> dict[str, Counter[str]]:
        """The requests that each handler sends for one batch, by operation."""
        found = {}
        for name in self.handlers:
            self.upstream.take_counts()
            self._call(name, self._batch(RECORDS, kilobytes, known_users=known_users))
            found[name] = self.upstream.take_counts()
        return found

    def _run(
        self,
        kilobytes: int,
        clock: Callable[[], float],
        rounds: int,
        *,
        records: int = RECORDS,
        known_users: bool = True,
        names: Sequence[str] = (),
    ) -> Samples:
        taken: dict[str, list[float]] = {name: [] for name in names or self.handlers}
        for number in range(rounds):
            for name in balanced(list(taken), number):
                self._call(name, events.batch(1, 1, self._known_users))
                batch = self._batch(records, kilobytes, known_users=known_users)
                taken[name].append(self._call(name, batch, clock))
        return Samples(taken)

    def _batch(self, records: int, kilobytes: int, *, known_users: bool) -> dict[str, Any]:
        return events.batch(records, kilobytes, self._known_users if known_users else events.new_users(records))

    def _call(self, name: str, batch: dict[str, Any], clock: Callable[[], float] = time.perf_counter) -> float:
        """Call a handler and return the milliseconds that it took. Its log output goes to the null device."""
        if name == FLOOR:
            self._prepare_floor(batch)
        handler = self.handlers[name]
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # noqa: PTH123 - not a path
            began = clock()
            answer = handler(batch, CONTEXT)
            ended = clock()
        if answer != {"batchItemFailures": []}:
            raise AssertionError(f"{name} reported failed records, so its time means nothing: {answer}")
        return (ended - began) * 1000


def growth_exponent(cpu_by_records: Mapping[int, float]) -> float:
    """The slope of CPU over the number of records on logarithmic scales: 1 is linear growth."""
    points = [(math.log(records), math.log(cpu)) for records, cpu in cpu_by_records.items()]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def processor_environment(aws_url: str, genesys_url: str) -> dict[str, str]:
    """The environment variables of ProcessorFunction and of the peers, for servers at these URLs."""
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "EVENTS_TABLE_NAME": "events",
        "IDEMPOTENCY_TABLE_NAME": "idempotency",  # of the peer that uses Powertools
        "ATTEMPTS_TABLE_NAME": "attempts",
        "BUFFER_QUEUE_URL": f"{aws_url}/000000000000/buffer",
        "ARCHIVE_BUCKET_NAME": "archive",
        "EVENT_RETENTION_DAYS": "400",
        "ATTEMPT_RETENTION_DAYS": "30",
        "BACKOFF_BASE_SECONDS": "2",
        "BACKOFF_CAP_SECONDS": "300",
        "ENRICHMENT_POLICY": "required",
        "GENESYS_DOMAIN": "mypurecloud.com",
        "GENESYS_CREDENTIALS_SECRET_ARN": "secret",
        "GENESYS_API_URL": genesys_url,
        "GENESYS_LOGIN_URL": genesys_url,
        "POWERTOOLS_SERVICE_NAME": "processor",
    }


def balanced(names: list[str], number: int) -> list[str]:
    """The order of a round: rotated by one after every second round, and reversed in every second round."""
    start = number // 2 % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if number % 2 else order
