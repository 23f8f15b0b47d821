"""Why things wait: a job, a task, a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from easyq.v1 import execution_service_pb2, farm_service_pb2, job_pb2, job_service_pb2, task_service_pb2
from easyq_gateway import convert
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import AgentRegister, Dispatchers, JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter
from easyq_gateway.usecases.reading import in_parts
from easyq_internal.store.v1 import job_store_pb2

_MOST_OF_JOB = 1_000
_MOST_OF_TASK = 20
_OPEN = (
    job_pb2.Execution.SCHEDULED,
    job_pb2.Execution.QUEUED,
    job_pb2.Execution.ASSIGNED,
    job_pb2.Execution.RUNNING,
)


class Explaining:
    """ExplainJob, ExplainTask, ExplainPool. Unknown ids raise `NotFound`."""

    def __init__(
        self,
        *,
        checker: Checker,
        store: JobStore,
        agents: AgentRegister,
        dispatchers: Dispatchers,
        presenter: Presenter,
    ) -> None:
        self._checker = checker
        self._store = store
        self._agents = agents
        self._dispatchers = dispatchers
        self._presenter = presenter

    async def job(
        self, request: job_service_pb2.ExplainJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.ExplainJobResponse:
        """ExplainJob."""
        self._checker.require(request, found)
        job = await self._store.get_job(job_store_pb2.GetJobRequest(task_id=request.task_id, job_id=request.job_id))
        page = await in_parts(
            self._store.list_executions,
            execution_service_pb2.ListExecutionsRequest(
                task_id=job.task_id, job_id=job.job_id, state=_OPEN, page_size=_MOST_OF_JOB
            ),
        )
        await asyncio.gather(
            self._presenter.executions(page.items, patient=True), self._presenter.silent_hosts(page.items)
        )
        for execution in page.items:
            if execution.HasField("waiting"):
                convert.set_since(execution.waiting, job, "last_modified_at")
        await self._presenter.listed_jobs([job], {})
        response = job_service_pb2.ExplainJobResponse(task_id=job.task_id, job_id=job.job_id, state=job.state)
        if job.HasField("waiting"):
            response.waiting.CopyFrom(job.waiting)
        response.executions.extend(_explanation(execution) for execution in reversed(page.items))
        return response

    async def task(
        self, request: task_service_pb2.ExplainTaskRequest, found: Sequence[Problem] = ()
    ) -> task_service_pb2.ExplainTaskResponse:
        """ExplainTask. Pool and limits are left out where no dispatcher answers."""
        self._checker.require(request, found)
        task_id = request.task_id
        await self._store.get_task(task_service_pb2.GetTaskRequest(task_id=task_id))
        counts, waiting = await asyncio.gather(
            self._store.count_executions(task_id), self._store.list_waiting(task_id, _MOST_OF_TASK)
        )
        matching, _ = await asyncio.gather(
            self._dispatchers.explain_task(task_id), self._presenter.executions(waiting, patient=True)
        )
        response = task_service_pb2.ExplainTaskResponse(task_id=task_id, queued=counts.queued, running=counts.held)
        if matching is not None:
            response.pool = matching.pool
            response.limits.extend(matching.limits)
        response.executions.extend(_explanation(execution) for execution in waiting)
        return response

    async def pool(
        self, request: farm_service_pb2.ExplainPoolRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ExplainPoolResponse:
        """ExplainPool. Raises `Unavailable` where no dispatcher answers."""
        self._checker.require(request, found)
        answer, agents = await asyncio.gather(self._dispatchers.explain_pool(request.name), self._agents.list_agents())
        response = farm_service_pb2.ExplainPoolResponse(pool=answer.pool)
        if answer.HasField("waiting"):
            response.waiting.CopyFrom(answer.waiting)
        response.agents.extend(agent for agent in agents if agent.agent_id in set(answer.agent_ids))
        return response


def _explanation(execution: job_pb2.Execution) -> job_service_pb2.ExecutionExplanation:
    told = job_service_pb2.ExecutionExplanation(
        execution_id=execution.execution_id,
        task_id=execution.task_id,
        job_id=execution.job_id,
        state=execution.state,
    )
    if execution.HasField("waiting"):
        told.waiting.CopyFrom(execution.waiting)
    return told
