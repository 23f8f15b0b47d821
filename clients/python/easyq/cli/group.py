"""The root command: its subcommands are imported when they are used, not before.

The client brings most of them. Other distributions add theirs in the entry-point group
`easyq.commands`: the object that an entry point names is a click command, or a function that takes the list of
arguments.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from easyq.cli import exits, interrupts
from easyq.cli.frame import Server, server_options
from easyq.cli.stdio import say, silence_closed

GROUP = "easyq.commands"

# Where the client's own commands are.
_OWN = {
    "run": "easyq.cli.run:run",
    "submit": "easyq.cli.submit:submit",
    "ps": "easyq.cli.listing:ps",
    "get": "easyq.cli.getting:get",
    "logs": "easyq.cli.logs:logs",
    "wait": "easyq.cli.waiting:wait",
    "stop": "easyq.cli.steering:stop",
    "retry": "easyq.cli.steering:retry",
    "trigger": "easyq.cli.steering:trigger",
    "pause": "easyq.cli.steering:pause",
    "resume": "easyq.cli.steering:resume",
    "delete": "easyq.cli.steering:delete",
    "deliveries": "easyq.cli.telling:deliveries",
    "resend": "easyq.cli.telling:resend",
    "schedule": "easyq.cli.getting:schedule",
    "explain": "easyq.cli.getting:explain",
    "apply": "easyq.cli.apply:apply",
    "status": "easyq.cli.status:status",
    "tasks": "easyq.cli.listing:tasks",
    "queues": "easyq.cli.listing:queues",
    "hosts": "easyq.cli.hosts:hosts",
    "stats": "easyq.cli.stats:stats",
    "errors": "easyq.cli.steering:errors",
    "search": "easyq.cli.listing:search",
    "doctor": "easyq.cli.doctor:doctor",
    "context": "easyq.cli.context:context",
    "completion": "easyq.cli.completion:completion",
    "version": "easyq.cli.version:version",
}

#: Other names of the same commands; `--help` shows them beside those.
ALIASES = {"jobs": "ps", "agents": "hosts", "rm": "delete"}

# Shown by `easyq --help` without importing what they stand for. Others are listed by their distribution's name.
_SECTIONS = {
    "Jobs": {
        "run": "Run a container and follow its output, as `docker run` does.",
        "submit": "Enqueue a job, or many from a file, and leave.",
        "ps": "List jobs (also: jobs).",
        "get": "Show a job with its executions, or one execution.",
        "logs": "Show the output of a job, or follow it.",
        "wait": "Wait until jobs have ended, and exit as they did.",
        "stop": "Stop jobs, by id or by what they have in common.",
        "retry": "Run jobs that have ended once more.",
        "trigger": "Run jobs now, before their time.",
        "explain": "Say why a job, a task or a pool waits.",
        "deliveries": "Show who was told of a job's end, and what they answered.",
        "resend": "Tell the receivers of a job's end once more.",
        "delete": "Delete jobs with their executions and logs (also: rm).",
    },
    "Jobs that recur": {
        "apply": "Create or update the jobs of files; --dry-run shows what would change.",
        "schedule": "Show what recurs, and when it fires next.",
        "pause": "Let recurring jobs rest.",
        "resume": "Go on with paused jobs.",
    },
    "The farm": {
        "status": "Show whether the farm works, what is in its way, and its operations ports.",
        "tasks": "List tasks, or show one with its jobs by state.",
        "queues": "Show pools, limits and breakers: what is full, and what waits.",
        "hosts": "List hosts; cordon, drain, or give one up (also: agents).",
        "stats": "Show how much was enqueued, how it ended and how long it took.",
        "errors": "The error queue: list, retry or discard jobs that gave up.",
        "search": "Find tasks, jobs and executions by id, name or image.",
    },
    "This machine": {
        "up": "Run the whole system on this machine.",
        "down": "Stop the system that `easyq up` runs.",
        "doctor": "Check server, Docker, Redis, store, ports, clock, versions, disk.",
        "context": "Name servers, and choose the one that commands talk to.",
        "completion": "Print what bash, zsh or fish needs to complete names.",
        "version": "Show the versions that are installed, and the server's.",
    },
    "Services, one by one": {
        "gateway": "The public API, gRPC and REST.",
        "scheduler": "Jobs that have a time.",
        "dispatcher": "Matches jobs with agents.",
        "store": "The durable store.",
        "runner": "The agent of one Docker host.",
    },
}
_HELP = {name: text for section in _SECTIONS.values() for name, text in section.items()}
_SERVER = frozenset(_HELP) - frozenset(_OWN)


class LazyGroup(click.Group):
    """A click group over `_OWN` and the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        names = {*_OWN, *_entry_points()}
        known = [name for name in _HELP if name in names]
        return [*known, *sorted(names - set(known))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        cmd_name = ALIASES.get(cmd_name, cmd_name)
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
        silence_closed()
        try:
            loaded = entry.load()
        except ImportError as error:
            raise click.ClickException(f"easyq {cmd_name} can't be loaded: {error}") from error
        return loaded if isinstance(loaded, click.Command) else _wrap(cmd_name, loaded)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        for title, section in _SECTIONS.items():
            rows = [(name, section[name]) for name in names if name in section]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        others = [(name, _help_of(name)) for name in names if name not in _HELP]
        if others:
            with formatter.section("Others"):
                formatter.write_dl(others)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in exits.TABLE])
        formatter.write_paragraph()
        formatter.write_text("`run` and `wait` exit as the container did: 124 timeout, 125 EasyQ's own failure.")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would import every command for its help.
        options = click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in (*self.list_commands(ctx), *ALIASES) if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=_help_of(ALIASES.get(name, name))) for name in names), *options]

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Errors of usage are one line, with where to read more."""
        extra["standalone_mode"] = False
        if not standalone_mode:
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            say(_one_line(error))
            sys.exit(error.exit_code)
        except click.Abort:
            say("nothing was done")
            sys.exit(exits.FAILED)
        # click gives the status of ctx.exit(), else what the command returned, which is nothing.
        sys.exit(code if isinstance(code, int) else exits.OK)


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text} ({error.ctx.command_path} --help tells more)"
    return text


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _help_of(name: str) -> str:
    if name in _HELP:
        return _HELP[name]
    entry = _entry_points().get(name)
    dist = entry.dist if entry is not None else None
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


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"easyq {version('easyq-client')}")
        ctx.exit()


@server_options
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
@click.pass_context
def _enter(ctx: click.Context, *, server_: str | None, context_: str | None) -> None:
    ctx.obj = Server(server=server_, context=context_)


root = click.command(
    cls=LazyGroup,
    name="easyq",
    help="EasyQ: a job queue in which every job is a container run.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)(_enter)
