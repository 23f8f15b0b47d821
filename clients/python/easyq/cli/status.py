"""`easyq status`: whether jobs are accepted and run, what is in the way, and where operators' programs look."""

from __future__ import annotations

import click

from easyq.cli.frame import Out, Server, with_output, with_server


@click.command(short_help="Show whether the farm works, what is in its way, and its operations ports.")
@with_output(watch=True)
@with_server
def status(*, server: Server, out: Out) -> None:
    """Show whether jobs are accepted and run, what is in the way, and of each process its operations port.

    There it serves /metrics, /livez and /readyz. ALIVE: it answers; READY: it can do its work, but for what WHY says.
    The facts are those of GET /healthcheck; `easyq doctor` looks at this machine besides.
    """
    with server.calling() as client:
        from easyq.cli.status_views import status_view

        out.show(lambda: status_view(client.status()))
