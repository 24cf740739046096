"""Options that the commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Stack = Annotated[
    str,
    typer.Option("--stack", envvar="HOLDFAST_STACK", help="Name of the stack.", show_default=True),
]
Profile = Annotated[str | None, typer.Option("--profile", help="AWS profile; by default boto3's usual choice.")]
Region = Annotated[str | None, typer.Option("--region", help="AWS region; by default boto3's usual choice.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before something changes.")]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Only what is newer: 30m, 6h, 2d, or a time such as 2026-11-23T08:00."),
]

DEFAULT_STACK = "holdfast"
