"""`easyq version`."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

import click

from easyq.cli.frame import Out, Server, View, with_output, with_server
from easyq.cli.table import Screen

_DISTRIBUTIONS = ("easyq-client", "easyq-server")
_TIMEOUT = 2.0


@click.command()
@click.option("--client", "only_here", is_flag=True, help="Don't ask the server.")
@with_output()
@with_server
def version(*, server: Server, out: Out, only_here: bool) -> None:
    """Show the versions that are installed, and that of the server."""
    tree: dict[str, Any] = {name.removeprefix("easyq-"): _installed(name) for name in _DISTRIBUTIONS}
    tree = {"client": tree["client"], "serverHere": tree["server"], "address": None, "server": None}
    if not only_here:
        tree["address"] = server.choice.server
        tree["server"] = _served(tree["address"])

    def lines(_screen: Screen) -> list[str]:
        told = [f"easyq-client {tree['client']}", f"easyq-server {tree['serverHere'] or 'is not installed'}"]
        if not only_here:
            told.append(f"server at {tree['address']} {tree['server'] or 'does not answer'}")
        return told

    out.print(View(tree, lines))


def _installed(name: str) -> str | None:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return None


def _served(address: str) -> str | None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from easyq.client import Client
    from easyq.errors import EasyQError

    try:
        with Client(address, timeout=_TIMEOUT, repeats=False) as client:
            return client.status().version
    except EasyQError:
        return None
