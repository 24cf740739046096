"""``holdfast replay``: send archived letters back through the pipeline, a few of them first."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from holdfast.domain.envelope import format_time
from holdfast.domain.replay import ARCHIVE_PREFIX, BEFORE, NOT_SELECTED
from ops import options, screen
from ops.deployed import AwsStack, DeployedStack, executions
from ops.errors import CommandError
from ops.letters import Filter, Letter, archived_letters

CANARY = 10
#: The other letters follow if at least this share of the canary did not fail, in percent.
CANARY_PERCENT = 90
#: Outcomes that are no failures: stored, skipped or not selected.
_OUTCOMES_WITHOUT_FAILURE = {"RECOVERED", f"RECOVERED{BEFORE}", "SKIPPED", NOT_SELECTED}
_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did.

    Attributes:
        counts: Letters by category and outcome, for example ``"EXHAUSTED RECOVERED"``; of a dry run by category.
        report: The key of the report in the archive bucket.
        dry_run: Whether the letters were only counted.
        canary: Whether these are the letters of the canary only, because too few of their events were stored.
    """

    counts: Mapping[str, int]
    report: str = ""
    dry_run: bool = False
    canary: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether no letter failed."""
        return self.dry_run or all(name.split()[-1] in _OUTCOMES_WITHOUT_FAILURE for name in self.counts)


@dataclass
class SelectedLetters:
    """The letters that a replay would take, as far as the keys show: how many, and the newest ones for the canary."""

    size: int
    count: int = 0
    newest: list[Letter] = field(default_factory=list)

    def take(self, letters: Sequence[Letter], _keys: int) -> None:
        """Count a page of letters."""
        self.count += len(letters)
        self.newest = sorted([*self.newest, *letters], key=lambda one: one.at, reverse=True)[: self.size]


# -- the executions ------------------------------------------------------------------------------------------------


def start(stack: DeployedStack, replay_input: Mapping[str, Any]) -> str:
    """Start the replay state machine. Returns the ARN of the execution."""
    client, machine = stack.client("stepfunctions"), stack.outputs["ReplayStateMachineArn"]
    arn: str = client.start_execution(stateMachineArn=machine, input=json.dumps(replay_input))["executionArn"]
    return arn


def running_replays(stack: DeployedStack) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The replays that run, and their inputs."""
    client = stack.client("stepfunctions")
    found = list(executions(stack, "Replay", statusFilter="RUNNING"))
    inputs = [client.describe_execution(executionArn=one["executionArn"]).get("input") for one in found]
    return list(zip(found, (json.loads(text or "{}") for text in inputs), strict=True))


def wait_for_output(stack: DeployedStack, arn: str, look: Callable[[], None] = lambda: None) -> Mapping[str, Any]:
    """Wait for the end of a replay, and return its output. ``look`` is called while it runs.

    Raises:
        CommandError: It failed, was stopped or timed out.
    """
    while True:
        described = stack.client("stepfunctions").describe_execution(executionArn=arn)
        if described["status"] == "SUCCEEDED":
            output: dict[str, Any] = json.loads(described["output"])
            return output
        if described["status"] != "RUNNING":
            raise CommandError(_ended_message(described))
        look()
        time.sleep(_POLL_SECONDS)


def _ended_message(described: Mapping[str, Any]) -> str:
    why = f" with {described['error']}" if described.get("error") else ""
    return (
        f"The replay {described['name']} ended as {described['status']}{why}. To do the rest only, run the "
        "command again with the same options and with times instead of --since 2d."
    )


def _progress_of(stack: DeployedStack, arn: str) -> tuple[int, int]:
    """How many letters a replay has finished, and how many it has in all."""
    client = stack.client("stepfunctions")
    runs = client.list_map_runs(executionArn=arn)["mapRuns"]
    if not runs:
        return 0, 0
    counts = client.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"]
    return counts["succeeded"] + counts["failed"] + counts["timedOut"] + counts["aborted"], counts["total"]


def wait_with_progress(stack: DeployedStack, arn: str) -> Mapping[str, Any]:
    """Wait for the end of a replay with a progress bar.

    Raises:
        CommandError: It did not end well, or the person stopped watching.
    """
    with screen.progress() as shown:
        task = shown.add_task("replayed letters", total=None)

        def look() -> None:
            done, total = _progress_of(stack, arn)
            shown.update(task, completed=done, total=total or None)

        try:
            return wait_for_output(stack, arn, look)
        except KeyboardInterrupt:
            raise CommandError(
                f"The replay {arn.rpartition(':')[2]} goes on. Watch it again: the same command. Stop it: holdfast "
                "replay --stop"
            ) from None


def replay_canary(stack: DeployedStack, replay_input: Mapping[str, Any], letters: Sequence[Letter]) -> Counter[str]:
    """Replay these letters, each by a replay of its own. Returns them by category and outcome."""
    arns = [start(stack, {**replay_input, "prefix": letter.key}) for letter in letters]
    counts: Counter[str] = Counter()
    with screen.errors().status(f"Replaying {len(arns)} letters first ..."):
        for arn in arns:
            counts.update(wait_for_output(stack, arn)["counts"])
    return counts


def _canary_succeeded(counts: Mapping[str, int]) -> bool:
    succeeded = sum(count for name, count in counts.items() if name.split()[-1] in _OUTCOMES_WITHOUT_FAILURE)
    return 100 * succeeded >= CANARY_PERCENT * sum(counts.values())


# -- show ----------------------------------------------------------------------------------------------------------


def render(result: ReplayResult) -> RenderableType:
    """The letters by category and outcome, and what to do next."""
    table = screen.table("letters", "category", "outcome", right=["letters"])
    for name, count in result.counts.items():
        category, _, outcome = name.rpartition(" ")
        table.add_row(f"{count:,}", category or outcome, outcome if category else "")
    parts: list[RenderableType] = [table if result.counts else Text("No letters.")]
    if result.report:
        parts.append(Text(f"report {result.report}", style="dim"))
    return Group(*parts, *([Text(line) for line in _next(result)]))


def _next(result: ReplayResult) -> Iterator[str]:
    if result.dry_run:
        yield "Nothing was replayed."
    elif result.canary:
        yield "Too few of these events were stored, so nothing else was replayed."
        yield "The new verdicts: holdfast letters --archived --since 1h"
    elif not result.succeeded:
        yield "Some letters failed again: holdfast letters --archived --since 1h"


# -- the command ---------------------------------------------------------------------------------------------------


def replay(
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded with every execution.")] = "",
    category: Annotated[str, typer.Option("--category", help="For example EXHAUSTED.")] = "",
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Letters with the same error.")] = "",
    topic: Annotated[str, typer.Option("--topic", help="A topic, or its end: acd-start.")] = "",
    rule: Annotated[str, typer.Option("--rule", help="The rule of the verdict.")] = "",
    since: options.Since = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only what is older.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    first: Annotated[int, typer.Option("--canary", min=0, max=100, help="Letters to replay first; 0: none.")] = CANARY,
    force: Annotated[bool, typer.Option("--force", help="Also letters whose event a replay has stored.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the replays that run.")] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Replay archived letters: a few first, and the others if their events were stored.

    The same options continue a replay that was interrupted. Exit status 1: letters failed again.

    Example: holdfast replay --category EXHAUSTED --since 2d --reason "the secret is right again"
    """
    now = datetime.now(UTC)
    with screen.exit_on_error():
        deployed = AwsStack.named(stack, profile=profile, region=region)
        if stop:
            _stop(deployed, yes=yes)
            return
        if not reason and not dry_run:
            raise CommandError("Give a reason with --reason. It is recorded with every execution.")
        wanted = Filter.read(category, fingerprint, topic, since, now)
        begin, end = _hour(wanted.since), _hour(screen.parse_since(until, now) if until else None)
        where = {"detailType": topic, "rule": rule, "fingerprint": fingerprint, "from": begin, "to": end}
        replay_input = _input(wanted.category, where, reason=reason, force=force)
        result = _run(deployed, replay_input, wanted, dry_run=dry_run, first=first, yes=yes)
    screen.print_result(result, render, as_json=as_json)
    raise typer.Exit(0 if result.succeeded else 1)


def _input(category: str, where: Mapping[str, str], *, reason: str, force: bool) -> dict[str, Any]:
    """The input of the replay state machine. The same input is the same replay."""
    prefix = f"{ARCHIVE_PREFIX}category={category}/" if category else ARCHIVE_PREFIX
    selected = {name: value for name, value in where.items() if value}
    return {"prefix": prefix, "reason": reason, "force": force, **({"where": selected} if selected else {})}


def _hour(moment: datetime | None) -> str:
    """A time for the input, cut to the hour: a command with a relative time is the same replay within the hour."""
    return format_time(moment.replace(minute=0, second=0, microsecond=0)) if moment else ""


def _run(
    stack: DeployedStack, replay_input: dict[str, Any], wanted: Filter, *, dry_run: bool, first: int, yes: bool
) -> ReplayResult:
    if dry_run:
        with screen.errors().status("Counting ..."):
            return ReplayResult(
                wait_for_output(stack, start(stack, {**replay_input, "dryRun": True}))["counts"], dry_run=True
            )
    others = running_replays(stack)
    same = [execution for execution, given in others if _same(given, replay_input)]
    if same:
        screen.errors().print(f"This replay runs already: {same[0]['name']}. Nothing else was started.")
        return _result(wait_with_progress(stack, same[0]["executionArn"]))
    selected = _select(stack, wanted, first)
    screen.confirm(_question(selected.count, others, first), yes=yes)
    if first and selected.count > first:
        counts = replay_canary(stack, replay_input, selected.newest)
        if not _canary_succeeded(counts):
            return ReplayResult(counts, canary=True)
    return _result(wait_with_progress(stack, start(stack, replay_input)))


def _select(stack: DeployedStack, wanted: Filter, first: int) -> SelectedLetters:
    found = SelectedLetters(first)
    with screen.errors().status("Listing the archive ..."):
        archived_letters(stack, wanted, found.take)
    if not found.count:
        raise CommandError("No archived letter matches. What there is: holdfast letters --archived")
    return found


def _question(count: int, others: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], first: int) -> str:
    lines = [
        f"Another replay runs: {execution['name']}, since {execution['startDate'].astimezone():%H:%M}, reason: "
        f"{given.get('reason') or 'none'}."
        for execution, given in others
    ]
    before = f" {first} of them first." if first and count > first else ""
    return "\n".join([*lines, f"Replay up to {count:,} letters?{before}"])


def _same(given: Mapping[str, Any], replay_input: Mapping[str, Any]) -> bool:
    """Whether two inputs are the same replay."""
    return all(given.get(name) == replay_input.get(name) for name in ("prefix", "reason", "where")) and bool(
        given.get("force")
    ) is bool(replay_input.get("force"))


def _result(report: Mapping[str, Any]) -> ReplayResult:
    return ReplayResult(report["counts"], report=report["report"])


def _stop(stack: DeployedStack, *, yes: bool) -> None:
    found = running_replays(stack)
    if not found:
        raise CommandError("No replay runs.")
    names = ", ".join(execution["name"] for execution, _ in found)
    screen.confirm(f"Stop {names}? Letters whose triage has started are stopped too, and are kept.", yes=yes)
    for execution, _ in found:
        stack.client("stepfunctions").stop_execution(
            executionArn=execution["executionArn"], cause="holdfast replay --stop"
        )
    screen.console().print("Stopped. The same options, with times instead of --since 2d, continue it.")
