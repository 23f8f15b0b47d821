"""`easyq stop`, `retry`, `pause`, `resume`, `trigger`, `delete`: each takes many jobs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from easyq.cli import completions, enums, exits
from easyq.cli.frame import Out, Server, View, duration, fail, for_each, named, pairs_of, with_output, with_server

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.v1.job_service_pb2 import JobSelection

Answer = TypeVar("Answer")

_CHANGED_MIND = "nothing was done"


def _jobs_argument(complete: completions.Completer, *, required: bool = True) -> Callable[..., Any]:
    return click.argument(
        "jobs", metavar="JOB...", nargs=-1, required=required, callback=named, shell_complete=complete
    )


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the conditions of a call for many."""
    for option in (
        click.option("-y", "--yes", is_flag=True, help="Don't ask."),
        click.option("--dry-run", is_flag=True, help="Count them, change nothing."),
        click.option(
            "--older-than", metavar="DURATION", callback=duration, help="Created at least this long ago: 2h, 7d."
        ),
        click.option("-l", "--label", multiple=True, callback=pairs_of, metavar="KEY=VALUE", help="With this label."),
        click.option(
            "--task-pattern", default="", metavar="REGEX", callback=named, help="Of tasks whose whole name matches."
        ),
        click.option("-t", "--task", default="", callback=named, shell_complete=completions.tasks, help="Of a task."),
    ):
        command = option(command)
    return command


def selection_of(
    *,
    task: str,
    task_pattern: str,
    label: dict[str, str],
    older_than: int | None,
    states: tuple[str, ...] = (),
    reasons: tuple[str, ...] = (),
) -> JobSelection:
    """What the options of `selecting` stand for."""
    from datetime import timedelta

    from easyq.reading import selection
    from easyq.v1.job_pb2 import Failure, Job

    return selection(
        task=task,
        task_pattern=task_pattern,
        labels=label,
        older_than=None if older_than is None else timedelta(milliseconds=older_than),
        states=[Job.State.Value(name) for name in states],
        reasons=[Failure.Reason.Value(name) for name in reasons],
    )


def confirmed(text: str, *, yes: bool) -> bool:
    """Asks a person on stderr, unless --yes said so already."""
    return yes or click.confirm(text, err=True)


@click.command(short_help="Stop jobs, by id or by what they have in common.")
@_jobs_argument(completions.open_jobs, required=False)
@click.option("--state", multiple=True, type=enums.EnumName(enums.STATES), help="In this state.  Repeatable.")
@selecting
@with_server
def stop(
    *, server: Server, jobs: tuple[str, ...], state: tuple[str, ...], yes: bool, dry_run: bool, **which: Any
) -> None:
    """Stop jobs: what waits is stopped at once; a container gets SIGTERM, and after its grace SIGKILL.

    Without ids: all jobs for which the given conditions hold; it counts them and asks before it stops them.
    """
    conditions = bool(state or any(which.values()))
    if bool(jobs) == conditions:
        fail("name jobs, or say which by --task, --state, --label, …; not both", exits.USAGE)
    with server.calling() as client:
        if jobs:
            if dry_run:
                fail("--dry-run counts jobs that match conditions; these are named", exits.USAGE)
            for_each(jobs, lambda job: _stopped(client, job), client.server)
        chosen = selection_of(states=state, **which)
        count = client.stop_jobs(chosen, dry_run=True).matched
        _many(count, "stop", dry_run=dry_run, yes=yes)
        answer, rounds = _going_on(lambda: client.stop_jobs(chosen))
        if rounds:
            _tell(f"{count:,} stopped, or being stopped")
        else:
            _tell(f"{answer.stopped:,} stopped, {answer.stopping:,} are being stopped")


def _stopped(client: Client, job: str) -> str:
    from easyq.v1.job_service_pb2 import StopJobResponse

    answer = client.stop(job)
    return f"{job} {'stopped' if answer.outcome == StopJobResponse.STOPPED else 'is being stopped'}"


def _many(count: int, verb: str, *, dry_run: bool, yes: bool) -> None:
    """Goes on where there is something to do, and a person wants it done."""
    from easyq.cli import words

    what = words.count(count, "job")
    if dry_run or not count:
        _tell(f"{what} {'matches' if count == 1 else 'match'}")
        raise SystemExit(exits.OK)
    if not confirmed(f"{verb.capitalize()} {what}?", yes=yes):
        fail(_CHANGED_MIND)


def _going_on(call: Callable[[], Answer]) -> tuple[Answer, int]:
    """Makes a call for many until it is through with all of them; how often it had to be made again.

    A call has a bounded time: where that passes, what was done is done, and the same call goes on. Not for retries: a
    job that has failed again meanwhile would be retried twice.
    """
    from easyq.errors import DeadlineExceeded

    rounds = 0
    while True:
        try:
            return call(), rounds
        except DeadlineExceeded as error:
            # Without a reason it was not the server that said so.
            if not error.reason:
                raise
            rounds += 1


def _tell(line: str) -> None:
    from easyq.cli.frame import tell

    tell(line)


@click.command(short_help="Run jobs that have ended once more.")
@_jobs_argument(completions.jobs)
@with_server
def retry(*, server: Server, jobs: tuple[str, ...]) -> None:
    """Run jobs that have ended once more, each as its next attempt. `easyq errors retry` does it for many."""
    with server.calling() as client:
        for_each(jobs, lambda job: f"{job} runs again: execution {client.retry(job).execution_id}", client.server)


@click.command(short_help="Let recurring jobs rest.")
@_jobs_argument(completions.recurring)
@with_server
def pause(*, server: Server, jobs: tuple[str, ...]) -> None:
    """Let the fires of recurring jobs rest; what waits or runs goes on."""
    with server.calling() as client:

        def act(job: str) -> str:
            client.pause(job)
            return f"{job} paused"

        for_each(jobs, act, client.server)


@click.command(short_help="Go on with paused jobs.")
@_jobs_argument(completions.recurring)
@with_server
def resume(*, server: Server, jobs: tuple[str, ...]) -> None:
    """Go on with paused jobs; what they missed is treated as their `misfire` says."""
    with server.calling() as client:
        from easyq.cli import words
        from easyq.errors import EasyQError

        def act(job: str) -> str:
            client.resume(job)
            # The job itself knows its next fire only once a scheduler has looked at it.
            with suppress(EasyQError):  # it is resumed all the same
                for fire in client.schedule(job, coming=1).next_fires:
                    return f"{job} resumed, next run {words.exact(fire)}"
            return f"{job} resumed"

        for_each(jobs, act, client.server)


@click.command(short_help="Run jobs now, before their time.")
@_jobs_argument(completions.open_jobs)
@with_server
def trigger(*, server: Server, jobs: tuple[str, ...]) -> None:
    """Run jobs now: one that waits for its time becomes due; a recurring one runs once beside its fires."""
    with server.calling() as client:

        def act(job: str) -> str:
            made = client.trigger(job).execution_id
            return f"{job} triggered: execution {made}" if made else f"{job} runs after the one before it has ended"

        for_each(jobs, act, client.server)


@click.command(short_help="Delete jobs with their executions and logs.")
@_jobs_argument(completions.jobs)
@click.option("-f", "--force", is_flag=True, help="Also those that have not ended; what runs is stopped first.")
@with_server
def delete(*, server: Server, jobs: tuple[str, ...], force: bool) -> None:
    """Delete jobs that have ended, with their executions and logs."""
    with server.calling() as client:

        def act(job: str) -> str:
            answer = client.delete(job, force=force)
            return f"{job} is deleted once it has stopped" if answer.stopping else f"{job} deleted"

        for_each(jobs, act, client.server)


# ------------------------------------------------------------------------------------------------------ the error queue


@click.group(invoke_without_command=True, short_help="The error queue: list, retry or discard jobs that gave up.")
@click.option("-t", "--task", default="", callback=named, shell_complete=completions.tasks, help="Of this task.")
@click.option("--reason", multiple=True, type=enums.EnumName(enums.REASONS), help="Failed for this.  Repeatable.")
@click.option("-l", "--label", multiple=True, callback=pairs_of, metavar="KEY=VALUE", help="With this label.")
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="At most so many; 0: all.")
@with_output(watch=True, wide=True)
@with_server
@click.pass_context
def errors(
    ctx: click.Context,
    *,
    server: Server,
    out: Out,
    task: str,
    reason: tuple[str, ...],
    label: dict[str, str],
    limit: int,
) -> None:
    """List jobs that gave up (FAILED or TIMED_OUT), newest first; retry or discard many at once."""
    ctx.obj = server
    if ctx.invoked_subcommand is not None:
        if task or reason or label:
            # Left out without a word they would let it act on all.
            fail(f"conditions go behind `{ctx.invoked_subcommand}`: easyq errors {ctx.invoked_subcommand} --task …", 2)
        return
    with server.calling() as client:
        import time
        from itertools import islice

        from easyq.cli.job_views import jobs_view
        from easyq.v1.job_pb2 import Failure

        reasons = [Failure.Reason.Value(name) for name in reason]

        def look() -> View:
            found = client.error_queue(task=task, reasons=reasons, labels=label)
            jobs = list(islice(found, limit + 1)) if limit else list(found)
            shown = jobs[:limit] if limit else jobs
            more = f"(the newest {limit}; -n 0 shows all)" if len(jobs) > len(shown) else ""
            nothing = "no job that matches gave up" if task or reason or label else "no job gave up"
            return jobs_view(shown, time.time(), wide=out.wide, nothing=nothing, more=more)

        out.show(look)


@errors.command("retry")
@click.option("--reason", multiple=True, type=enums.EnumName(enums.REASONS), help="Failed for this.  Repeatable.")
@selecting
@with_server
def retry_errors(*, server: Server, reason: tuple[str, ...], yes: bool, dry_run: bool, **which: Any) -> None:
    """Retry all jobs of the error queue for which the conditions hold (without any: all); counts and asks first."""
    with server.calling() as client:
        chosen = selection_of(reasons=reason, **which)
        _many(client.retry_errors(chosen, dry_run=True).matched, "retry", dry_run=dry_run, yes=yes)
        _tell(f"{client.retry_errors(chosen).retried:,} run again")


@errors.command("discard")
@click.option("--reason", multiple=True, type=enums.EnumName(enums.REASONS), help="Failed for this.  Repeatable.")
@selecting
@with_server
def discard_errors(*, server: Server, reason: tuple[str, ...], yes: bool, dry_run: bool, **which: Any) -> None:
    """Delete all jobs of the error queue for which the conditions hold, with their logs; counts and asks first."""
    with server.calling() as client:
        chosen = selection_of(reasons=reason, **which)
        count = client.discard_errors(chosen, dry_run=True).matched
        _many(count, "discard", dry_run=dry_run, yes=yes)
        answer, rounds = _going_on(lambda: client.discard_errors(chosen))
        _tell(f"{count if rounds else answer.discarded:,} discarded")
