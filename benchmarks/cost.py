"""The cost of events and dead letters in dollars, from counted requests and list prices."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from local.engine import ROOT

#: Part → dollars.
Bill = dict[str, float]

PRICES: dict[str, Any] = tomllib.loads((Path(__file__).parent / "prices.toml").read_text())
MEMORY_GB = 0.5
#: The index by-conversation (template.yaml) takes one more write unit for each new event.
INDEX_UNITS = 1

#: Paths of dead letters through statemachine/triage.asl.json. Each state entered is a transition, and so is the start.
ROUTES: dict[str, Sequence[str]] = {
    "archived at once": ("Classify", "Decide", "Archive", "SettleArchived", "Archived"),
    "recovered at the first retry": (
        *("Classify", "Decide", "BackOff", "Redrive"),
        *("Classify", "Decide", "SettleRecovered", "Recovered"),
    ),
    "archived after five retries": (
        *("Classify", "Decide", "BackOff", "Redrive") * 5,
        *("Classify", "Decide", "Archive", "SettleArchived", "Archived"),
    ),
}
#: The states of the circuit breaker (statemachine/circuit_breaker.asl.json) before, for and after its probes.
OPENING = ("Inspect", "Decide", "Open", "AnnounceOpened", "Decide")
PROBING = ("Wait", "Probe", "Decide")
CLOSING = ("Close", "Resuming", "ConfirmClosed", "Decide", "AnnounceClosed", "Closed")
#: Requests to AWS of the function behind each state, for one dead letter (counted in the adapters).
REQUESTS: dict[str, Counter[str]] = {
    "intake": Counter({"s3.write": 1, "stepfunctions": 1}),
    "Classify": Counter({"s3.read": 1, "dynamodb.read_unit": 2}),
    "Redrive": Counter({"s3.read": 1, "sqs.request": 1}),
    "Archive": Counter({"s3.read": 1, "s3.write": 1, "dynamodb.read_unit": 2}),
    "SettleArchived": Counter({"s3.delete": 1, "eventbridge.event": 1}),
    "SettleRecovered": Counter({"s3.delete": 1, "eventbridge.event": 1}),
}
#: Duration of a warm run of a triage function in seconds, and the memory of most of them.
TRIAGE_SECONDS = 0.1
TRIAGE_GB = 0.25


def million_events(counts: Mapping[str, int], milliseconds: float, records: int, event_bytes: int) -> Bill:
    """A million events from the buffer into the table.

    Args:
        counts: What the servers counted for one batch.
        milliseconds: The duration of one batch.
        records: The number of events in a batch.
        event_bytes: The size of an event.
    """
    batches = 1_000_000 / records
    sent = 1_000_000 * _chunks(event_bytes, PRICES["sqs"]["chunk_bytes"])
    received = batches * _chunks(event_bytes * records, PRICES["sqs"]["chunk_bytes"])
    return {
        "queue": (sent + received + batches) * PRICES["sqs"]["request"],
        "Lambda requests": batches * PRICES["lambda"]["request"],
        "Lambda time": batches * milliseconds / 1000 * MEMORY_GB * PRICES["lambda"]["gigabyte_second"],
        "table": batches * counts["write units"] * PRICES["dynamodb"]["write_unit"],
    }


def publication(event_bytes: int) -> Bill:
    """What only our pipeline does: it indexes events by conversation and publishes them on the enriched bus."""
    return {
        "index by conversation": 1_000_000 * INDEX_UNITS * PRICES["dynamodb"]["write_unit"],
        "enriched bus": 1_000_000
        * _chunks(event_bytes, PRICES["eventbridge"]["chunk_bytes"])
        * _price("eventbridge.event"),
    }


def thousand_letters(route: Sequence[str]) -> Bill:
    """Triage of a thousand dead letters that take this path, with full intake batches of ten."""
    requests = sum((REQUESTS.get(step, Counter()) for step in ("intake", *route)), Counter[str]())
    runs = sum(step in REQUESTS for step in route) + 0.1
    return {
        "transitions": 1000 * transitions(route) * PRICES["stepfunctions"]["transition"],
        "Lambda": 1000
        * runs
        * (_price("lambda.request") + TRIAGE_SECONDS * TRIAGE_GB * _price("lambda.gigabyte_second")),
        "requests": 1000 * sum(number * _price(name) for name, number in requests.items()),
    }


def incident(probes: int) -> Sequence[str]:
    """The path of a circuit breaker's execution whose last probe, of so many, is healthy."""
    return (*OPENING, *PROBING * probes, *CLOSING)


def transitions(route: Sequence[str], machine: str = "triage") -> int:
    """State transitions of an execution that takes this path.

    Raises:
        ValueError: The state machine has no such path.
    """
    states = json.loads((ROOT / "statemachine" / f"{machine}.asl.json").read_text())["States"]
    for here, there in pairwise(route):
        if f'"{there}"' not in json.dumps(states[here]):
            raise ValueError(f"The state machine has no transition from {here} to {there}.")
    return len(route) + 1


def requests_of(route: Sequence[str]) -> int:
    """Requests to AWS for a dead letter that takes this path, including its intake."""
    return sum(REQUESTS.get(step, Counter()).total() for step in ("intake", *route))


def _price(name: str) -> float:
    """Dollars for one. Requests that are not in the table are free (deletes, StartExecution)."""
    service, _, unit = name.partition(".")
    return float(PRICES[service].get(unit, 0.0))


def _chunks(size: int, chunk: int) -> int:
    return -(-size // chunk)
