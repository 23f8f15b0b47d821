"""The root command: its subcommands are imported when they are used, not before.

The client brings `run`, `agents` and `version`. Other distributions add theirs in the entry-point group
`easyq.commands`: the object that an entry point names is a click command, or a function that takes the list of
arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from easyq.cli import interrupts

GROUP = "easyq.commands"

# Where the client's own commands are.
_OWN = {"run": "easyq.cli.run:run", "agents": "easyq.cli.agents:agents", "version": "easyq.cli.version:version"}

# Shown by `easyq --help` without importing what they stand for. Others are listed by their distribution's name.
_HELP = {
    "run": "Run a container and follow its output, as `docker run` does.",
    "agents": "List the hosts of a farm; cordon, drain, or give one up.",
    "up": "Run the whole system on this machine.",
    "down": "Stop the system that `easyq up` runs.",
    "version": "Show the versions that are installed.",
    "gateway": "Service: the public API, gRPC and REST.",
    "scheduler": "Service: jobs that have a time.",
    "dispatcher": "Service: matches jobs with agents.",
    "store": "Service: the durable store.",
    "runner": "Service: the agent of one Docker host.",
}
_SERVER = frozenset(_HELP) - frozenset(_OWN)


class LazyGroup(click.Group):
    """A click group over `_OWN` and the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        names = {*_OWN, *_entry_points()}
        known = [name for name in _HELP if name in names]
        return [*known, *sorted(names - set(known))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name in _OWN:
            module, _, attribute = _OWN[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        entry = _entry_points().get(cmd_name)
        if entry is None:
            if cmd_name in _SERVER:
                raise click.ClickException(f"easyq {cmd_name} needs the server: pip install easyq-server")
            return None
        interrupts.as_usual()
        try:
            loaded = entry.load()
        except ImportError as error:
            raise click.ClickException(f"easyq {cmd_name} can't be loaded: {error}") from error
        return loaded if isinstance(loaded, click.Command) else _wrap(cmd_name, loaded)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _help_of(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _help_of(name: str) -> str:
    if name in _HELP:
        return _HELP[name]
    dist = _entry_points()[name].dist
    return f"From {dist.name}." if dist else ""


def _wrap(name: str, function: Callable[[list[str]], Any]) -> click.Command:
    """A command that hands its arguments, `--help` too, to a function."""

    @click.command(
        name,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        function(list(arguments))

    return command


root = LazyGroup(
    name="easyq",
    help="EasyQ: a job queue in which every job is a container run.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
