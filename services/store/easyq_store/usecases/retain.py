"""Retention: what is kept no longer goes, a little at a time, with rests in between."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from easyq_store.domain.deletion import is_superfluous
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.retention import OUTCOMES, Keep, Retention
from easyq_store.domain.states import JobState
from easyq_store.ports import JobFilter, Place, Plan, Steps
from easyq_store.usecases import delete
from easyq_store.usecases.context import Context
from easyq_store.usecases.decisions import decided_by
from easyq_store.usecases.purge import AT_ONCE, purge_execution

# Tasks, and recurring jobs, looked at in one go.
_TASKS = 50
_JOBS = 200
# Rest for each second of work.
_REST = 4.0
# Seconds between two looks at all recurring jobs; those that run are looked at as they do.
_WHOLE = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetainPace:
    """How much goes in one go, and the least seconds of rest after it."""

    batch: int = 50
    pause: float = 0.05


@dataclass(kw_only=True, slots=True)
class Removed:
    """What a look came to."""

    jobs: int = 0
    logs: int = 0
    executions: int = 0


class RetainRound:
    """Deletes what the rules no longer keep. `retention` may be replaced at any time."""

    def __init__(self, ctx: Context, retention: Retention, pace: RetainPace) -> None:
        self._ctx = ctx
        self.retention = retention
        self._pace = pace
        self._began = 0.0
        self._looked_at_all: float | None = None

    async def run_once(self) -> Removed:
        """One look at all tasks, and at recurring jobs that have run since the last one."""
        self._began = self._ctx.clock.monotonic()
        removed = Removed()
        with decided_by("retention"):
            if not self.retention.everything:
                await self._all_tasks(removed)
            await self._all_recurring()
            while self._ctx.overdue:
                removed.executions += await self._trim(self._ctx.overdue.pop())
        return removed

    async def _rest(self) -> None:
        """Lets others work: the more, the longer the work before took."""
        worked = self._ctx.clock.monotonic() - self._began
        await asyncio.sleep(max(self._pace.pause, _REST * worked))
        self._began = self._ctx.clock.monotonic()

    # ---------------------------------------------------------------------------------------------------------- tasks
    async def _all_tasks(self, removed: Removed) -> None:
        after = ""
        while found := await self._ctx.store.reads.task_ids(after, _TASKS):
            for task_id in found:
                keep = self.retention.of(task_id)
                for outcome, states in OUTCOMES.items():
                    removed.jobs += await self._old_jobs(task_id, states, keep.ages.get(outcome))
                if keep.counts:
                    removed.jobs += await self._too_many(task_id, keep)
                removed.logs += await self._old_logs(task_id, keep.logs)
            await self._rest()
            after = found[-1]

    async def _old_jobs(self, task_id: str, states: tuple[JobState, ...], age: int | None) -> int:
        if age is None:
            return 0
        before, gone = self._ctx.clock.now() - age, 0
        waits: set[str] = set()
        while found := await self._next_ended(task_id, states, before, self._pace.batch, waits):
            gone += await self._delete(found, before, waits)
            if len(found) < self._pace.batch:
                break
        return gone

    async def _next_ended(
        self, task_id: str, states: Collection[JobState], before: int, limit: int, waits: Collection[str]
    ) -> list[str]:
        """The jobs that ended longest ago, without those that were found to wait for something: they may be many."""
        found = await self._ctx.store.reads.ended_jobs(task_id, states, before, limit + len(waits))
        return [job_id for job_id in found if job_id not in waits][:limit]

    async def _too_many(self, task_id: str, keep: Keep) -> int:
        present, gone = await self._ctx.store.reads.count_jobs(task_id), 0
        before = self._ctx.clock.now() + 1
        for outcome, most in keep.counts.items():
            excess = sum(present.get(state, 0) for state in OUTCOMES[outcome]) - most
            waits: set[str] = set()
            while excess > len(waits):
                limit = min(excess - len(waits), self._pace.batch)
                found = await self._next_ended(task_id, OUTCOMES[outcome], before, limit, waits)
                if not found:
                    break
                some = await self._delete(found, before, waits)
                gone, excess = gone + some, excess - some
        return gone

    async def _delete(self, job_ids: Sequence[str], before: int, waits: set[str]) -> int:
        """How many went; the others, whatever they wait for, are added to `waits`, and left to the next look."""
        plans = [delete.deleting(self._ctx, job_id, force=False, ended_before=before) for job_id in job_ids]
        results = await delete.delete_all(self._ctx, plans)
        await self._rest()
        gone = [job_id for job_id, result in zip(job_ids, results, strict=True) if delete.is_gone(result)]
        waits.update(job_ids)
        waits.difference_update(gone)
        return len(gone)

    # ----------------------------------------------------------------------------------------------------------- logs
    async def _old_logs(self, task_id: str, age: int | None) -> int:
        if age is None:
            return 0
        before, gone = self._ctx.clock.now() - age, 0
        while found := await self._ctx.store.reads.with_logs(task_id, before, self._pace.batch):
            for execution_id in found:
                while not await self._ctx.store.run(removing_logs(self._ctx, execution_id)):
                    await self._rest()
                self._ctx.news.tell(execution_id)
            gone += len(found)
            await self._rest()
            if len(found) < self._pace.batch:
                break
        return gone

    # ----------------------------------------------------------------------------------------------- recurring jobs
    async def _all_recurring(self) -> None:
        """Takes up, now and then, all recurring jobs that have had more executions than are kept."""
        now = self._ctx.clock.monotonic()
        if self._looked_at_all is not None and now - self._looked_at_all < _WHOLE:
            return
        where, after = JobFilter(states=(JobState.ACTIVE, JobState.PAUSED)), None
        while found := await self._ctx.store.reads.list_jobs(where, after, _JOBS):
            for job in found:
                keep = self.retention.of(job.task_id).executions
                if keep is not None and job.attempts > keep:
                    self._ctx.overdue.add(job.job_id)
            await self._rest()
            after = Place(created_at=found[-1].created_at, id=found[-1].job_id)
        self._looked_at_all = now

    async def _trim(self, job_id: str) -> int:
        gone = 0
        while (job := await self._ctx.store.reads.get_job(job_id)) is not None:
            keep = self.retention.of(job.task_id).executions
            some = 0 if keep is None else await self._ctx.store.run(_trimming(job, keep))
            if not some:
                break
            gone += some
            await self._rest()
        return gone


def removing_logs(ctx: Context, execution_id: str) -> Plan[bool]:
    """Removes some of an ended execution's chunks; True once all are, which its record tells then."""

    async def plan(steps: Steps) -> bool:
        if await steps.delete_chunks(execution_id, AT_ONCE) >= AT_ONCE:
            return False
        now = ctx.clock.now()

        def mark(old: Execution) -> Execution:
            removed = old.ended and old.logs_removed_at is None
            return replace(old, logs_removed_at=now) if removed else old

        await steps.change_execution(execution_id, mark)
        if not steps.atomic:
            # One may have come before the mark.
            await steps.delete_chunks(execution_id, AT_ONCE)
        return True

    return plan


def _trimming(job: Job, keep: int) -> Plan[int]:
    async def plan(steps: Steps) -> int:
        left = AT_ONCE
        for execution in await steps.first_executions(job.job_id, AT_ONCE):
            if left <= 0 or job.schedule is None or not is_superfluous(execution, job.attempts, keep):
                continue
            if not await steps.has_unsent(job.job_id, execution.execution_id):
                left -= await purge_execution(steps, execution, limit=left)
        return AT_ONCE - left

    return plan
