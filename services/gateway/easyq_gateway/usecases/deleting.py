"""Deleting jobs, and tasks with all that is theirs."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import job_service_pb2, task_service_pb2
from easyq_chassis.errors import NotFound
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import Dispatchers, JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.paging import PAGE, TimeLeft
from easyq_internal.store.v1 import job_store_pb2


class Deleting:
    """DeleteJob and DeleteTask. Unknown ids raise `NotFound`, what needs `force` `FailedPrecondition`."""

    def __init__(self, *, checker: Checker, store: JobStore, dispatchers: Dispatchers) -> None:
        self._checker = checker
        self._store = store
        self._dispatchers = dispatchers

    async def delete_job(
        self, request: job_service_pb2.DeleteJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.DeleteJobResponse:
        """DeleteJob."""
        self._checker.require(request, found)
        answer = await self._store.delete_job(
            job_store_pb2.DeleteJobRequest(task_id=request.task_id, job_id=request.job_id, force=request.force)
        )
        self._dispatchers.tell_stops(answer.hints)
        return job_service_pb2.DeleteJobResponse(stopping=answer.stopping)

    async def delete_task(
        self, request: task_service_pb2.DeleteTaskRequest, found: Sequence[Problem] = ()
    ) -> task_service_pb2.DeleteTaskResponse:
        """DeleteTask, page by page. Raises `DeadlineExceeded` where that takes too long; the same call goes on then."""
        self._checker.require(request, found)
        response = task_service_pb2.DeleteTaskResponse()
        wanted = job_store_pb2.DeleteTaskRequest(task_id=request.task_id, force=request.force, limit=PAGE)
        time, first = TimeLeft(), True
        while True:
            try:
                page = await self._store.delete_task(wanted)
            except NotFound:
                if first:
                    raise
                return response  # its last job is gone, and the task with it
            first = False
            self._dispatchers.tell_stops(page.hints)
            response.deleted += page.deleted
            response.stopping += page.stopping
            if not page.more:
                return response
            time.require(f"{response.deleted} jobs are deleted and {response.stopping} being stopped so far")
