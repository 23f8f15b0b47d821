"""`easyq hosts` (also `easyq agents`): the hosts of a farm, for those who run it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from easyq.cli import completions
from easyq.cli.frame import Out, Server, duration, fail, named, tell, with_output, with_server
from easyq.cli.stdio import is_terminal, progress

if TYPE_CHECKING:
    from easyq.client import Client

_name = click.argument("name", callback=named, shell_complete=completions.hosts)
_POLL = 0.5
_START = "it has ended; start it (easyq runner), or send SIGHUP to the easyq up that had started it"


@click.group(invoke_without_command=True)
@with_output(watch=True, wide=True)
@with_server
@click.pass_context
def hosts(ctx: click.Context, *, server: Server, out: Out) -> None:
    """List the hosts of a farm, or say what shall become of one.

    A host is a Docker Engine with its agent, `easyq runner`; the API calls it an agent.
    """
    ctx.obj = server
    if ctx.invoked_subcommand is None:
        _list(server, out)


@hosts.command("ls")
@with_output(watch=True, wide=True)
@with_server
def ls(*, server: Server, out: Out) -> None:
    """List all hosts that the farm knows."""
    _list(server, out)


def _list(server: Server, out: Out) -> None:
    with server.calling() as client:
        from easyq.cli.farm_views import hosts_view

        out.show(lambda: hosts_view(client.agents(), time.time(), wide=out.wide))


@hosts.command()
@_name
@with_server
def cordon(*, server: Server, name: str) -> None:
    """Take nothing new to a host; what it runs goes on."""
    with server.calling() as client:
        agent = client.cordon(name)
    tell(f"{agent.agent_id} takes nothing new; it runs {agent.running}")


@hosts.command()
@_name
@with_server
def uncordon(*, server: Server, name: str) -> None:
    """Take new work to a host again, also where it drains."""
    with server.calling() as client:
        agent = client.uncordon(name)
    from easyq.v1.farm_service_pb2 import Agent

    if agent.state == Agent.LIVE:
        tell(f"{agent.agent_id} takes new work")
    else:
        tell(f"{agent.agent_id} takes new work once its agent runs again: {_START}")


@hosts.command()
@_name
@click.option("--deadline", metavar="DURATION", callback=duration, help="Longest wait for what runs: 10m, 90s.")
@click.option("--wait", is_flag=True, help="Return once it is empty, telling how far it is.")
@with_server
def drain(*, server: Server, name: str, deadline: int | None, wait: bool) -> None:
    """Let what a host runs end, then end its agent. What the deadline stops runs again elsewhere."""
    with server.calling() as client:
        agent = client.drain(name, deadline=None if deadline is None else deadline / 1000)
        until = f" until {agent.drain_deadline.ToJsonString()}" if agent.HasField("drain_deadline") else ""
        if wait:
            _until_empty(client, name, until)
            tell(f"{agent.agent_id} is empty")
        else:
            tell(f"{agent.agent_id} drains{until}; it runs {agent.running}")


def _until_empty(client: Client, name: str, until: str) -> None:
    from easyq.v1.farm_service_pb2 import Agent

    shown = is_terminal()
    while (agent := client.agent(name)).running and agent.state == Agent.LIVE:
        if not agent.HasField("drained_at"):
            if shown:
                progress("")
            fail(f"{name} does not drain any more: somebody took it back")
        if shown:
            progress(f"easyq: {name} drains{until}; it still runs {agent.running}")
        time.sleep(_POLL)
    if shown:
        progress("")


@hosts.command("declare-dead")
@_name
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@with_server
def declare_dead(*, server: Server, name: str, yes: bool) -> None:
    """Say that a host is gone for good: what it ran is lost, and runs again elsewhere where it may."""
    if not yes:
        text = f"What still runs on {name} would run beside its second run. Is the host gone for good?"
        click.confirm(text, abort=True, err=True)
    with server.calling() as client:
        answer = client.declare_dead(name)
    tell(f"{answer.agent.agent_id} is dead; {answer.lost} executions are lost")
