"""``make demo``: a burst of events, an outage of Genesys in the middle of it, and a reconciliation at the end.

It exits with 0 only if every event is accounted for. It leaves nothing running, also if it is interrupted.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import PurePosixPath

from botocore.exceptions import BotoCoreError
from rich.console import Console
from rich.table import Table

from holdfast.domain.letters import SNAPSHOT_PREFIX
from local.environment import SHORT_WAITS, LocalStack
from local.errors import LocalError, exit_code
from local.eventually import NotReachedError, eventually
from local.genesys import GenesysStandIn
from local.publications import subscribe
from local.reconciliation import look, messages
from local.sending import Sender
from local.traffic import OUTAGE_FROM, OUTAGE_TO, Item, burst
from local.watch import Counts, Watch, count, queue_length
from ops.audit import Audit, Auditor, Place
from ops.deployed import executions, history, keys
from ops.execution_report import execution_report, steps
from ops.reconciliation import Holdings, Reconciliation, reconcile, shortened

EVENTS = 600
#: The rate of a campaign launch: 10,000 calls a minute.
EVENTS_PER_SECOND = 10_000 / 60
MAX_CONCURRENCY = 4
#: Factor on the waits in triage: two hours take 36 seconds.
WAIT_SCALE = 0.005
#: Short backoff in the buffer: an outage of seconds is long enough for events to reach the DLQ.
PARAMETERS = {"EnrichmentPolicy": "required", "MaxConcurrency": str(MAX_CONCURRENCY), **SHORT_WAITS}
#: The outage ends when this many redriven events have reached the DLQ again.
DEAD_LETTERED_AGAIN = 3
DOWN_SECONDS = 3
#: The outage begins when this share of the sent events is stored.
WARM = 0.85
#: Enough for a busy machine.
STEP_SECONDS = 240
POLL_SECONDS = 0.5

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
        demo = Demo(console, local, burst(EVENTS, random.Random(), datetime.now(UTC)))
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
            self._send(OUTAGE_FROM, OUTAGE_TO)
            self._genesys.set_faults({"down": True})
            self._watch.say("Outage: the Genesys API closes every connection", "red")
            time.sleep(DOWN_SECONDS)
            self._genesys.set_faults({"status": 503})
            self._watch.say("Outage: 503 again, until redriven events reach the DLQ again", "red")
            self._until(self._dead_lettered_again, f"{DEAD_LETTERED_AGAIN} redriven events are in the DLQ again")
            self._genesys.set_faults()
            self._watch.say("The Genesys API is back; sending the rest of the burst", "green")
            self._send(OUTAGE_TO, 1)
            self._watch.say("All sent; waiting until every event is stored or archived")
            self._until(self._at_rest, "queues and triage are empty, and every stored event is published")
            self._watch.phase = "every event is stored or archived"

    def report(self) -> bool:
        """Print the reconciliation, the archive and two execution reports. Returns whether everything is right."""
        holdings = look(self._stack)
        published = Counter(json.loads(body)["detail"]["eventId"] for body in messages(self._stack, self._published))
        result = reconcile(self._sender.sent.values(), holdings)
        audit = Auditor(self._stack).of_events(self._sender.sent, wait_seconds=0)
        problems = [*result.problems, *_unpublished(holdings, published), *_differences(audit, result)]
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

    def _send(self, start: float, end: float) -> None:
        """Send a part of the plan. ``start`` and ``end`` are shares of it."""
        part = self._plan[int(start * len(self._plan)) : int(end * len(self._plan))]
        self._sender.send_at_rate(part, EVENTS_PER_SECOND)

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        try:
            eventually(reached, what, STEP_SECONDS, every=POLL_SECONDS)
        except NotReachedError as err:
            raise LocalError(f"{err}\n{self._where()}") from err

    def _first_part_stored(self) -> bool:
        """The workers are warm then and have cached the agents so far."""
        return self._count().stored >= WARM * len(self._sender.sent)

    def _dead_lettered_again(self) -> bool:
        """An event that reached the DLQ twice has two snapshots. So has one that was delivered twice."""
        snapshots = Counter(key.split("/")[1] for key in keys(self._stack, SNAPSHOT_PREFIX))
        twice = {event_id for event_id, count in snapshots.items() if count > 1}
        return len(twice - self._sender.copied) >= DEAD_LETTERED_AGAIN

    def _at_rest(self) -> bool:
        counts = self._count()
        waiting = counts.buffer or counts.triage or keys(self._stack, SNAPSHOT_PREFIX)
        return not waiting and queue_length(self._stack, self._published) >= counts.stored

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
            ("audited", str(len(audit.events)), "the same result with AWS's APIs only (make audit)"),
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

    def _print_executions(self) -> None:
        workflows = self._stack.client("stepfunctions")
        ended = [execution["executionArn"] for execution in executions(self._stack, statusFilter="SUCCEEDED")]
        outputs = {arn: json.loads(workflows.describe_execution(executionArn=arn)["output"]) for arn in ended}
        recovered = [arn for arn, output in outputs.items() if output["outcome"] == "RECOVERED"]
        archived = [arn for arn, output in outputs.items() if output["outcome"] == "ARCHIVED"]
        most_redrives = sorted(recovered, key=lambda arn: -outputs[arn]["redrives"])
        for kind, arns in (("a recovered", most_redrives), ("an archived", archived)):
            for arn in arns[:1]:
                title, name = f"Execution report of {kind} dead letter", arn.rsplit(":", 1)[-1]
                self._console.print()
                self._console.print(execution_report(title, name, steps(history(self._stack, arn))))
        self._console.print(f"\n[dim]The waits are those on AWS; here they took 1/{round(1 / WAIT_SCALE)} as long.[/]")


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
