"""`easyq agents`: the hosts of a farm, for those who run it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from easyq.cli.env import is_text
from easyq.cli.sentences import sentence
from easyq.cli.stdio import OutputGone, print_line, say

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.v1.farm_service_pb2 import Agent

_FAILED = 1
_LONGEST_WHY = 60


def _duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    from easyq.durations import parse_duration

    try:
        return None if value is None else parse_duration(value) / 1000
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error


def _with_server(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--server",
        envvar="EASYQ_SERVER",
        default="127.0.0.1:10001",
        show_default=True,
        show_envvar=True,
        help="EasyQ's gRPC address.",
    )(command)


def _text(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_text(value):
        raise click.BadParameter(f"{value!r} is not valid UTF-8.")
    return value


_name = click.argument("name", callback=_text)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each agent.")


@click.group(invoke_without_command=True)
@_with_server
@_json
@click.pass_context
def agents(ctx: click.Context, *, server: str, as_json: bool) -> None:
    """List the agents of a farm, or say what shall become of one.

    An agent is the runner of one Docker host. Exits with 1 where EasyQ can't be reached or refuses.
    """
    ctx.obj = server
    if ctx.invoked_subcommand is None:
        with _calling(server) as client:
            _show(client.agents(), as_json=as_json)


@agents.command()
@_name
@click.pass_obj
def cordon(server: str, name: str) -> None:
    """Take nothing new to an agent; what it runs goes on."""
    with _calling(server) as client:
        agent = client.cordon(name)
    _tell(f"{agent.agent_id} takes nothing new; it runs {agent.running}")


@agents.command()
@_name
@click.pass_obj
def uncordon(server: str, name: str) -> None:
    """Take new work to an agent again, also where it drains."""
    with _calling(server) as client:
        agent = client.uncordon(name)
    _tell(f"{agent.agent_id} takes new work")


@agents.command()
@_name
@click.option("--deadline", metavar="DURATION", callback=_duration, help="Longest wait for what runs: 10m, 90s.")
@click.pass_obj
def drain(server: str, name: str, *, deadline: float | None) -> None:
    """Let what an agent runs end, then end the agent. What the deadline stops runs again elsewhere."""
    with _calling(server) as client:
        agent = client.drain(name, deadline=deadline)
    until = f" until {agent.drain_deadline.ToJsonString()}" if agent.HasField("drain_deadline") else ""
    _tell(f"{agent.agent_id} drains{until}; it runs {agent.running}")


@agents.command("declare-dead")
@_name
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def declare_dead(server: str, name: str, *, yes: bool) -> None:
    """Say that a host is gone for good: what it ran is lost, and runs again elsewhere where it may."""
    if not yes:
        text = f"What still runs on {name} would run beside its second run. Is the host gone for good?"
        click.confirm(text, abort=True, err=True)
    with _calling(server) as client:
        answer = client.declare_dead(name)
    _tell(f"{answer.agent.agent_id} is dead; {answer.lost} executions are lost")


@contextmanager
def _calling(server: str) -> Iterator[Client]:
    # gRPC's own lines would stand between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from easyq.client import Client
    from easyq.errors import EasyQError

    try:
        with Client(server) as client:
            yield client
    except EasyQError as error:
        say(sentence(error))
        sys.exit(_FAILED)


def _show(found: Sequence[Agent], *, as_json: bool) -> None:
    if as_json:
        for agent in found:
            _tell(json.dumps(_tree(agent)))
        return
    for line in _table([("AGENT", "STATE", "RUNNING", "SLOTS", "POOLS", "REMARK"), *map(_row, found)]):
        _tell(line)


def _tell(line: str) -> None:
    try:
        print_line(line)
    except OutputGone as gone:
        sys.exit(gone.exit_code)


def _tree(agent: Agent) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    tree: dict[str, Any] = MessageToDict(agent)
    return tree


def _row(agent: Agent) -> tuple[str, ...]:
    from easyq.v1.farm_service_pb2 import Agent as Kind

    state = Kind.State.Name(agent.state) if agent.state in Kind.State.values() else str(int(agent.state))
    pools = ",".join(agent.pools) or "-"
    return agent.agent_id, state, str(agent.running), str(agent.slots), pools, _remark(agent)


def _remark(agent: Agent) -> str:
    if agent.HasField("drained_at"):
        return "drains"
    if agent.HasField("cordoned_at"):
        return "cordoned"
    why = "" if agent.healthy else " ".join(agent.message.split()) or "takes no new work"
    return why if len(why) <= _LONGEST_WHY else f"{why[: _LONGEST_WHY - 1]}…"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
