"""Stopping and retrying."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyq.v1 import execution_service_pb2, job_service_pb2
from easyq_gateway.domain.problems import Problem
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import Dispatchers, JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter
from easyq_internal.store.v1 import job_store_pb2


class Steering:
    """Stop and retry. Unknown ids raise `NotFound`, states that don't allow it `FailedPrecondition`."""

    def __init__(
        self,
        *,
        checker: Checker,
        store: JobStore,
        dispatchers: Dispatchers,
        presenter: Presenter,
        links: Links,
        new_execution_id: Callable[[], str],
    ) -> None:
        self._checker = checker
        self._store = store
        self._dispatchers = dispatchers
        self._presenter = presenter
        self._links = links
        self._new_execution_id = new_execution_id

    async def stop_job(
        self, request: job_service_pb2.StopJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.StopJobResponse:
        """StopJob. A repeat is harmless."""
        self._checker.require(request, found)
        answer = await self._stop(request.task_id, request.job_id, "")
        job = await self._presenter.job(answer.job)
        return job_service_pb2.StopJobResponse(outcome=answer.outcome, job=job)

    async def stop_execution(
        self, request: execution_service_pb2.StopExecutionRequest, found: Sequence[Problem] = ()
    ) -> execution_service_pb2.StopExecutionResponse:
        """StopExecution: the execution's job is stopped with it."""
        self._checker.require(request, found)
        wanted = execution_service_pb2.GetExecutionRequest(
            task_id=request.task_id, job_id=request.job_id, execution_id=request.execution_id
        )
        found_one = await self._store.get_execution(wanted)
        answer = await self._stop(found_one.task_id, found_one.job_id, request.execution_id)
        execution = await self._store.get_execution(wanted)
        await self._presenter.executions([execution])
        outcome = execution_service_pb2.StopExecutionResponse.Outcome.Value(
            job_service_pb2.StopJobResponse.Outcome.Name(answer.outcome)
        )
        return execution_service_pb2.StopExecutionResponse(outcome=outcome, execution=execution)

    async def retry_job(
        self, request: job_service_pb2.RetryJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.RetryJobResponse:
        """RetryJob: the next attempt of a job that has ended."""
        self._checker.require(request, found)
        answer = await self._store.retry_job(
            job_store_pb2.RetryJobRequest(
                task_id=request.task_id, job_id=request.job_id, execution_id=self._new_execution_id()
            )
        )
        if answer.HasField("ready"):
            self._dispatchers.tell_ready(answer.ready)
        return job_service_pb2.RetryJobResponse(
            task_id=answer.task_id,
            job_id=answer.job_id,
            execution_id=answer.execution_id,
            execution_url=self._links.execution(answer.task_id, answer.job_id, answer.execution_id),
        )

    async def _stop(self, task_id: str, job_id: str, execution_id: str) -> job_store_pb2.StopJobResponse:
        answer = await self._store.stop_job(
            job_store_pb2.StopJobRequest(task_id=task_id, job_id=job_id, execution_id=execution_id)
        )
        self._dispatchers.tell_stops(answer.hints)
        return answer
