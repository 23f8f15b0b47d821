"""The tasks that have something in their queues: all of them, a page at a time, with sizes and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2
from easyq_gateway.convert import ms_of
from easyq_gateway.ports import Dispatchers, JobStore
from easyq_gateway.usecases.presenting import Presenter

# Tasks that are counted, at most: what is in their queues is known without looking at it, but each is one step.
_MOST_COUNTED = 1_000
# Tasks that are asked about at once.
_AT_ONCE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedTask:
    """A task that waits. Pool and limits are empty where no dispatcher answers.

    `since_ms`: since when its oldest job is there; None: it has got on meanwhile. `waiting`: why its next execution
    does not run yet.
    """

    task_id: str
    queued: int
    running: int
    since_ms: int | None
    waiting: job_pb2.Waiting | None
    pool: str
    limits: Sequence[farm_service_pb2.LimitStatus]


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedTasks:
    """A page of them by name. `after`: what the next page goes on behind, empty on the last one. `more`: of `count`
    tasks no more were counted."""

    items: Sequence[QueuedTask]
    after: str
    count: int
    more: bool


class Queues:
    """Reads them from the store and the dispatchers."""

    def __init__(self, *, store: JobStore, dispatchers: Dispatchers, presenter: Presenter) -> None:
        self._store = store
        self._dispatchers = dispatchers
        self._presenter = presenter

    async def page(self, after: str, size: int) -> QueuedTasks:
        """Returns the tasks whose names come behind `after`."""
        names, counted = await asyncio.gather(
            self._store.queued_tasks(after, size + 1), self._store.queued_tasks("", _MOST_COUNTED + 1)
        )
        room = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(*(self._task(task_id, room) for task_id in names[:size]))
        heads = [head for _, head in found if head is not None]
        await self._presenter.executions(heads)
        return QueuedTasks(
            items=[_with_reason(task, head) for task, head in found],
            after=names[size - 1] if len(names) > size else "",
            count=min(len(counted), _MOST_COUNTED),
            more=len(counted) > _MOST_COUNTED,
        )

    async def _task(self, task_id: str, room: asyncio.Semaphore) -> tuple[QueuedTask, job_pb2.Execution | None]:
        oldest = job_service_pb2.ListJobsRequest(
            task_id=task_id, state=[job_pb2.Job.QUEUED], order=job_pb2.ListOrder.OLDEST, page_size=1
        )
        async with room:
            counts, heads, jobs, matching = await asyncio.gather(
                self._store.count_executions(task_id),
                self._store.list_waiting(task_id, 1),
                self._store.list_jobs(oldest),
                self._dispatchers.explain_task(task_id),
            )
        head = heads[0] if heads else None
        since = [ms_of(job, "created_at") for job in jobs.items] + ([ms_of(head, "queued_at")] if head else [])
        task = QueuedTask(
            task_id=task_id,
            queued=counts.queued,
            running=counts.held,
            since_ms=min((at for at in since if at is not None), default=None),
            waiting=None,
            pool=matching.pool if matching is not None else "",
            limits=matching.limits if matching is not None else (),
        )
        return task, head


def _with_reason(task: QueuedTask, head: job_pb2.Execution | None) -> QueuedTask:
    return replace(task, waiting=head.waiting) if head is not None and head.HasField("waiting") else task
