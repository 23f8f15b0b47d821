"""`easyq context`: names for servers."""

from __future__ import annotations

import os

import click

from easyq.cli import completions, contexts, exits
from easyq.cli.frame import Out, View, fail, tell, with_output
from easyq.cli.table import Cell, Column, Screen, render

_name = click.argument("name", shell_complete=completions.context_names)


@click.group(short_help="Name servers, and choose the one that commands talk to.")
def context() -> None:
    """Name servers, and choose the one that commands talk to.

    The first of these counts: --server, --context, EASYQ_SERVER, EASYQ_CONTEXT, the current context, 127.0.0.1:10001.
    Contexts are kept in easyq/contexts.toml below XDG_CONFIG_HOME (~/.config).
    """


@context.command("ls")
@with_output()
def ls(*, out: Out) -> None:
    """List contexts; the current one has a star."""
    found = _load()

    def lines(screen: Screen) -> list[str]:
        if not found.servers:
            return ["no context yet; `easyq context set NAME HOST:PORT` makes one"]
        columns = [Column(""), Column("CONTEXT"), Column("SERVER")]
        rows: list[list[str | Cell]] = [
            [Cell("*", "good") if name == found.current else " ", name, server]
            for name, server in sorted(found.servers.items())
        ]
        return [*render(columns, rows, screen), *_overruled()]

    items = [
        {"name": name, "server": server, "current": name == found.current}
        for name, server in sorted(found.servers.items())
    ]
    out.print(View({"items": items}, lines))


def _overruled() -> list[str]:
    for name in ("EASYQ_SERVER", "EASYQ_CONTEXT"):
        if value := os.environ.get(name):
            return [f"({name}={value} overrules the current context)"]
    return []


@context.command("use")
@_name
def use(*, name: str) -> None:
    """Have commands talk to a context's server from now on."""
    found = _load()
    try:
        server = found.server(name)
    except contexts.ContextError as error:
        fail(str(error), exits.USAGE)
    _save(contexts.Contexts(servers=found.servers, current=name))
    tell(f"{name}: {server}")


@context.command("set")
@_name
@click.argument("server")
@click.option("--use", "use_it", is_flag=True, help="Use it from now on.")
def set_(*, name: str, server: str, use_it: bool) -> None:
    """Make a context, or give it another server. The first one is used at once."""
    found = _load()
    try:
        address = contexts.checked_server(server)
        made = found.with_server(contexts.checked_name(name), address)
    except contexts.ContextError as error:
        fail(str(error), exits.USAGE)
    current = name if use_it or not found.servers else found.current
    _save(contexts.Contexts(servers=made.servers, current=current))
    tell(f"{name}: {address}{' (in use)' if current == name else ''}")


@context.command("rm")
@_name
def rm(*, name: str) -> None:
    """Forget a context."""
    found = _load()
    try:
        found.server(name)
    except contexts.ContextError as error:
        fail(str(error), exits.USAGE)
    _save(found.without(name))
    tell(f"{name} forgotten")


def _load() -> contexts.Contexts:
    try:
        return contexts.load(contexts.file_path(os.environ))
    except contexts.ContextError as error:
        fail(str(error), exits.USAGE)


def _save(found: contexts.Contexts) -> None:
    try:
        contexts.save(contexts.file_path(os.environ), found)
    except contexts.ContextError as error:
        fail(str(error), exits.USAGE)
