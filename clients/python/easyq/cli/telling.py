"""`easyq deliveries`, `resend`: who was told of a job's end."""

from __future__ import annotations

import time

import click

from easyq.cli import completions, exits
from easyq.cli.frame import Out, Server, fail, for_each, named, tell, with_output, with_server

_job = click.argument("job", callback=named, shell_complete=completions.jobs)


@click.command(short_help="Show who was told of a job's end by webhook or e-mail, and what they answered.")
@_job
@with_output(watch=True, wide=True)
@with_server
def deliveries(*, server: Server, out: Out, job: str) -> None:
    """Show who was told of a job's ends by webhook or e-mail, newest first: what they answered, and what is tried next.

    Empty where the job's spec asks for no notification, or nothing of it has ended.
    """
    with server.calling() as client:
        from easyq.cli.telling_views import deliveries_view

        out.show(lambda: deliveries_view(list(client.deliveries(job)), time.time(), wide=out.wide))


@click.command(short_help="Tell the receivers of a job's end once more.")
@_job
@click.argument("delivery", metavar="[DELIVERY]...", nargs=-1, callback=named, shell_complete=completions.deliveries)
@click.option("--failed", is_flag=True, help="All deliveries of the job that were given up.")
@with_server
def resend(*, server: Server, job: str, delivery: tuple[str, ...], failed: bool) -> None:
    """Send deliveries of a job again, whatever became of them: under the same ids, so that receivers know them.

    `easyq deliveries JOB` shows their ids.
    """
    if failed == bool(delivery):
        fail("name deliveries, or --failed for all that were given up", exits.USAGE)
    with server.calling() as client:
        from easyq.v1.notification_service_pb2 import Delivery

        names = delivery
        if failed:
            names = tuple(one.delivery_id for one in client.deliveries(job) if one.state == Delivery.FAILED)
            if not names:
                tell("no delivery was given up")

        def send(name: str) -> str:
            found = client.resend(job, name)
            return f"{found.delivery_id} is sent again to {found.target}"

        for_each(names, send, server.choice.server)
