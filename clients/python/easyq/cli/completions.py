"""Names for the shell's completion, asked of the server with a short deadline. Nothing goes wrong here: where nobody
answers there is nothing to complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from easyq.cli import contexts

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.v1.job_pb2 import Job

#: Seconds that a person waits after TAB.
DEADLINE = 0.7
_MOST = 200

Completer = Callable[[click.Context, click.Parameter, str], list[str]]
#: Names from the server, given what is typed so far; others than those that begin so are left out afterwards.
_Names = Callable[["Client", click.Context, str], Iterator[str]]


def _asking(names: _Names) -> Completer:
    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from easyq.cli.plain import plain
        from easyq.client import Client
        from easyq.errors import EasyQError

        try:
            server, context = _given(ctx)
            choice = contexts.choose(server, context, os.environ, contexts.file_path(os.environ))
            with Client(choice.server, timeout=DEADLINE, repeats=False) as client:
                found = [name for name in islice(names(client, ctx, incomplete), 2000) if name.startswith(incomplete)]
        except (EasyQError, contexts.ContextError):
            return []
        # A name that a terminal would not show as it is can't be typed either.
        return [name for name in dict.fromkeys(found) if name == plain(name) and not any(map(str.isspace, name))][
            :_MOST
        ]

    return complete


def _given(ctx: click.Context) -> tuple[str | None, str | None]:
    """`--server` and `--context` as far as they are typed."""
    found: dict[str, Any] = {}
    at: click.Context | None = ctx
    while at is not None:
        for name in ("server_", "context_"):
            found.setdefault(name, at.params.get(name))
            if found[name] is None:
                found[name] = at.params.get(name)
        at = at.parent
    return found.get("server_"), found.get("context_") if found.get("server_") is None else None


def _jobs_in(client: Client, states: Sequence[Job.State.ValueType], begun: str) -> Iterator[str]:
    """Ids of jobs in some states (none: in any): the newest, and those that begin so, however old they are."""
    from easyq.v1.job_pb2 import Job

    names = {Job.State.Name(state) for state in states}
    yield from (job.job_id for job in islice(client.jobs(states=states, page=_MOST), _MOST))
    for hit in client.search(begun) if begun else ():
        if hit.kind == "job" and (not names or hit.state in names):
            yield hit.job_id


def _jobs(client: Client, _ctx: click.Context, begun: str) -> Iterator[str]:
    return _jobs_in(client, (), begun)


def _open_jobs(client: Client, _ctx: click.Context, begun: str) -> Iterator[str]:
    from easyq.cli.job_views import OPEN

    return _jobs_in(client, OPEN, begun)


def _recurring(client: Client, _ctx: click.Context, begun: str) -> Iterator[str]:
    from easyq.v1.job_pb2 import Job

    return _jobs_in(client, (Job.ACTIVE, Job.PAUSED), begun)


def _tasks(client: Client, _ctx: click.Context, _begun: str) -> Iterator[str]:
    return (one.task_id for one in client.tasks())


def _hosts(client: Client, _ctx: click.Context, _begun: str) -> Iterator[str]:
    return (one.agent_id for one in client.agents())


def _pools(client: Client, _ctx: click.Context, _begun: str) -> Iterator[str]:
    return (one.name for one in client.pools())


def _deliveries(client: Client, ctx: click.Context, _begun: str) -> Iterator[str]:
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
