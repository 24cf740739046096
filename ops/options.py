"""Options that the commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Stack = Annotated[
    str,
    typer.Option("--stack", envvar="HOLDFAST_STACK", help="Name of the stack.", show_default=True),
]
Profile = Annotated[str | None, typer.Option("--profile", help="AWS profile; by default boto3's usual choice.")]
#: boto3 reads AWS_DEFAULT_REGION only, the AWS CLI and other SDKs read AWS_REGION too.
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
        help="AWS region; by default boto3's usual choice.",
        show_envvar=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before something changes.")]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Only what is newer: 30m, 6h, 2d, or a time such as 2026-11-23T08:00."),
]

DEFAULT_STACK = "holdfast"
