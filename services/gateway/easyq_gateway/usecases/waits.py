"""The executions that the jobs of a list wait with: a list has none, and why a job waits is told of its execution."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from easyq.v1 import execution_service_pb2
from easyq.v1.job_pb2 import Execution, Job
from easyq_chassis.errors import NotFound
from easyq_gateway.ports import JobStore
from easyq_internal.store.v1 import job_store_pb2

_MAY_WAIT = frozenset({Job.SCHEDULED, Job.QUEUED, Job.RUNNING, Job.RETRYING})
_WAITING = (Execution.SCHEDULED, Execution.QUEUED, Execution.ASSIGNED)
_PART = 100
# Later attempts are asked for one by one: so many of a page, and so many of them at once.
_MOST_ALONE = 100
_AT_ONCE = 8


async def waiting_executions(store: JobStore, jobs: Sequence[Job]) -> dict[str, Execution]:
    """Returns by job the execution that it waits with; of some thousand retries in one page not all are found."""
    found: dict[str, Execution] = {}
    asked = [job for job in jobs if job.state in _MAY_WAIT]
    for begin in range(0, len(asked), _PART):
        part = asked[begin : begin + _PART]
        ids = {job.job_id for job in part}
        # A job's first execution is as old as the job, so that those of a page lie together.
        page = await store.list_executions(_first_executions(part))
        for execution in page.items:
            if execution.job_id in ids:
                found.setdefault(execution.job_id, execution)
    # One that runs its first attempt waits for nothing.
    alone = [job for job in asked if job.job_id not in found and (job.state != Job.RUNNING or job.execution_count > 1)]
    room = asyncio.Semaphore(_AT_ONCE)

    async def newest(job: Job) -> None:
        async with room:
            try:
                shown = await store.get_job(job_store_pb2.GetJobRequest(job_id=job.job_id, executions=1))
            except NotFound:
                return
        if shown.executions and shown.executions[-1].state in _WAITING:
            found[job.job_id] = shown.executions[-1]

    await asyncio.gather(*(newest(job) for job in alone[:_MOST_ALONE]))
    return found


def _first_executions(jobs: Sequence[Job]) -> execution_service_pb2.ListExecutionsRequest:
    created = sorted(job.created_at.ToDatetime() for job in jobs)
    request = execution_service_pb2.ListExecutionsRequest(state=_WAITING, page_size=_PART)
    tasks = {job.task_id for job in jobs}
    if len(tasks) == 1:
        request.task_id = tasks.pop()
    request.created_after.FromDatetime(created[0])
    request.created_before.FromDatetime(created[-1] + timedelta(milliseconds=1))
    return request
