"""Names for the shell's completion, asked of the server with a short deadline. Nothing goes wrong here: where nobody
answers there is nothing to complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from easyq.cli import contexts

if TYPE_CHECKING:
    from easyq.client import Client

#: Seconds that a person waits after TAB.
DEADLINE = 0.7
_MOST = 200

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _asking(names: Callable[[Client, click.Context], Iterator[str]]) -> Completer:
    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from easyq.cli.plain import plain
        from easyq.client import Client
        from easyq.errors import EasyQError

        try:
            server, context = _given(ctx)
            choice = contexts.choose(server, context, os.environ, contexts.file_path(os.environ))
            with Client(choice.server, timeout=DEADLINE, repeats=False) as client:
                found = [name for name in islice(names(client, ctx), 2000) if name.startswith(incomplete)]
        except (EasyQError, contexts.ContextError):
            return []
        # A name that a terminal would not show as it is can't be typed either.
        return [name for name in found if name == plain(name) and not any(map(str.isspace, name))][:_MOST]

    return complete


def _given(ctx: click.Context) -> tuple[str | None, str | None]:
    """`--server` and `--context` as far as they are typed."""
    found: dict[str, Any] = {}
    at: click.Context | None = ctx
    while at is not None:
        for name in ("server_", "context_"):
            found.setdefault(name, at.params.get(name))
            found[name] = found[name] or at.params.get(name)
        at = at.parent
    return found.get("server_"), None if found.get("server_") else found.get("context_")


def _jobs(client: Client, _ctx: click.Context) -> Iterator[str]:
    return (job.job_id for job in islice(client.jobs(page=_MOST), _MOST))


def _open_jobs(client: Client, _ctx: click.Context) -> Iterator[str]:
    from easyq.cli.job_views import OPEN

    return (job.job_id for job in islice(client.jobs(states=OPEN, page=_MOST), _MOST))


def _recurring(client: Client, _ctx: click.Context) -> Iterator[str]:
    from easyq.v1.job_pb2 import Job

    return (job.job_id for job in islice(client.jobs(states=(Job.ACTIVE, Job.PAUSED), page=_MOST), _MOST))


def _tasks(client: Client, _ctx: click.Context) -> Iterator[str]:
    return (one.task_id for one in client.tasks())


def _hosts(client: Client, _ctx: click.Context) -> Iterator[str]:
    return (one.agent_id for one in client.agents())


def _pools(client: Client, _ctx: click.Context) -> Iterator[str]:
    return (one.name for one in client.pools())


def _deliveries(client: Client, ctx: click.Context) -> Iterator[str]:
    job = ctx.params.get("job")
    return (one.delivery_id for one in client.deliveries(job)) if job else iter(())


jobs = _asking(_jobs)
open_jobs = _asking(_open_jobs)
recurring = _asking(_recurring)
tasks = _asking(_tasks)
hosts = _asking(_hosts)
pools = _asking(_pools)
deliveries = _asking(_deliveries)


def context_names(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of contexts."""
    try:
        known = contexts.load(contexts.file_path(os.environ)).servers
    except contexts.ContextError:
        return []
    return [name for name in sorted(known) if name.startswith(incomplete)]
