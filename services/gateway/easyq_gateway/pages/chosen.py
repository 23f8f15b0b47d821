"""Jobs of the error queue that were chosen one by one: looked at again, and retried or discarded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from easyq.v1 import job_pb2, job_service_pb2
from easyq_chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from easyq_gateway.pages.sources import Sources
from easyq_gateway.usecases.many import GAVE_UP

#: As many as a page has, and more than any page will.
MOST = 200
_AT_ONCE = 8


def ids_of(text: str) -> list[str]:
    """Returns the ids in a field of a form, with commas between them, each once. Raises `InvalidArgument`."""
    ids = list(dict.fromkeys(filter(None, text.split(","))))
    if len(ids) > MOST:
        raise InvalidArgument(f"at most {MOST} jobs can be chosen at once")
    return ids


async def look(sources: Sources, ids: Sequence[str]) -> list[job_pb2.Job]:
    """Returns those of the jobs that are in the error queue still."""
    found: list[job_pb2.Job | None] = [None] * len(ids)

    async def one(at: int) -> bool:
        job = await sources.reading.get_job(job_service_pb2.GetJobRequest(job_id=ids[at]))
        if job.state not in GAVE_UP:
            return False
        found[at] = job
        return True

    await _each(range(len(ids)), one)
    return [job for job in found if job is not None]


async def retry(sources: Sources, ids: Sequence[str]) -> int:
    """Retries those that are in the error queue still; returns how many those were."""

    async def one(job: job_pb2.Job) -> bool:
        await sources.steering.retry_job(job_service_pb2.RetryJobRequest(task_id=job.task_id, job_id=job.job_id))
        return True

    return await _each(await look(sources, ids), one)


async def discard(sources: Sources, ids: Sequence[str]) -> int:
    """Deletes those that are in the error queue still; returns how many those were."""

    async def one(job: job_pb2.Job) -> bool:
        await sources.deleting.delete_job(job_service_pb2.DeleteJobRequest(task_id=job.task_id, job_id=job.job_id))
        return True

    return await _each(await look(sources, ids), one)


async def _each(items: Sequence[object], deed: Callable[..., Awaitable[bool]]) -> int:
    """Does it with each, some at a time. One that has gone, or got on, in the meantime is left out."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(item: object) -> bool:
        async with room:
            try:
                return await deed(item)
            except (FailedPrecondition, NotFound):
                return False

    return sum(await asyncio.gather(*(one(item) for item in items)))
