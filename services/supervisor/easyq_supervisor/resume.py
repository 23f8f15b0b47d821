"""Resumes what `easyq down --stop-jobs` has paused, once the system is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from easyq.aio import AsyncClient
from easyq.errors import EasyQError, FailedPrecondition, NotFound
from easyq.v1.job_pb2 import Job
from easyq_supervisor.adapters.notes import NotesFile, NotesUnreadable
from easyq_supervisor.domain.resting import Note, Notes, goes_on, told_resumed, without

_AT_ONCE = 16
_AGAIN = 1.0


class Jobs(Protocol):
    """What is asked of the farm."""

    async def get(self, job_id: str) -> Job: ...

    async def resume(self, job_id: str) -> Job: ...


async def go_on(notes: NotesFile, grpc: str, say: Callable[[str], None]) -> None:
    """Resumes the noted jobs of the farm at an address, and takes their notes away. What goes wrong is told."""
    try:
        found = notes.read()
        if found:
            async with AsyncClient(grpc) as client:
                await resume_noted(notes, found, client, say)
    except (OSError, NotesUnreadable) as error:
        say(f"recurring jobs that `easyq down --stop-jobs` paused may stay so: {error}")


async def resume_noted(notes: NotesFile, found: Notes, jobs: Jobs, say: Callable[[str], None]) -> None:
    """Comes back to jobs that can't be resumed now until all are. Raises NotesUnreadable, OSError."""
    resumed, left, is_told = 0, found, False
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(note: Note) -> bool | EasyQError:
        async with places:
            return await _resume(note, jobs)

    while left:
        results = await asyncio.gather(*(one(note) for note in left))
        errors = [result for result in results if isinstance(result, EasyQError)]
        done = [note for note, result in zip(left, results, strict=True) if isinstance(result, bool)]
        resumed += results.count(True)
        notes.change(partial(without, done=done))
        left = without(left, done)
        if errors:
            if not is_told:
                say(f"recurring jobs that can't be resumed yet: {len(left)} ({errors[0].message})")
                is_told = True
            await asyncio.sleep(_AGAIN)
    if resumed:
        say(told_resumed(resumed))


def paused_at(job: Job) -> int | None:
    """Milliseconds since the epoch; None where the job is not paused."""
    return job.schedule.paused_at.ToMilliseconds() if job.schedule.HasField("paused_at") else None


async def _resume(note: Note, jobs: Jobs) -> bool | EasyQError:
    """Whether the job was resumed; an error if that can't be said, and is to be tried again."""
    try:
        job = await jobs.get(note.job_id)
        is_stopping = job.HasField("stop_requested_at")
        if not goes_on(note, is_paused=job.state == Job.PAUSED, is_stopping=is_stopping, paused_at=paused_at(job)):
            return False
        await jobs.resume(note.job_id)
    except (NotFound, FailedPrecondition):
        return False
    except EasyQError as error:
        return error
    return True
