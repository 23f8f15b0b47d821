"""The tasks that have something in their queues: all of them, a page at a time, with sizes and what they wait for."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace

from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2, task_service_pb2
from easyq_gateway.convert import ms_of, set_ms
from easyq_gateway.domain.problems import Problem
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import Dispatchers, JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter

# Tasks that are counted, at most: what is in their queues is known without looking at it, but each is one step.
_MOST_COUNTED = 1_000
# Tasks that are asked about at once.
_AT_ONCE = 6
_DEFAULT_PAGE = 50
# Of a page's token, before the name that the next page goes on behind.
_TOKEN = b"1:"


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

    def __init__(
        self, *, checker: Checker, store: JobStore, dispatchers: Dispatchers, presenter: Presenter, links: Links
    ) -> None:
        self._checker = checker
        self._store = store
        self._dispatchers = dispatchers
        self._presenter = presenter
        self._links = links

    async def list_queues(
        self, request: task_service_pb2.ListQueuesRequest, found: Sequence[Problem] = ()
    ) -> task_service_pb2.ListQueuesResponse:
        """ListQueues."""
        after = _after(request.page_token)
        wrong = [Problem(path="pageToken", message="is not a token of this list")] if after is None else []
        self._checker.require(request, [*found, *wrong])
        items, last = await self._queued(after or "", request.page_size or _DEFAULT_PAGE)
        page = task_service_pb2.ListQueuesResponse(items=[_shown(task) for task in items])
        page.next_page_token = _token(last) if last else ""
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def page(self, after: str, size: int) -> QueuedTasks:
        """Returns the tasks whose names come behind `after`."""
        (items, last), counted = await asyncio.gather(
            self._queued(after, size), self._store.queued_tasks("", _MOST_COUNTED + 1)
        )
        return QueuedTasks(
            items=items,
            after=last,
            count=min(len(counted), _MOST_COUNTED),
            more=len(counted) > _MOST_COUNTED,
        )

    async def _queued(self, after: str, size: int) -> tuple[Sequence[QueuedTask], str]:
        """So many of them behind a name, and what the next ones are behind; empty where there are none."""
        names = await self._store.queued_tasks(after, size + 1)
        room = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(*(self._task(task_id, room) for task_id in names[:size]))
        await self._presenter.executions([head for _, head in found if head is not None])
        items = [_with_reason(task, head) for task, head in found]
        return items, names[size - 1] if len(names) > size else ""

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


def _shown(task: QueuedTask) -> task_service_pb2.TaskQueue:
    shown = task_service_pb2.TaskQueue(
        task_id=task.task_id, queued=task.queued, running=task.running, pool=task.pool, limits=task.limits
    )
    set_ms(shown, "oldest_at", task.since_ms)
    if task.waiting is not None:
        shown.waiting.CopyFrom(task.waiting)
    return shown


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(_TOKEN + last.encode()).decode().rstrip("=")


def _after(token: str) -> str | None:
    """The name in a token, None where it is none of ours."""
    try:
        body = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        name = body.removeprefix(_TOKEN).decode()
    except (ValueError, binascii.Error):
        return None
    return name if not token or (body.startswith(_TOKEN) and name.isprintable()) else None
