"""Handlers side by side, in one process on one core, against the same servers on the other one.

Everything is order-balanced: each round calls every handler once, and from round to round the order rotates and turns
around. Before each measured call the handler works on one small event that is not measured: in Lambda it would share
its processor's caches with nobody. A ratio is the median of the ratios within a round, so that what slows the machine
for a while slows both sides. Our own handler runs twice in each round: how far the two differ is the A/A control, and a
difference inside of it is no difference.
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
from typing import Any

from benchmarks import events
from benchmarks.servers import Upstream

OURS, CONTROL, FLOOR = "holdfast", "holdfast, again", "floor"
PEERS = ("per_event", "powertools", "threaded")
RECORDS = 10

Handler = Callable[[dict[str, Any], Any], Any]


class Context:
    """Lambda's context, as far as the handlers look at it."""

    function_name = "bench"
    function_version = "1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
    memory_limit_in_mb = 512
    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Always the whole time-out."""
        return 30_000


@dataclass(frozen=True)
class Samples:
    """What each handler took in each round, in milliseconds per batch."""

    by_name: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """The median of one handler."""
        return statistics.median(self.by_name[name])

    def ratio(self, name: str, to: str) -> float:
        """How many times as long one handler takes as another: the median over the rounds."""
        pairs = zip(self.by_name[name], self.by_name[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    @property
    def control(self) -> float:
        """Our handler against itself; what is measured is no better than this is close to 1."""
        return self.ratio(CONTROL, OURS)


class Contest:
    """The handlers, ready to run against one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        """Import the handlers with the environment that they find in Lambda."""
        os.environ.update(environment(upstream.url))
        ours = importlib.import_module("processor.app").lambda_handler
        self.upstream = upstream
        self.handlers: dict[str, Handler] = {OURS: ours, CONTROL: ours}
        for name in (*PEERS, FLOOR):
            self.handlers[name] = importlib.import_module(f"benchmarks.peers.{name}").lambda_handler
        self._known = events.some_users(RECORDS)
        for name in self.handlers:
            self._timed(name, events.batch(RECORDS, 1, self._known), time.perf_counter)

    def latency(self, kilobytes: int, *, known_users: bool, rounds: int) -> Samples:
        """Wall-clock time of one batch."""
        return self._run(kilobytes, time.perf_counter, rounds, known_users=known_users)

    def cpu(self, kilobytes: int, *, rounds: int, records: int = RECORDS, names: Sequence[str] = ()) -> Samples:
        """Processor time of one batch whose users are known, all threads together."""
        return self._run(kilobytes, time.process_time, rounds, records=records, names=names)

    def calls(self, kilobytes: int, *, known_users: bool) -> dict[str, Counter[str]]:
        """What each handler asks of the servers for one batch."""
        found = {}
        for name in self.handlers:
            self.upstream.take_counts()
            self._timed(name, self._batch(RECORDS, kilobytes, known_users=known_users), time.perf_counter)
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
                self._timed(name, events.batch(1, 1, self._known), clock)
                batch = self._batch(records, kilobytes, known_users=known_users)
                taken[name].append(self._timed(name, batch, clock))
        return Samples(taken)

    def _batch(self, records: int, kilobytes: int, *, known_users: bool) -> dict[str, Any]:
        return events.batch(records, kilobytes, self._known if known_users else events.some_users(records))

    def _timed(self, name: str, batch: dict[str, Any], clock: Callable[[], float]) -> float:
        """One call, in milliseconds. What a handler logs is written, and goes nowhere."""
        if name == FLOOR:
            importlib.import_module("benchmarks.peers.floor").prepare(batch)
        handler = self.handlers[name]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - not a path
            began = clock()
            answer = handler(batch, Context())
            ended = clock()
        if answer != {"batchItemFailures": []}:
            raise AssertionError(f"{name} failed: a benchmark of failures measures nothing")
        return (ended - began) * 1000


def growth_exponent(cpu_by_records: Mapping[int, float]) -> float:
    """The slope of CPU over the number of records, both logarithmic: 1 is linear growth."""
    points = [(math.log(records), math.log(cpu)) for records, cpu in cpu_by_records.items()]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def environment(url: str) -> dict[str, str]:
    """The environment of the functions, with both upstreams at one URL."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "EVENTS_TABLE_NAME": "events",
        "IDEMPOTENCY_TABLE_NAME": "idempotency",
        "ATTEMPTS_TABLE_NAME": "attempts",
        "BUFFER_QUEUE_URL": f"{url}/000000000000/buffer",
        "ARCHIVE_BUCKET_NAME": "archive",
        "EVENT_RETENTION_DAYS": "400",
        "ATTEMPT_RETENTION_DAYS": "30",
        "BACKOFF_BASE_SECONDS": "2",
        "BACKOFF_CAP_SECONDS": "300",
        "ENRICHMENT_POLICY": "required",
        "GENESYS_DOMAIN": "mypurecloud.com",
        "GENESYS_CREDENTIALS_SECRET_ARN": "secret",
        "GENESYS_API_URL": url,
        "GENESYS_LOGIN_URL": url,
        "POWERTOOLS_SERVICE_NAME": "processor",
    }


def balanced(names: list[str], number: int) -> list[str]:
    """The order of a round: rotated from one pair of rounds to the next, and turned around in every second one."""
    start = number // 2 % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if number % 2 else order
