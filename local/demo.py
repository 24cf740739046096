"""``make demo``: a burst of events, an outage of Genesys that opens the circuit, and a reconciliation at the end.

It exits with 0 only if every event is accounted for. It leaves nothing running, also if it is interrupted.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import PurePosixPath
from textwrap import shorten
from typing import Any

from botocore.exceptions import BotoCoreError
from rich.console import Console
from rich.table import Table

from holdfast.domain.letters import SNAPSHOT_PREFIX
from local.environment import SHORT_WAITS, LocalStack
from local.errors import LocalError, exit_code
from local.eventually import NotReachedError, eventually
from local.genesys import GenesysStandIn
from local.mappings import processing_of
from local.publications import subscribe
from local.reconciliation import look, messages
from local.sending import Sender
from local.traffic import OUTAGE_FROM, OUTAGE_TO, Item, burst
from local.watch import Counts, Watch, count, queue_length
from ops.audit import Audit, Auditor, Place
from ops.deployed import executions, history, keys
from ops.execution_report import execution_report, steps
from ops.pause import ProcessingState
from ops.reconciliation import Holdings, Reconciliation, reconcile, shortened

EVENTS = 600
#: The rate of a campaign launch: 10,000 calls a minute.
EVENTS_PER_SECOND = 10_000 / 60
MAX_CONCURRENCY = 4
#: Factor on the waits in triage: two hours take 36 seconds.
WAIT_SCALE = 0.005
#: Short backoff in the buffer: some events reach the DLQ before the circuit opens. The minimum is for the rate of the
#: outage and for the alarm's period on the engine, which is some seconds. Second copies and invalid bodies do not fail.
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": str(MAX_CONCURRENCY),
    "CircuitBreakerMinEvents": "20",
    "CircuitBreakerFailurePercent": "75",
    **SHORT_WAITS,
}
#: Slow enough for the outage to last for two periods of the alarm.
OUTAGE_EVENTS_PER_SECOND = 25
#: The outage ends after this many probes.
FAILED_PROBES = 2
#: The outage begins when this share of the sent events is stored.
WARM = 0.85
#: The share of the burst that is sent before the circuit closes.
OPEN_TO = 0.8
#: Enough for a busy machine.
STEP_SECONDS = 240
POLL_SECONDS = 0.5
#: How much of the cause of a failed execution is printed.
CAUSE_SHOWN = 300

PASSED = """[bold green]Reconciliation: every event is accounted for.[/]
Every valid event is stored exactly once, also if it was delivered twice.
Every invalid body is archived once, byte for byte as it was sent."""
FAILED = "[bold red]Reconciliation failed: see the lines above.[/]"

NEXT_STEPS = """[bold]Next steps[/]
  make up      run the application in the background and send your own events
  README.md    how it works, how to deploy it to AWS, how to operate it"""


def main() -> int:
    """Run the demo."""
    console = Console(highlight=False)
    try:
        return _run(console)
    except BotoCoreError as err:
        print(f"The local AWS stopped ({type(err).__name__}). Nothing is left running.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing is left running.", file=sys.stderr)
        return 130


def _run(console: Console) -> int:
    start = time.monotonic()
    console.print("[bold]Holdfast[/]: a burst of Genesys Cloud events, with an outage in the middle\n")
    stand_in = GenesysStandIn(requests_per_minute=100_000)
    with LocalStack(
        parameters=PARAMETERS,
        wait_scale=WAIT_SCALE,
        genesys=stand_in,
        say=lambda line: console.print(line, style="dim"),
    ) as local:
        console.print(f"[dim]Ready after {time.monotonic() - start:.0f} s[/]\n")
        demo = Demo(console, local, burst(EVENTS, random.Random(), datetime.now(UTC), new_agent_every=1))
        demo.play()
        passed = demo.report()
    console.print(f"\n{NEXT_STEPS}")
    console.print(f"[dim]Finished in {time.monotonic() - start:.0f} s. Nothing is left running.[/]")
    return 0 if passed else 1


class Demo:
    """One run on a deployed stack."""

    def __init__(self, console: Console, local: LocalStack, plan: Sequence[Item]) -> None:
        self._console = console
        self._genesys = local.genesys
        self._stack = local.stack
        self._plan = plan
        self._sender = Sender(local.stack)
        self._published = subscribe(local.stack)
        self._watch = Watch(console, self._count, planned=len(plan), limit=MAX_CONCURRENCY)

    def play(self) -> None:
        """Send the burst with the outage in its middle, and wait until every event is stored or archived.

        Raises:
            LocalError: A step did not finish in time. The message says where the events are.
        """
        with self._watch:
            self._watch.say(f"Sending {len(self._plan)} deliveries at {EVENTS_PER_SECOND * 60:,.0f} a minute")
            self._send(0, OUTAGE_FROM)
            self._until(self._first_part_stored, "most events sent so far are stored")
            self._genesys.set_faults({"status": 503})
            self._watch.say("Outage: the Genesys API answers every request with 503", "red")
            self._send(OUTAGE_FROM, OUTAGE_TO, OUTAGE_EVENTS_PER_SECOND)
            self._watch.say("Waiting for the alarm: nearly every event fails", "red")
            self._until(self._paused, "the circuit breaker pauses processing")
            self._watch.say("The circuit is open: processing is paused, events wait in the buffer", "red")
            self._send(OUTAGE_TO, OPEN_TO)
            self._until(lambda: self._probes() >= FAILED_PROBES, f"{FAILED_PROBES} probes are finished")
            self._watch.say(f"{FAILED_PROBES} probes failed: the circuit stays open", "red")
            self._genesys.set_faults()
            self._watch.say("The Genesys API is back; waiting for the next probe", "green")
            self._until(self._closed, "a probe closes the circuit")
            self._watch.say("A probe was healthy: the circuit is closed; sending the rest", "green")
            self._send(OPEN_TO, 1)
            self._watch.say("All sent; waiting until every event is stored or archived")
            self._until(self._at_rest, "queues and triage are empty, and every stored event is published")
            self._watch.phase = "every event is stored or archived"

    def report(self) -> bool:
        """Print the reconciliation, the archive and three execution reports. Returns whether everything is right."""
        holdings = look(self._stack)
        published = Counter(json.loads(body)["detail"]["eventId"] for body in messages(self._stack, self._published))
        result = reconcile(self._sender.sent.values(), holdings)
        audit = Auditor(self._stack).of_events(self._sender.sent, wait_seconds=0)
        problems = [*result.problems, *_unpublished(holdings, published), *_differences(audit, result)]
        problems += self._failures()
        if (peak := self._count().peak) > MAX_CONCURRENCY:
            problems.append(f"{peak} invocations ran at once; {MAX_CONCURRENCY} are allowed")
        self._print_reconciliation(result, published, audit)
        self._print_archive(holdings)
        self._print_executions()
        for problem in problems:
            self._console.print(f"[bold red]wrong:[/] {problem}", soft_wrap=True)
        if result.lost:
            self._console.print(f"[bold red]lost:[/] {shortened(result.lost)}", soft_wrap=True)
        passed = result.passed and not problems
        self._console.print(f"\n{PASSED if passed else FAILED}")
        return passed

    def _send(self, start: float, end: float, per_second: float = EVENTS_PER_SECOND) -> None:
        """Send a part of the plan. ``start`` and ``end`` are shares of it."""
        part = self._plan[int(start * len(self._plan)) : int(end * len(self._plan))]
        self._sender.send_at_rate(part, per_second)

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        try:
            eventually(reached, what, STEP_SECONDS, every=POLL_SECONDS)
        except NotReachedError as err:
            raise LocalError(f"{err}\n{self._where()}") from err

    def _first_part_stored(self) -> bool:
        """The workers are warm then and have cached the agents so far."""
        return self._count().stored >= WARM * len(self._sender.sent)

    def _paused(self) -> bool:
        return processing_of(self._stack) is ProcessingState.PAUSED

    def _incident(self) -> str:
        """The first execution of the circuit breaker: another alarm could start a second one, which changes nothing."""
        arn: str = list(executions(self._stack, "CircuitBreaker"))[-1]["executionArn"]
        return arn

    def _probes(self) -> int:
        """How many probes the execution has finished."""
        exits = (event.get("stateExitedEventDetails", {}) for event in history(self._stack, self._incident()))
        return sum(details.get("name") == "Probe" for details in exits)

    def _closed(self) -> bool:
        return not any(executions(self._stack, "CircuitBreaker", statusFilter="RUNNING"))

    def _at_rest(self) -> bool:
        counts = self._count()
        waiting = counts.buffer or counts.triage or keys(self._stack, SNAPSHOT_PREFIX)
        return not waiting and self._closed() and queue_length(self._stack, self._published) >= counts.stored

    def _where(self) -> str:
        """What is stored and archived so far, and which events are somewhere else."""
        result = reconcile(self._sender.sent.values(), look(self._stack))
        counts = f"Sent {result.sent}, stored {result.stored}, archived {result.archived}, lost {len(result.lost)}."
        return "\n".join([counts, *result.problems])

    def _count(self) -> Counts:
        return count(self._stack, self._sender.deliveries, self._sender.copies)

    def _print_reconciliation(self, result: Reconciliation, published: Counter[str], audit: Audit) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_column(style="dim")
        again = sum(published.values()) - len(published)
        lost = f"[bold {'red' if result.lost else 'green'}]{len(result.lost)}[/]"
        rows = (
            ("sent", str(result.sent), f"different events, in {self._sender.deliveries} deliveries"),
            ("stored", str(result.stored), f"{self._count().recovered} of them recovered by triage from the DLQ"),
            ("archived", str(result.archived), "invalid bodies; a redrive cannot help"),
            ("in progress", str(result.in_progress), "in a queue or in triage"),
            ("lost", lost, "sent, but in no queue and in no store"),
            ("audited", str(len(audit.events)), "the same result with AWS's APIs only (holdfast audit)"),
            ("published", str(len(published)), f"on the enriched bus, {again} of them more than once"),
        )
        for row in rows:
            table.add_row(*row)
        self._console.print("\n[bold cyan]Reconciliation by event id[/]")
        self._console.print(table)

    def _print_archive(self, holdings: Holdings) -> None:
        self._console.print(f"\n[bold cyan]The archive[/]  [dim]s3://{self._stack.outputs['ArchiveBucketName']}/[/]")
        archived = sorted(PurePosixPath(one.key) for one in holdings.archive)
        for folder, paths in groupby(archived, lambda path: path.parent):
            self._console.print(f"  {folder}/")
            for path in paths:
                self._console.print(f"    {path.name}", style="dim", soft_wrap=True)

    def _failures(self) -> Iterator[str]:
        """The error of each execution that ended without an outcome."""
        for machine in ("Triage", "CircuitBreaker"):
            for one in executions(self._stack, machine):
                if one["status"] not in ("RUNNING", "SUCCEEDED"):
                    yield f"{machine} execution {one['name']}: {self._failure(one['executionArn'])}"

    def _failure(self, arn: str) -> str:
        """The error and the cause, and the state that failed."""
        found = self._stack.client("stepfunctions").describe_execution(executionArn=arn)
        entered = [event["stateEnteredEventDetails"]["name"] for event in history(self._stack, arn) if _enters(event)]
        cause = shorten(found.get("cause", "no cause"), CAUSE_SHOWN)
        return f"{found['status']} in {entered[-1]}: {found.get('error', 'no error')}: {cause}"

    def _print_executions(self) -> None:
        self._print_execution("Execution report of the circuit breaker", self._incident())
        workflows = self._stack.client("stepfunctions")
        ended = [execution["executionArn"] for execution in executions(self._stack, statusFilter="SUCCEEDED")]
        outputs = {arn: json.loads(workflows.describe_execution(executionArn=arn)["output"]) for arn in ended}
        recovered = [arn for arn, output in outputs.items() if output["outcome"] == "RECOVERED"]
        archived = [arn for arn, output in outputs.items() if output["outcome"] == "ARCHIVED"]
        most_redrives = sorted(recovered, key=lambda arn: -outputs[arn]["redrives"])
        for kind, arns in (("a recovered", most_redrives), ("an archived", archived)):
            for arn in arns[:1]:
                self._print_execution(f"Execution report of {kind} dead letter", arn)
        self._console.print(f"\n[dim]The waits are those on AWS; here they took 1/{round(1 / WAIT_SCALE)} as long.[/]")

    def _print_execution(self, title: str, arn: str) -> None:
        self._console.print()
        name = arn.rsplit(":", 1)[-1]
        self._console.print(execution_report(title, name, steps(history(self._stack, arn))))


def _enters(event: Mapping[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


def _differences(audit: Audit, result: Reconciliation) -> Iterator[str]:
    """The audit does not read the queues, but it must find the same."""
    found = (len(audit.at(Place.STORED)), len(audit.at(Place.ARCHIVED)), audit.lost)
    counted = (result.stored, result.archived, len(result.lost))
    if found != counted:
        yield f"stored, archived, lost: the audit finds {found}, the reconciliation {counted}"


def _unpublished(holdings: Holdings, published: Counter[str]) -> Iterator[str]:
    for what, ids in (
        ("stored events that were not published", holdings.stored.keys() - published.keys()),
        ("published events that are not stored", published.keys() - holdings.stored.keys()),
    ):
        if ids:
            yield f"{what}: {len(ids)} ({shortened(ids)})"


if __name__ == "__main__":
    sys.exit(exit_code(main))
