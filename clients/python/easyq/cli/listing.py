"""`easyq ps`, `tasks`, `queues`, `search`: looking around."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import click

from easyq.cli import completions, enums
from easyq.cli.frame import Out, Server, View, named, pairs_of, with_output, with_server

_LIMIT = 50


@click.command(short_help="List jobs: those that wait, run or recur; -a for all.")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option("-t", "--task", default="", callback=named, shell_complete=completions.tasks, help="Only of this task.")
@click.option("--state", multiple=True, type=enums.EnumName(enums.STATES), help="Only in this state.  Repeatable.")
@click.option(
    "-l", "--label", multiple=True, callback=pairs_of, metavar="KEY=VALUE", help="Only with this label.  Repeatable."
)
@click.option(
    "-n", "--limit", type=click.IntRange(0), default=_LIMIT, show_default=True, help="At most so many; 0: all of them."
)
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@with_output(watch=True, wide=True)
@with_server
def ps(
    *,
    server: Server,
    out: Out,
    everything: bool,
    task: str,
    state: tuple[str, ...],
    label: dict[str, str],
    limit: int,
    quiet: bool,
) -> None:
    """List jobs, newest first: those that wait, run or recur. With -a, or --state, also those that have ended."""
    with server.calling() as client:
        from easyq.cli.job_views import OPEN, jobs_view
        from easyq.v1.job_pb2 import Job

        states = tuple(Job.State.Value(name) for name in state) or (() if everything else OPEN)
        nothing = "no job yet; `easyq run IMAGE` makes one"
        if task or label or state:
            nothing = "no job matches"
        if not (everything or state):
            which = "that matches " if task or label else ""
            nothing = f"no job {which}waits, runs or recurs; `easyq ps -a` shows those that have ended"

        def look() -> View:
            # One more than is shown tells whether there are more.
            page = min(1000, limit + 1) if limit else 500
            found = client.jobs(task=task, states=states, labels=label, page=page)
            jobs = list(islice(found, limit + 1)) if limit else list(found)
            shown = jobs[:limit] if limit else jobs
            if quiet and out.for_people:
                return View(None, lambda _screen: [job.job_id for job in shown])
            more = f"(the newest {limit}; -n 0 shows all)" if len(jobs) > len(shown) else ""
            return jobs_view(shown, time.time(), wide=out.wide, nothing=nothing, more=more)

        out.show(look)


@click.command(short_help="List tasks, or show one with its jobs by state.")
@click.argument("name", required=False, callback=named, shell_complete=completions.tasks)
@with_output(watch=True)
@with_server
def tasks(*, server: Server, out: Out, name: str | None) -> None:
    """List all tasks, or show one with its jobs counted by state."""
    with server.calling() as client:
        from easyq.cli.farm_views import task_view, tasks_view

        if name is None:
            out.show(lambda: tasks_view(list(client.tasks()), time.time()))
        else:
            out.show(lambda: task_view(client.task(name), time.time()))


@click.command(short_help="Show pools, limits and breakers: what is full, and what waits.")
@click.option(
    "-n", "--limit", type=click.IntRange(0), default=_LIMIT, show_default=True, help="So many tasks; 0: all of them."
)
@with_output(watch=True)
@with_server
def queues(*, server: Server, out: Out, limit: int) -> None:
    """Show pools and tasks with what waits in them and why, limits with what counts towards them, and open breakers.

    READY counts what the dispatcher holds ready, at most about 1,000 for each task; QUEUED all that waits.
    """
    with server.calling() as client:
        from easyq.cli.queue_views import queues_view
        from easyq.errors import NotFound, Unimplemented

        def waiting() -> list[Any]:
            try:
                return list(islice(client.queues(), limit + 1 if limit else None))
            except Unimplemented:
                return []  # the server is older than this command

        def look() -> View:
            pools, limits, breakers = client.matching()
            why: dict[str, Any] = {}
            for pool in pools.items:
                if pool.ready:
                    try:
                        why[pool.name] = client.explain_pool(pool.name)
                    except NotFound:
                        continue  # gone since
            found = waiting()
            shown = found[:limit] if limit else found
            more = f"(the first {limit} by name; -n 0 shows all)" if len(found) > len(shown) else ""
            return queues_view(
                pools.items,
                limits.items,
                breakers.items,
                why,
                time.time(),
                tasks=shown,
                more=more,
                unknown=[*pools.unknown, *limits.unknown, *breakers.unknown],
            )

        out.show(look)


@click.command(short_help="Find tasks, jobs and executions by id, name or image.")
@click.argument("query", callback=named)
@with_output()
@with_server
def search(*, server: Server, out: Out, query: str) -> None:
    """Find tasks, jobs and executions by id, by the beginning of a name, or by image: at most 50, best first."""
    with server.calling() as client:
        from easyq.cli.farm_views import search_view

        out.show(lambda: search_view(client.search(query)))
