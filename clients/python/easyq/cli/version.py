"""`easyq version`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import click


@click.command()
def version() -> None:
    """Show the versions that are installed."""
    for distribution in ("easyq-client", "easyq-server"):
        try:
            click.echo(f"{distribution} {version_of(distribution)}")
        except PackageNotFoundError:
            click.echo(f"{distribution} is not installed")
