"""``make demo``: a burst of events with an outage of Genesys in its middle, and the proof that nothing was lost.

It exits with 0 only if the balance by identity is right. Nothing is left when it ends, however it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from botocore.exceptions import BotoCoreError
from rich.console import Console
from rich.table import Table

from holdfast.domain.fan_out import SOURCE
from holdfast.domain.letters import SNAPSHOT_PREFIX
from local.audit import Audit, Auditor, Place, executions, keys
from local.engine import ACCOUNT, REGION
from local.environment import LocalStack
from local.errors import LocalError
from local.execution_report import history, steps, story
from local.genesys import GenesysStandIn
from local.reconciliation import Balance, Holdings, balance, look, messages, shortened
from local.sending import ENTRIES_PER_CALL, Sender
from local.stack import Stack
from local.traffic import OUTAGE_FROM, OUTAGE_TO, Item, burst
from local.watch import Counts, Watch, count, queue_length

EVENTS = 600
LEAST_EVENTS = 500
#: A campaign launch: ten thousand calls a minute.
EVENTS_PER_SECOND = 10_000 / 60
MAX_CONCURRENCY = 4
#: Two hours in triage take 36 seconds here.
WAIT_SCALE = 0.005
#: Short waits inside the queue, so that an outage of seconds is long enough to kill an event there.
PARAMETERS = {
    "EnrichmentPolicy": "required",
    "MaxConcurrency": str(MAX_CONCURRENCY),
    "BatchWindowSeconds": "1",
    "BackoffBaseSeconds": "1",
    "BackoffCapSeconds": "1",
}
#: The outage goes on until this many letters have been redriven into it and died again.
DEAD_AGAIN = 3
DOWN_SECONDS = 3
#: It begins when this share of what was sent is stored.
WARM = 0.85
#: Far more than is needed, also on a machine that is busy with something else.
PATIENCE_SECONDS = 240
POLL_SECONDS = 0.5
PUBLISHED = "demo-published"
WIDTH = 100

RIGHT = """[bold green]The balance is right:[/] nothing is lost.
Every valid event is stored once, however often it came, and none was archived.
Everything else is archived once, with the very bytes that were sent."""
WRONG = "[bold red]The balance is wrong.[/]"

NEXT_STEPS = """[bold]What to do next[/]
  make up      the same application on a local AWS that stays, to send your own events to
  README.md    how it works, how to deploy it to AWS, how to operate it"""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"how many are sent, at least {LEAST_EVENTS}")
    parser.add_argument("--seed", type=int, default=None, help="makes the same traffic again; by default it is random")
    options = parser.parse_args(arguments)
    if options.events < LEAST_EVENTS:
        parser.error(f"--events has to be at least {LEAST_EVENTS}")
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_plain_width())
    try:
        return _run(console, options.events, random.Random(options.seed))
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
    except BotoCoreError as err:
        print(
            f"The local AWS does not answer any more ({type(err).__name__}); nothing is left running.", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; nothing is left running.", file=sys.stderr)
        return 130


def _plain_width() -> int:
    """The width where no terminal tells one."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() else WIDTH


def _run(console: Console, events: int, rng: random.Random) -> int:
    start = time.monotonic()
    console.print("[bold]Holdfast[/]: a burst of Genesys Cloud events, with an outage of Genesys in the middle\n")
    stand_in = GenesysStandIn(requests_per_minute=100_000)
    with LocalStack(
        parameters=PARAMETERS,
        wait_scale=WAIT_SCALE,
        genesys=stand_in,
        say=lambda line: console.print(line, style="dim"),
    ) as local:
        console.print(f"[dim]Ready after {time.monotonic() - start:.0f} s[/]\n")
        demo = Demo(console, local, burst(events, rng, datetime.now(UTC)))
        demo.play()
        right = demo.report()
    console.print(f"\n{NEXT_STEPS}")
    console.print(f"[dim]It took {time.monotonic() - start:.0f} s, and nothing is left running.[/]")
    return 0 if right else 1


class Demo:
    """One run on a deployed stack."""

    def __init__(self, console: Console, local: LocalStack, plan: Sequence[Item]) -> None:
        self._console = console
        self._genesys = local.genesys
        self._stack = local.stack
        self._plan = plan
        self._sender = Sender(local.stack)
        self._published = collect_publications(local.stack)
        self._watch = Watch(console, self._count, planned=len(plan), limit=MAX_CONCURRENCY)

    def play(self) -> None:
        """Send the burst with the outage in its middle, and wait until everything has come to rest.

        Raises:
            LocalError: Something did not happen in time; it says what is where.
        """
        with self._watch:
            self._watch.say(f"The burst begins: {len(self._plan)} deliveries, {EVENTS_PER_SECOND * 60:,.0f} a minute")
            self._send(0, OUTAGE_FROM)
            self._until(self._first_part_stored, "most events of the first part stored")
            self._genesys.set_faults({"status": 503})
            self._watch.say("Genesys answers 503 to everything, in the middle of the burst", "red")
            self._send(OUTAGE_FROM, OUTAGE_TO)
            self._genesys.set_faults({"down": True})
            self._watch.say("Genesys closes every connection without an answer", "red")
            time.sleep(DOWN_SECONDS)
            self._genesys.set_faults({"status": 503})
            self._watch.say("Genesys answers 503 again; what was tried too often goes to triage, and dies again", "red")
            self._until(self._died_again, f"{DEAD_AGAIN} letters that were redriven into the outage and died again")
            self._genesys.set_faults()
            self._watch.say("Genesys is back; the rest of the burst comes", "green")
            self._send(OUTAGE_TO, 1)
            self._watch.say("All is sent; waiting until everything is stored or archived")
            self._until(self._at_rest, "queues and triage empty, and every stored event published")
            self._watch.phase = "everything has come to rest"

    def report(self) -> bool:
        """Print the balance, the archive and two stories; whether the balance is right."""
        holdings = look(self._stack)
        published = Counter(json.loads(body)["detail"]["eventId"] for body in messages(self._stack, self._published))
        result = balance(self._sender.sent.values(), holdings)
        audit = Auditor(self._stack).of_events(self._sender.sent, again=0)
        faults = [*result.faults, *_faults_of_publications(holdings, published), *self._faults_of_concurrency()]
        faults += _faults_of_audit(audit, result)
        self._print_balance(result, published, audit)
        self._print_archive(holdings)
        self._print_stories()
        for fault in faults:
            self._console.print(f"[bold red]wrong:[/] {fault}", soft_wrap=True)
        if result.lost:
            self._console.print(f"[bold red]lost:[/] {shortened(result.lost)}", soft_wrap=True)
        right = result.right and not faults
        self._console.print(f"\n{RIGHT if right else WRONG}")
        return right

    # -- what happens ----------------------------------------------------------------------------------------

    def _send(self, start: float, end: float) -> None:
        """Send this part of the plan at the pace of the burst."""
        part = self._plan[int(start * len(self._plan)) : int(end * len(self._plan))]
        due = time.monotonic()
        for first in range(0, len(part), ENTRIES_PER_CALL):
            items = part[first : first + ENTRIES_PER_CALL]
            self._sender.send(items)
            due += len(items) / EVENTS_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                raise LocalError(f"After {PATIENCE_SECONDS} s there are not yet {what}.\n{self._where()}")
            time.sleep(POLL_SECONDS)

    def _first_part_stored(self) -> bool:
        """The workers are warm then and know the agents so far, as in the middle of a day."""
        return self._count().stored >= WARM * len(self._sender.sent)

    def _died_again(self) -> bool:
        """A letter that died again has the evidence of both deaths, and so has one that was sent twice."""
        deaths = Counter(key.split("/")[1] for key in keys(self._stack, SNAPSHOT_PREFIX))
        return sum(times > 1 for letter, times in deaths.items() if letter not in self._sender.copied) >= DEAD_AGAIN

    def _at_rest(self) -> bool:
        counts = self._count()
        waiting = counts.buffer or counts.triage or keys(self._stack, SNAPSHOT_PREFIX)
        return not waiting and queue_length(self._stack, self._published) >= counts.stored

    def _where(self) -> str:
        """Everything that is not where it belongs."""
        holdings = look(self._stack)
        result = balance(self._sender.sent.values(), holdings)
        lines = [f"Sent {result.sent}, stored {result.stored}, archived {result.archived}, lost {len(result.lost)}."]
        lines += result.faults
        return "\n".join(lines)

    def _count(self) -> Counts:
        return count(self._stack, self._sender.deliveries, self._sender.copies)

    def _faults_of_concurrency(self) -> list[str]:
        peak = self._count().peak
        return [f"{peak} invocations ran at once, allowed are {MAX_CONCURRENCY}"] if peak > MAX_CONCURRENCY else []

    # -- what is shown ---------------------------------------------------------------------------------------

    def _print_balance(self, result: Balance, published: Counter[str], audit: Audit) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_column(style="dim")
        again = sum(published.values()) - len(published)
        lost = f"[bold green]{0}[/]" if not result.lost else f"[bold red]{len(result.lost)}[/]"
        rows = (
            ("sent", str(result.sent), f"identities, in {self._sender.deliveries} deliveries"),
            ("stored", str(result.stored), f"{self._count().recovered} dead letters were recovered by triage"),
            ("archived", str(result.archived), "no event and never going to be one"),
            ("in custody", str(result.in_custody), "in a queue or in triage"),
            ("lost", lost, "sent, and nowhere to be found"),
            ("audited", str(len(audit.found)), "the same by AWS's own APIs alone, as make audit does it"),
            ("published", str(len(published)), f"on the enriched bus, {again} of them more than once"),
        )
        for row in rows:
            table.add_row(*row)
        self._console.print("\n[bold cyan]The balance by identity[/]")
        self._console.print(table)

    def _print_archive(self, holdings: Holdings) -> None:
        self._console.print(f"\n[bold cyan]The archive[/]  [dim]s3://{self._stack.outputs['ArchiveBucketName']}/[/]")
        archived = sorted(letter.key for letter in holdings.archive)
        for folder, names in groupby(archived, lambda key: key.rpartition("/")[0]):
            self._console.print(f"  {folder}/")
            for name in names:
                self._console.print(f"    {name.rpartition('/')[2]}", style="dim", soft_wrap=True)

    def _print_stories(self) -> None:
        ended = [execution for execution in executions(self._stack) if execution["status"] == "SUCCEEDED"]
        outputs = {execution["executionArn"]: self._output(execution["executionArn"]) for execution in ended}
        recovered = [arn for arn, output in outputs.items() if output["outcome"] == "RECOVERED"]
        archived = [arn for arn, output in outputs.items() if output["outcome"] == "ARCHIVED"]
        patient = sorted(recovered, key=lambda arn: -outputs[arn]["redrives"])
        for kind, arns in (("recovered", patient), ("archived", archived)):
            for arn in arns[:1]:
                title = f"The execution of one {kind} letter"
                self._console.print()
                self._console.print(story(title, arn.rsplit(":", 1)[-1], steps(history(self._stack, arn))))
        self._console.print(
            f"\n[dim]Waits are told as they are on AWS; here they took 1/{round(1 / WAIT_SCALE)} of it.[/]"
        )

    def _output(self, execution_arn: str) -> dict[str, Any]:
        described = self._stack.client("stepfunctions").describe_execution(executionArn=execution_arn)
        output: dict[str, Any] = json.loads(described["output"])
        return output


def collect_publications(stack: Stack) -> str:
    """Subscribe a queue to the enriched bus, as a user's rule would; its URL."""
    url: str = stack.client("sqs").create_queue(QueueName=PUBLISHED)["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{PUBLISHED}"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    bus, events = stack.outputs["EnrichedBusName"], stack.client("events")
    events.put_rule(Name=PUBLISHED, EventBusName=bus, EventPattern=json.dumps({"source": [SOURCE]}))
    events.put_targets(Rule=PUBLISHED, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return url


def _faults_of_audit(audit: Audit, result: Balance) -> list[str]:
    """The audit looks into no queue, and has to find the same."""
    found = (len(audit.at(Place.STORED)), len(audit.at(Place.ARCHIVED)), audit.lost)
    counted = (result.stored, result.archived, len(result.lost))
    return [] if found == counted else [f"the audit finds {found}, the balance {counted}: stored, archived, lost"]


def _faults_of_publications(holdings: Holdings, published: Counter[str]) -> list[str]:
    silent, strange = holdings.stored.keys() - published.keys(), published.keys() - holdings.stored.keys()
    faults = [f"stored events that were not published: {len(silent)} ({shortened(silent)})"] if silent else []
    return faults + (
        [f"published events that are not stored: {len(strange)} ({shortened(strange)})"] if strange else []
    )


if __name__ == "__main__":
    sys.exit(main())
