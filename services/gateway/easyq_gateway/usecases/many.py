"""Calls for many jobs at once, and the error queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from easyq.v1 import job_pb2, job_service_pb2
from easyq_chassis.patterns import Pattern
from easyq_gateway.domain.problems import Problem, Problems
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import Dispatchers, JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.paging import PAGE, TimeLeft
from easyq_gateway.usecases.presenting import Presenter
from easyq_internal.store.v1 import job_store_pb2

#: States of the jobs that gave up.
GAVE_UP = (job_pb2.Job.FAILED, job_pb2.Job.TIMED_OUT)

ManyCall: TypeAlias = Callable[[job_store_pb2.ManyRequest], Awaitable[job_store_pb2.ManyResponse]]


class Many:
    """StopJobs, and ListErrors, RetryErrors, DiscardErrors.

    Those that change something go through the store's pages, and raise `DeadlineExceeded` where that takes too long:
    what was done by then is done, and the same call again goes on.
    """

    def __init__(
        self, *, checker: Checker, store: JobStore, dispatchers: Dispatchers, presenter: Presenter, links: Links
    ) -> None:
        self._checker = checker
        self._store = store
        self._dispatchers = dispatchers
        self._presenter = presenter
        self._links = links

    async def stop_jobs(
        self, request: job_service_pb2.StopJobsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.StopJobsResponse:
        """StopJobs. A selection without a condition is refused: it would stop the whole farm by an oversight."""
        problems = _selection_problems(request.selection)
        if request.HasField("selection") and not request.selection.ListFields():
            problems.add("selection", "needs at least one condition")
        self._checker.require(request, [*found, *problems])
        total = await self._all(self._store.stop_many, request.selection, dry_run=request.dry_run, done="stopped")
        return job_service_pb2.StopJobsResponse(matched=total.matched, stopped=total.done, stopping=total.stopping)

    async def retry_errors(
        self, request: job_service_pb2.RetryErrorsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.RetryErrorsResponse:
        """RetryErrors."""
        self._checker.require(request, [*found, *_error_problems(request.selection)])
        selection = _of_errors(request.selection)
        total = await self._all(self._store.retry_many, selection, dry_run=request.dry_run, done="retried")
        return job_service_pb2.RetryErrorsResponse(matched=total.matched, retried=total.done)

    async def discard_errors(
        self, request: job_service_pb2.DiscardErrorsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.DiscardErrorsResponse:
        """DiscardErrors."""
        self._checker.require(request, [*found, *_error_problems(request.selection)])
        selection = _of_errors(request.selection)
        total = await self._all(self._store.delete_many, selection, dry_run=request.dry_run, done="discarded")
        return job_service_pb2.DiscardErrorsResponse(matched=total.matched, discarded=total.done)

    async def list_errors(
        self, request: job_service_pb2.ListErrorsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.ListErrorsResponse:
        """ListErrors."""
        self._checker.require(request, found)
        page = await self._store.list_errors(request)
        await self._presenter.listed_jobs(page.items, {})
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def _all(
        self, call: ManyCall, selection: job_service_pb2.JobSelection, *, dry_run: bool, done: str
    ) -> job_store_pb2.ManyResponse:
        wanted = job_store_pb2.ManyRequest(selection=selection, limit=PAGE, dry_run=dry_run)
        total, time = job_store_pb2.ManyResponse(), TimeLeft()
        while True:
            page = await call(wanted)
            self._dispatchers.tell_stops(page.hints)
            for head in page.ready:
                self._dispatchers.tell_ready(head)
            total.matched += page.matched
            total.done += page.done
            total.stopping += page.stopping
            wanted.cursor = page.next_cursor
            if not wanted.cursor:
                return total
            time.require(f"{total.matched} jobs matched and {total.done} are {done} so far")


def _selection_problems(selection: job_service_pb2.JobSelection) -> Problems:
    problems = Problems()
    try:
        Pattern(selection.task_pattern)
    except ValueError as error:
        problems.add("selection.taskPattern", str(error))
    return problems


def _error_problems(selection: job_service_pb2.JobSelection) -> Problems:
    problems = _selection_problems(selection)
    for index, state in enumerate(selection.state):
        if state not in GAVE_UP:
            problems.add(f"selection.state[{index}]", "is no state of the error queue, which has FAILED and TIMED_OUT")
    return problems


def _of_errors(selection: job_service_pb2.JobSelection) -> job_service_pb2.JobSelection:
    narrowed = job_service_pb2.JobSelection()
    narrowed.CopyFrom(selection)
    if not narrowed.state:
        narrowed.state.extend(GAVE_UP)
    return narrowed
