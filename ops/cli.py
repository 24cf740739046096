"""``holdfast``: the command for the people who run a stack. Every command uses only the APIs of AWS."""

from __future__ import annotations

import typer

from ops import audit, letters, pause, replay, republish, retry, show, status, verify

app = typer.Typer(
    name="holdfast",
    help="Shows and repairs a stack of Holdfast. Start with: holdfast status",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(status.status)
app.command()(letters.letters)
app.command()(show.show)
app.command()(replay.replay)
app.command("retry-now")(retry.retry_now)
app.command()(pause.pause)
app.command()(pause.resume)
app.command()(audit.audit)
app.command()(republish.republish)
app.command()(verify.verify)

if __name__ == "__main__":
    app()
