"""Looking at tasks, jobs and executions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from easyq.v1 import execution_service_pb2, farm_service_pb2, job_pb2, job_service_pb2, task_service_pb2
from easyq_gateway.domain.problems import Problem
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter
from easyq_gateway.usecases.waits import waiting_executions
from easyq_internal.store.v1 import job_store_pb2

#: Newest executions that a job is shown with.
SHOWN_EXECUTIONS = 20


Request = TypeVar("Request", bound=Message)
Page = TypeVar("Page", bound=Message)

# A page is asked for in parts, so that one of the largest specs still fits a message, and ends early where it would
# be larger than is good for anybody.
_PART = 100
_MOST_PAGE_BYTES = 8 * 1024 * 1024
_DEFAULT_PAGE = 50


class Reading:
    """Gets, lists and search. Unknown ids raise `NotFound`."""

    def __init__(self, *, checker: Checker, store: JobStore, presenter: Presenter, links: Links) -> None:
        self._checker = checker
        self._store = store
        self._presenter = presenter
        self._links = links

    async def get_job(self, request: job_service_pb2.GetJobRequest, found: Sequence[Problem] = ()) -> job_pb2.Job:
        self._checker.require(request, found)
        wanted = job_store_pb2.GetJobRequest(
            task_id=request.task_id, job_id=request.job_id, executions=SHOWN_EXECUTIONS
        )
        return await self._presenter.job(await self._store.get_job(wanted))

    async def list_jobs(
        self, request: job_service_pb2.ListJobsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.ListJobsResponse:
        self._checker.require(request, found)
        page = await in_parts(self._store.list_jobs, request)
        await self._presenter.listed_jobs(page.items, await waiting_executions(self._store, page.items))
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def get_execution(
        self, request: execution_service_pb2.GetExecutionRequest, found: Sequence[Problem] = ()
    ) -> job_pb2.Execution:
        self._checker.require(request, found)
        execution = await self._store.get_execution(request)
        await self._presenter.executions([execution])
        return execution

    async def list_executions(
        self, request: execution_service_pb2.ListExecutionsRequest, found: Sequence[Problem] = ()
    ) -> execution_service_pb2.ListExecutionsResponse:
        self._checker.require(request, found)
        page = await in_parts(self._store.list_executions, request)
        await self._presenter.executions(page.items)
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def get_task(self, request: task_service_pb2.GetTaskRequest, found: Sequence[Problem] = ()) -> job_pb2.Task:
        self._checker.require(request, found)
        return await self._store.get_task(request)

    async def list_tasks(
        self, request: task_service_pb2.ListTasksRequest, found: Sequence[Problem] = ()
    ) -> task_service_pb2.ListTasksResponse:
        self._checker.require(request, found)
        page = await in_parts(self._store.list_tasks, request)
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def search(
        self, request: farm_service_pb2.SearchRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.SearchResponse:
        self._checker.require(request, found)
        hits = await self._store.search(request)
        for hit in hits.items:
            hit.url = self._url(hit)
        return hits

    def _url(self, hit: farm_service_pb2.SearchHit) -> str:
        if hit.execution_id:
            return self._links.execution(hit.task_id, hit.job_id, hit.execution_id)
        return self._links.job(hit.task_id, hit.job_id) if hit.job_id else self._links.task(hit.task_id)


async def in_parts(ask: Callable[[Request], Awaitable[Page]], request: Request) -> Page:
    """Returns the page that `request` asks for; it may be shorter, and its token then goes on from there.

    A part that is shorter than it might be took the store some time: the page ends with it.
    """
    part: Any = type(request)()
    part.CopyFrom(request)
    left = part.page_size if part.HasField("page_size") else _DEFAULT_PAGE
    part.page_size = min(left, _PART)
    page: Any = await ask(part)
    found = len(page.items)
    while page.next_page_token and len(page.items) < left and page.ByteSize() < _MOST_PAGE_BYTES:
        if found < part.page_size:
            break
        part.page_token = page.next_page_token
        part.page_size = min(left - len(page.items), _PART)
        more: Any = await ask(part)
        found = len(more.items)
        page.items.extend(more.items)
        page.next_page_token = more.next_page_token
    whole: Page = page
    return whole
