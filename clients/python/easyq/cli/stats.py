"""`easyq stats`: what was enqueued, how it ended and how long it took, over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from easyq.cli import completions
from easyq.cli.frame import Out, Server, duration, moment, named, with_output, with_server

if TYPE_CHECKING:
    from easyq.cursor import Since

_TIME = "10m ago, or 2030-01-31T08:00:00Z."


@click.command(short_help="Show how much was enqueued, how it ended and how long it took, over time.")
@click.argument("task", default="", callback=named, shell_complete=completions.tasks)
@click.option("--since", metavar="TIME", callback=moment, help=f"From then on: {_TIME}  [default: 1h]")
@click.option("--until", metavar="TIME", callback=moment, help=f"Until then: {_TIME}  [default: now]")
@click.option("--step", metavar="DURATION", callback=duration, help="Time of one line, whole minutes: 5m, 1h.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also the steps in which nothing happened.")
@with_output(watch=True)
@with_server
def stats(
    *, server: Server, out: Out, task: str, since: Since | None, until: Since | None, step: int | None, everything: bool
) -> None:
    """Show how much the farm, or one task, was given to do, how that ended and how long it took, step by step.

    For plots, not for accounting. Minutes are kept for 48 hours, hours for 90 days.
    """
    with server.calling() as client:
        from easyq.cli.stats_views import stats_view

        seconds = None if step is None else step / 1000
        out.show(lambda: stats_view(client.stats(task, since=since, until=until, step=seconds), everything=everything))
