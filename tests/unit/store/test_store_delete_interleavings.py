"""Deletions amid everything else that may happen: stop, finish, retry, loss, crash, in every order of steps."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyq_store.domain.logs import Piece
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import Stream
from easyq_store.usecases import delete, purge, stop
from easyq_store.usecases.append import append
from tests.fakes.store import FakePersistence
from tests.support.store_world import World
from tests.unit.store.test_store_interleavings import Farm, play
from tests.unit.store.test_store_recurring_interleavings import Recurring

# Many steps of what others cover.
pytestmark = pytest.mark.no_cover


@dataclass
class Wiping(Farm):
    """As the farm, with deletions."""

    # Jobs whose deletion was begun: they are not made again.
    doomed: set[str] = field(default_factory=set)
    # Jobs whose deletion was answered.
    answered: set[str] = field(default_factory=set)

    def check_execution(self, old: Execution | None, new: Execution) -> None:
        if new.job_id not in self.doomed:
            super().check_execution(old, new)
        elif old is not None:
            assert new.epoch >= old.epoch

    async def submit(self, job_id: str) -> None:
        if job_id not in self.doomed:
            await super().submit(job_id)

    async def delete(self, job_id: str, *, force: bool) -> None:
        if job_id not in self.world.store.tables.jobs:
            return
        self.doomed.add(job_id)
        answer = await delete.delete_job(self.world.ctx, "", job_id, force=force)
        self.answered.add(job_id)
        if not answer.held and not self.revivals_now[job_id]:
            assert job_id not in self.world.store.tables.jobs

    async def write(self, execution_id: str, epoch: int) -> None:
        piece = Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDOUT, offset=0, data=b"x")
        await append(self.world.ctx, [piece])

    async def assign(self, index: int, agent_id: str) -> None:
        before = set(self.given)
        await super().assign(index, agent_id)
        for execution_id, _ in self.given - before:
            job_id = self.world.store.tables.executions[execution_id].job_id
            assert self.world.job(job_id).attempts

    def any_call(self) -> Coroutine[Any, Any, Any]:
        move = self.draw(st.integers(0, 9))
        job_id = self.draw(st.sampled_from(self.jobs))
        if move == 0:
            return self.delete(job_id, force=True)
        if move == 1:
            return self.delete(job_id, force=False)
        if move == 2 and self.holds:
            hold = self.draw(st.sampled_from(sorted(self.holds, key=str)))
            return self.write(hold.execution_id, hold.epoch)
        if move == 3:
            return stop.stop_job(self.world.ctx, "", job_id)
        return super().any_call()

    async def drain(self) -> None:
        await super().drain()
        await purge.finish_deletions(self.world.ctx)

    def check_end(self) -> None:
        tables = self.world.store.tables
        for job_id in self.answered:
            assert job_id not in tables.jobs
        for job in tables.jobs.values():
            assert not job.delete_requested
        for execution in tables.executions.values():
            assert execution.job_id in tables.jobs, "left behind"
        for (execution_id, _), chunks in tables.chunks.items():
            assert not chunks or execution_id in tables.executions, "left behind"
        assert sum(task.job_count for task in tables.tasks.values()) == len(tables.jobs)
        super().check_end()


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_random_interleavings_with_deletions(atomic: bool, data: st.DataObject) -> None:
    farm = Wiping(world=World(store=FakePersistence(atomic=atomic)), draw=data.draw)
    asyncio.run(play(farm))


@dataclass
class WipingRecurring(Recurring):
    """The farm of recurring jobs, with deletions."""

    doomed: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)

    def watch(self, old: Job | Execution | None, new: Job | Execution) -> None:
        if new.job_id not in self.doomed:
            super().watch(old, new)

    async def submit(self, job_id: str) -> None:
        if job_id not in self.doomed:
            await super().submit(job_id)

    async def put(self, job_id: str, *, other: bool = False) -> None:
        """Newer specs are the business of the test of recurring jobs; here they only keep deletions from happening."""

    async def delete(self, job_id: str) -> None:
        if job_id in self.world.store.tables.jobs:
            self.doomed.add(job_id)
            answer = await delete.delete_job(self.world.ctx, "", job_id, force=True)
            self.answered.add(job_id)
            if not answer.held:
                assert job_id not in self.world.store.tables.jobs

    def more_calls(self, job_id: str) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
        return {
            **super().more_calls(job_id),
            "delete": lambda: self.delete(job_id),
            "finish": lambda: purge.finish_deletions(self.world.ctx),
        }

    def check_decisions(self, job: Job) -> None:
        # A deletion that a crash cut off may have left one; what was decided on meanwhile was not looked at.
        if job.job_id not in self.doomed:
            super().check_decisions(job)

    async def undisturbed_round(self) -> None:
        await super().undisturbed_round()
        await purge.finish_deletions(self.world.ctx)

    def check_end(self) -> None:
        tables = self.world.store.tables
        for job_id in self.answered:
            assert job_id not in tables.jobs
        for execution in tables.executions.values():
            assert execution.job_id in tables.jobs, "left behind"
        assert set(tables.skips) <= set(tables.jobs), "left behind"
        super().check_end()


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_random_interleavings_of_recurring_jobs_with_deletions(atomic: bool, data: st.DataObject) -> None:
    farm = WipingRecurring(world=World(store=FakePersistence(atomic=atomic)), draw=data.draw)
    asyncio.run(play(farm))
