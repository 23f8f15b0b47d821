"""Statistics of the farm and of tasks."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import stats_pb2, task_service_pb2
from easyq_chassis.clock import Clock
from easyq_gateway import convert
from easyq_gateway.domain.problems import Problem, Problems
from easyq_gateway.domain.stats import window
from easyq_gateway.ports import JobStore, StatsStore
from easyq_gateway.usecases.checking import Checker
from easyq_internal.store.v1 import stats_pb2 as store_stats_pb2


class Statistics:
    """GetStats, GetTaskStats."""

    def __init__(self, *, checker: Checker, stats: StatsStore, store: JobStore, clock: Clock) -> None:
        self._checker = checker
        self._stats = stats
        self._store = store
        self._clock = clock

    async def of_farm(self, request: stats_pb2.GetStatsRequest, found: Sequence[Problem] = ()) -> stats_pb2.Stats:
        """GetStats."""
        return await self._query(request, found)

    async def of_task(self, request: stats_pb2.GetTaskStatsRequest, found: Sequence[Problem] = ()) -> stats_pb2.Stats:
        """GetTaskStats. Raises `NotFound` for a task that is unknown and did nothing in that time."""
        answer = await self._query(request, found, request.task_id)
        if not (answer.total.executions or answer.total.jobs or answer.exits):
            await self._store.get_task(task_service_pb2.GetTaskRequest(task_id=request.task_id))
        return answer

    async def _query(
        self,
        request: stats_pb2.GetStatsRequest | stats_pb2.GetTaskStatsRequest,
        found: Sequence[Problem],
        task_id: str = "",
    ) -> stats_pb2.Stats:
        self._checker.require(request, found)
        problems = Problems()
        asked = window(
            start=convert.ms_of(request, "from_time"),
            end=convert.ms_of(request, "to_time"),
            step=convert.ms_of(request, "step"),
            now=self._clock.now_ms(),
            problems=problems,
        )
        if problems:
            raise convert.refusal(problems)
        query = store_stats_pb2.QueryRequest(task_id=task_id)
        convert.set_ms(query, "from_time", asked.start)
        convert.set_ms(query, "to_time", asked.end)
        convert.set_ms(query, "step", asked.step)
        return await self._stats.query(query)
