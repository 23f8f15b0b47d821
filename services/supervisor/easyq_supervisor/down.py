"""`easyq down`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from easyq.errors import EasyQError, FailedPrecondition, NotFound
from easyq.v1.job_pb2 import Execution, Job
from easyq_supervisor.adapters.farm import Farm
from easyq_supervisor.adapters.folder import DataFolder
from easyq_supervisor.adapters.notes import NotesFile, NotesUnreadable
from easyq_supervisor.domain.resting import Kind, Note, OpenJob, OpenRun, Round, confirmed, merged, next_round
from easyq_supervisor.resume import paused_at

Answer = TypeVar("Answer")

# A recurring job's state doesn't say whether something of it runs; once stopped it stays in it until nothing does.
_RECURRING = {Job.ACTIVE: Kind.ACTIVE, Job.PAUSED: Kind.PAUSED}
OPEN_STATES = (Job.SCHEDULED, Job.QUEUED, Job.RUNNING, Job.RETRYING, *_RECURRING)

_AT_ONCE = 16
_POLL = 0.3
_SAY_EVERY = 10.0
# A fire that was decided on is kept on its job first, and is an execution a moment later.
_QUIET_LOOKS = 2


class DownError(Exception):
    """It could not be done; the message says why, and what to do."""


def stop_jobs(farm: Farm, notes: NotesFile, say: Callable[[str], None]) -> None:
    """Stops every job that has not ended, and returns when nothing of any is left.

    Recurring ones are paused instead, with a note for those that were not, and their runs are stopped. Raises
    EasyQError, NotesUnreadable, OSError.
    """
    told, quiet = 0.0, 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stop") as pool:
        while left := list(farm.jobs(states=OPEN_STATES)):
            jobs = [_open_job(job) for job in left]
            # Those of plain jobs end with them, and may be many.
            recur = any(job.kind is not Kind.PLAIN for job in jobs)
            runs = [_open_run(run) for run in farm.open_runs()] if recur else []
            todo = next_round(jobs, runs)
            quiet = quiet + 1 if todo.is_quiet else 0
            if quiet == _QUIET_LOOKS:
                return
            anew = todo.stop_jobs or todo.stop_runs
            if (text := _told(left, runs)) and (anew or time.monotonic() - told > _SAY_EVERY):
                say(text)
                told = time.monotonic()
            _do(todo, farm, notes, pool, say)
            time.sleep(_POLL)


def stop_system(folder: DataFolder, pid: int, patience: float) -> None:
    """Asks the process that holds the folder to end, and waits until it has. Raises DownError."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise DownError(f"pid {pid} belongs to another user") from error
    deadline = time.monotonic() + patience
    while folder.holder() == pid:
        if time.monotonic() > deadline:
            raise DownError(f"pid {pid} has not ended within {patience:.0f} s")
        time.sleep(_POLL / 3)


def stop_running_jobs(folder: DataFolder, say: Callable[[str], None]) -> None:
    """Stops the jobs of the system that runs on the folder. Raises DownError."""
    running = folder.running()
    if running is None:
        raise DownError("the system has only begun to start; say it again in a moment")
    try:
        with Farm(running.grpc) as farm:
            stop_jobs(farm, NotesFile(folder.path), say)
    except EasyQError as error:
        raise DownError(f"the jobs could not be stopped: {error.message}; nothing else was stopped either") from error
    except (OSError, NotesUnreadable) as error:
        raise DownError(f"the recurring jobs can't be noted: {error}; EasyQ goes on") from error


def _do(todo: Round, farm: Farm, notes: NotesFile, pool: ThreadPoolExecutor, say: Callable[[str], None]) -> None:
    if todo.pause:
        _pause(todo.pause, farm, notes, pool, say)
    calls: list[Callable[[], Any]] = [partial(farm.stop, job_id) for job_id in todo.stop_jobs]
    calls += [partial(farm.stop_run, execution_id) for execution_id in todo.stop_runs]
    for _ in pool.map(_unless_ended, calls):
        pass


def _pause(
    jobs: Sequence[OpenJob], farm: Farm, notes: NotesFile, pool: ThreadPoolExecutor, say: Callable[[str], None]
) -> None:
    """Notes the jobs, then pauses them, then notes what came of it."""
    now = time.time_ns() // 1_000_000
    mine = [Note(job_id=job.job_id, task_id=job.task_id, noted_at=now) for job in jobs]
    notes.change(lambda old: merged(old, mine))
    answers = list(pool.map(_unless_ended, [partial(farm.pause, job.job_id) for job in jobs]))
    paused = {job.job_id: paused_at(job) for job in answers if job is not None}
    notes.change(lambda old: confirmed(old, mine, paused))
    if paused:
        say(f"recurring jobs paused until the next `easyq up`: {len(paused)}")


def _told(left: list[Job], runs: list[OpenRun]) -> str:
    """How far it is, in words; empty where nothing is to be waited for."""
    recurring = {job.job_id for job in left if job.state in _RECURRING}
    stopping = sum(job.HasField("stop_requested_at") for job in left if job.job_id in recurring)
    words = []
    if plain := len(left) - len(recurring) + stopping:
        running = sum(job.state == Job.RUNNING for job in left)
        words.append(f"{plain} have not ended, {running} of them run")
    if theirs := sum(run.job_id in recurring for run in runs):
        words.append(f"{theirs} runs of recurring ones have not ended")
    return f"stopping jobs: {'; '.join(words)}" if words else ""


def _open_job(job: Job) -> OpenJob:
    return OpenJob(
        job_id=job.job_id,
        task_id=job.task_id,
        kind=_RECURRING.get(job.state, Kind.PLAIN),
        is_stopping=job.HasField("stop_requested_at"),
    )


def _open_run(run: Execution) -> OpenRun:
    return OpenRun(execution_id=run.execution_id, job_id=run.job_id, is_stopping=run.HasField("stop_requested_at"))


def _unless_ended(call: Callable[[], Answer]) -> Answer | None:
    """None if what it is about has ended, or gone, meanwhile."""
    try:
        return call()
    except (FailedPrecondition, NotFound):
        return None
