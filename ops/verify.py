"""``holdfast verify``: proves that a deployed stack keeps its promises, in the account where it is deployed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops import options, screen
from ops.chaos import ChaosTrial
from ops.checks import CheckResult, Finding
from ops.configuration import examine
from ops.deployed import AwsStack
from ops.errors import CommandError
from ops.synthetic import ALARM, DETAIL_TYPE, Trial, check_with_events
from ops.template import DeployedTemplate

#: The widths of the columns; together with the gaps 80.
_PROMISE, _SEEN, _RESULT = 46, 18, 12
_STYLES = {
    CheckResult.PASS: "green",
    CheckResult.FAIL: "bold red",
    CheckResult.NOT_CHECKED: "dim",
    CheckResult.UNREADABLE: "yellow",
}


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        stack: The stack's name.
        region: Its region.
        at: When it was verified.
        findings: One for each check.
        conclusion: What the results mean, in one sentence.
        next: What to do now.
    """

    stack: str
    region: str
    at: datetime
    findings: Sequence[Finding]
    conclusion: str
    next: str

    @property
    def status(self) -> int:
        """The exit status: 1 if a promise is broken, 2 if one could not be read, else 0."""
        found = {one.result for one in self.findings}
        return 1 if CheckResult.FAIL in found else 2 if CheckResult.UNREADABLE in found else 0


def conclude(stack: AwsStack, at: datetime, findings: Sequence[Finding]) -> Verification:
    """Say what the results mean, and the next step."""
    counts = Counter(one.result for one in findings)
    checked = counts[CheckResult.PASS] + counts[CheckResult.FAIL]
    left = counts[CheckResult.NOT_CHECKED]
    rest = f" {left} could not be made here; the table says why." if left else ""
    if counts[CheckResult.FAIL]:
        conclusion = f"{counts[CheckResult.FAIL]} of {checked} checks failed.{rest}"
        following = (
            "Change back what the table shows, then run it again. A deployment of the same template changes nothing."
        )
    elif counts[CheckResult.UNREADABLE]:
        conclusion = f"{checked} checks passed, and {counts[CheckResult.UNREADABLE]} could not be read.{rest}"
        following = "Get the permissions that the table names (docs/security.md), then run it again."
    else:
        conclusion, following = f"All {checked} checks passed.{rest}", "Watch the stack with: holdfast status"
    return Verification(stack.name, stack.region, at, tuple(findings), conclusion, following)


def render(found: Verification) -> RenderableType:
    """A table by part of the application, and what it means. What is wrong has a line of its own."""
    title = Text.assemble((found.stack, "bold"), f"  {found.region}  {screen.local_time(found.at, found.at)}")
    lines: list[RenderableType] = [title]
    for group, findings in groupby(found.findings, key=lambda one: one.group):
        lines += ["", Text(group, style="bold")]
        for one in findings:
            lines += _lines(one)
    return Group(*lines, "", Text(found.conclusion), "", Text.assemble(("Next  ", "bold"), found.next))


def _lines(one: Finding) -> list[RenderableType]:
    passed = one.result is CheckResult.PASS
    row = Table.grid(padding=(0, 2, 0, 0))
    for width in (_PROMISE, _SEEN, _RESULT):
        row.add_column(width=width)
    row.add_row(one.promise, Text(one.seen if passed else ""), Text(one.result, style=_STYLES[one.result]))
    return [row] if passed else [row, Padding(Text(one.seen, style=_STYLES[one.result]), (0, 0, 0, 2), expand=False)]


_QUESTION = """\
This sends about eight synthetic events through {stack} ({region}) and removes again what they leave in it.
Consumers on the enriched bus receive them, with the detail-type {type}.
The actions of {alarm} are disabled meanwhile, for up to {minutes} minutes. Continue?"""
_MINUTES = 12
_CHAOS_QUESTION = """\
--chaos also throttles the processor of {stack} to zero for a minute and aborts one triage execution of a synthetic
event. The events of all producers wait meanwhile, for up to {minutes} minutes. Continue?"""
#: A minute, and the visibility timeout of a message that was received in it.
_CHAOS_MINUTES = 9


def verify(
    config_only: Annotated[
        bool, typer.Option("--config-only", help="Send no events: compare the configuration only.")
    ] = False,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Also throttle the processor for a minute and abort an execution.")
    ] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Prove that a deployed stack keeps its promises: synthetic events, then the configuration as AWS reports it.

    Exit status 1: a promise is broken. 2: something could not be read, or the command could not run.

    Example: holdfast verify --stack holdfast-prod
    """
    with screen.exit_on_error():
        if chaos and config_only:
            raise CommandError("--chaos sends events, and --config-only sends none. Leave one of them out.")
        deployed = AwsStack.named(stack, profile=profile, region=region)
        if not config_only:
            values = {"stack": stack, "region": deployed.region, "type": DETAIL_TYPE, "alarm": ALARM}
            screen.confirm(_QUESTION.format(**values, minutes=_MINUTES), yes=yes)
        if chaos:
            screen.confirm(_CHAOS_QUESTION.format(stack=stack, minutes=_CHAOS_MINUTES), yes=yes)
        trial = None if config_only else ChaosTrial if chaos else Trial
        found = conclude(deployed, datetime.now(UTC), _findings(deployed, trial))
    screen.print_result(found, render, as_json=as_json)
    raise typer.Exit(found.status)


def _findings(stack: AwsStack, trial: type[Trial] | None) -> list[Finding]:
    with screen.errors().status("Reading the configuration ...") as shown:
        declared = DeployedTemplate.read(stack)
        configuration = examine(stack, declared)
        if trial is None:
            return configuration
        shown.update("Sending events and waiting for what follows ...")
        return [*check_with_events(trial(stack, declared), configuration), *configuration]
