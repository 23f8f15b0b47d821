"""`easyq down`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from easyq.client import Client
from easyq.errors import EasyQError, FailedPrecondition, NotFound
from easyq.v1.job_pb2 import Job
from easyq_supervisor.adapters.folder import DataFolder

# A recurring job's state doesn't say whether something of it runs; once stopped it stays in it until nothing does.
_RECURRING = (Job.ACTIVE, Job.PAUSED)
OPEN_STATES = (Job.SCHEDULED, Job.QUEUED, Job.RUNNING, Job.RETRYING, *_RECURRING)

_AT_ONCE = 16
_POLL = 0.3
_SAY_EVERY = 10.0


class DownError(Exception):
    """It could not be done; the message says why, and what to do."""


def stop_jobs(client: Client, say: Callable[[str], None]) -> None:
    """Stops every job that has not ended, and returns when none is left. Raises EasyQError."""
    told = 0.0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stop") as pool:
        while left := list(client.jobs(states=OPEN_STATES)):
            unasked = [job.job_id for job in left if not job.HasField("stop_requested_at")]
            if unasked or time.monotonic() - told > _SAY_EVERY:
                say(_told(left))
                told = time.monotonic()
            for _ in pool.map(lambda job_id: _stop(client, job_id), unasked):
                pass
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
        with Client(running.grpc) as client:
            stop_jobs(client, say)
    except EasyQError as error:
        raise DownError(f"the jobs could not be stopped: {error.message}; nothing else was stopped either") from error


def _told(left: list[Job]) -> str:
    running = sum(job.state == Job.RUNNING for job in left)
    recurring = sum(job.state in _RECURRING for job in left)
    words = f"stopping jobs: {len(left)} have not ended, {running} of them run"
    return f"{words}, {recurring} recur" if recurring else words


def _stop(client: Client, job_id: str) -> None:
    try:
        client.stop(job_id)
    except (FailedPrecondition, NotFound):
        return  # it has ended meanwhile
