"""``holdfast retry-now``: start the next redrive of letters that wait in triage, after their cause was fixed.

The task token of its wait is completed (:mod:`ops.waiting`). The execution goes on as after the wait: the same redrive,
with the reason in its data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from botocore.exceptions import ClientError
from rich.console import Group, RenderableType
from rich.text import Text

from ops import options, screen
from ops.deployed import AwsStack, DeployedStack
from ops.errors import CommandError, code_of, is_denied
from ops.letters import parse_category
from ops.waiting import WAITING_KEY, WaitingLetter, waiting_letters

_CALLS = 16
#: The wait is over, or another command ended it.
_ENDED = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What became of the waiting letters: how many were started, how many waited no longer, and how many failed."""

    started: int
    no_longer_waiting: int
    failed: int

    @property
    def succeeded(self) -> bool:
        """Whether no call failed."""
        return not self.failed


def end_waits(stack: DeployedStack, letters: Sequence[tuple[WaitingLetter, str]], reason: str) -> RetryResult:
    """End the waits of these letters by their tokens, and delete the items of those that wait no longer."""
    client = stack.client("stepfunctions")
    output = json.dumps({"reason": reason})

    def end(letter: WaitingLetter, token: str) -> str:
        outcome = "started"
        try:
            client.send_task_success(taskToken=token, output=output)
        except ClientError as error:
            if is_denied(error):  # the other letters would fail as well
                raise
            if code_of(error) not in _ENDED:
                return "failed"
            outcome = "ended"
        _delete(stack, letter, token)
        return outcome

    with ThreadPoolExecutor(_CALLS) as pool, screen.progress() as shown:
        task = shown.add_task("letters", total=len(letters))
        counts: Counter[str] = Counter()
        for outcome in pool.map(lambda one: end(*one), letters):
            counts[outcome] += 1
            shown.advance(task)
    return RetryResult(counts["started"], counts["ended"], counts["failed"])


def _delete(stack: DeployedStack, letter: WaitingLetter, token: str) -> None:
    """Delete the item of a wait that is over, unless the letter waits again. An item that stays does no harm."""
    with suppress(ClientError):
        stack.client("dynamodb").delete_item(
            TableName=stack.outputs["AttemptsTableName"],
            Key={"eventId": {"S": WAITING_KEY}, "attempt": {"S": letter.execution}},
            ConditionExpression="taskToken = :token",
            ExpressionAttributeValues={":token": {"S": token}},
        )


def render_waiting(letters: Sequence[WaitingLetter], now: datetime) -> RenderableType:
    """The letters by cause, with the time of the next redrive that is due."""
    table = screen.table("letters", "category", "next redrive", "fingerprint", right=["letters"])
    groups: dict[tuple[str, str], list[WaitingLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.category, letter.fingerprint), []).append(letter)
    for (category, fingerprint), found in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = min(one.next_try_at for one in found)
        table.add_row(f"{len(found):,}", category, screen.ago(first, now), fingerprint)
    return table


def render(result: RetryResult) -> RenderableType:
    """The numbers."""
    lines = [f"{result.started:,} letters are redriven now"]
    lines += [f"{result.no_longer_waiting:,} were no longer waiting"] * (result.no_longer_waiting > 0)
    lines += [f"{result.failed:,} calls failed: run the command again"] * (result.failed > 0)
    return Group(*map(Text, lines))


def retry_now(
    reason: Annotated[str, typer.Option("--reason", help="What was fixed; recorded with every execution.")],
    category: Annotated[str, typer.Option("--category", help="For example MISCONFIGURED.")] = "",
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Letters with the same error.")] = "",
    rule: Annotated[str, typer.Option("--rule", help="The rule of the verdict.")] = "",
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Redrive letters that wait in triage now, instead of at the end of their wait.

    Example: holdfast retry-now --category MISCONFIGURED --reason "the secret is right again"
    """
    now = datetime.now(UTC)
    with screen.exit_on_error():
        known = parse_category(category)
        deployed = AwsStack.named(stack, profile=profile, region=region)
        found = [
            (letter, token)
            for letter, token in waiting_letters(deployed, now)
            if known in ("", letter.category) and fingerprint in ("", letter.fingerprint) and rule in ("", letter.rule)
        ]
        if not found:
            raise CommandError("No letter that matches waits for a redrive. What is in triage: holdfast letters --open")
        screen.errors().print(render_waiting([letter for letter, _ in found], now))
        screen.confirm(f"Redrive {len(found):,} letters now?", yes=yes)
        result = end_waits(deployed, found, reason)
    screen.print_result(result, render, as_json=as_json)
    raise typer.Exit(0 if result.succeeded else 1)
