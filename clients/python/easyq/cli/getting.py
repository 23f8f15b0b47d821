"""`easyq get`, `explain`, `schedule`: one thing, closely."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import click

from easyq.cli import completions, exits
from easyq.cli.frame import Out, Server, View, fail, named, with_output, with_server

if TYPE_CHECKING:
    from easyq.client import Client

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_job = click.argument("job", callback=named, shell_complete=completions.jobs)


def is_uuid(text: str) -> bool:
    """Whether it may be the id of an execution."""
    return _UUID.fullmatch(text) is not None


@click.command(short_help="Show a job with its executions, or one execution.")
@click.argument("id_", metavar="ID", callback=named, shell_complete=completions.jobs)
@with_output(watch=True)
@with_server
def get(*, server: Server, out: Out, id_: str) -> None:
    """Show a job with its newest 20 executions, or, by its id, one execution. A watch ends with the job."""
    with server.calling() as client:
        out.show(lambda: _look(client, id_))


def _look(client: Client, id_: str) -> View:
    from easyq.cli.job_views import execution_view, job_view
    from easyq.errors import NotFound

    try:
        return job_view(client.get(id_), time.time())
    except NotFound:
        if not is_uuid(id_):
            raise
        return execution_view(client.execution(id_), time.time())


@click.command(short_help="Say why a job, a task or a pool waits.")
@click.argument("job", required=False, callback=named, shell_complete=completions.open_jobs)
@click.option("-t", "--task", callback=named, shell_complete=completions.tasks, help="Explain a whole task.")
@click.option("-p", "--pool", callback=named, shell_complete=completions.pools, help="Explain a pool.")
@with_output(watch=True)
@with_server
def explain(*, server: Server, out: Out, job: str | None, task: str | None, pool: str | None) -> None:
    """Say why each execution of a job is not running yet, or those of a task or a pool, and what to do about it."""
    if sum(one is not None for one in (job, task, pool)) != 1:
        fail("name one of: a job, --task NAME, --pool NAME", exits.USAGE)
    with server.calling() as client:
        from easyq.cli.farm_views import explain_job_view, explain_pool_view, explain_task_view

        def look() -> View:
            if job is not None:
                return explain_job_view(client.explain(job), client.get(job), time.time())
            if task is not None:
                return explain_task_view(client.explain_task(task), time.time())
            return explain_pool_view(client.explain_pool(pool or ""), time.time())

        out.show(look)


@click.command(short_help="Show what recurs, and when it fires next.")
@click.argument("job", required=False, callback=named, shell_complete=completions.recurring)
@click.option(
    "-n", "--next", "coming", type=click.IntRange(0, 1000), default=10, show_default=True, help="Coming fires to show."
)
@click.option("-t", "--task", default="", callback=named, shell_complete=completions.tasks, help="Of this task.")
@with_output(watch=True)
@with_server
def schedule(*, server: Server, out: Out, job: str | None, coming: int, task: str) -> None:
    """Show a recurring job's schedule with its coming and its skipped fires; without a job, all jobs that recur."""
    with server.calling() as client:
        from easyq.cli.job_views import schedule_view, schedules_view
        from easyq.v1.job_pb2 import Job

        if job is not None:
            out.show(lambda: schedule_view(client.schedule(job, coming=coming), time.time()))
            return
        states = (Job.ACTIVE, Job.PAUSED)
        out.show(lambda: schedules_view(list(client.jobs(task=task, states=states)), time.time()))
