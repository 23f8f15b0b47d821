"""Random interleavings of all that may happen to recurring jobs, step by step, with crashes in between.

Whatever comes: each nominal time is decided on exactly once (DESIGN 4.6), at most one series is open unless `overlap`
is ALLOW, fences grow in the order in which executions are made, and what waits runs in the end.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyq.v1.spec_pb2 import Backoff, Overlap
from easyq_store.domain.records import Execution, Job, Skip
from easyq_store.domain.recurring import Fire, FireDecision
from easyq_store.domain.states import JobState, SkipReason, Trigger
from easyq_store.usecases import schedules, stop, trigger
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0
from tests.support.store_world import World
from tests.unit.store.test_store_interleavings import AGENTS, Farm, play

# Many steps of what others cover.
pytestmark = pytest.mark.no_cover

JOBS = ("skip", "queue", "replace", "allow")
EVERY_MS = 5_000


def nominals(after: int, until: int) -> list[int]:
    """The times of a job that fires every five seconds."""
    first = T0 + ((max(after, T0) - T0) // EVERY_MS + 1) * EVERY_MS
    return list(range(first, until + 1, EVERY_MS))


@dataclass
class Recurring(Farm):
    """A farm of four recurring jobs, one for each `overlap`, and two schedulers."""

    jobs: tuple[str, ...] = JOBS
    # Times that were decided on, by the cursor of the job's record.
    decided: dict[str, list[int]] = field(default_factory=lambda: {job_id: [] for job_id in JOBS})
    by_hand: dict[str, str] = field(default_factory=dict)

    # ----------------------------------------------------------------------------------------------------- looking
    def watch(self, old: Job | Execution | None, new: Job | Execution) -> None:
        if isinstance(new, Execution):
            self.check_execution(old if isinstance(old, Execution) else None, new)
            return
        assert isinstance(old, Job)
        assert new.attempts >= old.attempts
        assert [p.attempt for p in new.pending] == sorted({p.fence for p in new.pending})
        if new.schedule and old.schedule and new.schedule.anchor == old.schedule.anchor:
            assert new.schedule.cursor >= old.schedule.cursor
            since = max(old.schedule.cursor, old.schedule.anchor)
            self.decided[new.job_id] += nominals(since, new.schedule.cursor)

    def check_execution(self, old: Execution | None, new: Execution) -> None:
        made = self.world.attempts(new.job_id)
        assert len({e.attempt for e in made}) == len(made)
        assert new.fence == new.attempt
        if new.job_id != "allow":
            assert self.open_series(new.job_id) <= 1, "two series at once"
            if old is None:
                assert all(e.fence < new.fence for e in made if e is not new), "a fence that did not grow"
            if new.held:
                assert all(e.ended for e in made if e.attempt < new.attempt), "3b"
        if old is None and new.trigger in {Trigger.RETRY, Trigger.INFRA_RETRY}:
            (before,) = (e for e in made if e.next and e.next.execution_id == new.execution_id)
            assert (before.ended, before.fire_at) == (True, new.fire_at)
            assert before.fence < new.fence

    def open_series(self, job_id: str) -> int:
        made = self.world.attempts(job_id)
        known = {e.execution_id for e in made}
        to_come = [e for e in made if e.next and e.next.execution_id not in known]
        return len(to_come) + len([e for e in made if not e.ended])

    # ------------------------------------------------------------------------------------------------------- calls
    def spec(self, job_id: str) -> dict[str, Any]:
        return {
            "overlap": Overlap.Mode.Value(job_id.upper()),
            "retries": 1,
            "infra_retries": 1,
            "backoff": Backoff(min=Duration(seconds=1)),
        }

    async def submit(self, job_id: str) -> None:
        await self.world.submit(job_id, cron="*/5 * * * * *", **self.spec(job_id))

    async def put(self, job_id: str, *, other: bool = False) -> None:
        """A newer spec; or also other times."""
        with self.reviving(job_id) as number:
            zone = str(number) if other else "UTC"
            execution_id = str(uuid.UUID(int=number))
            await self.world.put(
                job_id,
                cron="*/5 * * * * *",
                time_zone=zone,
                priority=number,
                execution_id=execution_id,
                **self.spec(job_id),
            )

    async def plan(self, *, coalesce: bool) -> None:
        """A scheduler looks, and some time later what it decided arrives."""
        due = await schedules.list_due_schedules(self.world.ctx, 10)
        await schedules.fire_schedules(
            self.world.ctx, [self.decision(job, due.now, coalesce=coalesce) for job in due.items]
        )

    def decision(self, job: Job, now: int, *, coalesce: bool) -> FireDecision:
        assert job.schedule is not None
        times = nominals(job.schedule.cursor or job.schedule.anchor, now)
        missed: list[int] = []
        if len(times) > 1 and coalesce:
            missed, times = times[:-1], times[-1:]
        skips = (
            [
                Skip(
                    first=missed[0],
                    last=missed[-1],
                    count=len(missed),
                    reason=SkipReason.COALESCED,
                    decided_at=now,
                )
            ]
            if missed
            else []
        )
        cursor = max([job.schedule.cursor or job.schedule.anchor, *times, *missed])
        (following,) = nominals(cursor, cursor + EVERY_MS)
        return FireDecision(
            job_id=job.job_id,
            revision=job.revision,
            cursor=job.schedule.cursor,
            fires=tuple(Fire(nominal=at, due_at=at) for at in times),
            skips=tuple(skips),
            new_cursor=cursor,
            next_at=following,
            next_fire=following,
        )

    async def trigger(self, job_id: str, *, again: bool) -> None:
        if not again or job_id not in self.by_hand:
            self.numbers += 1
            self.by_hand[job_id] = str(uuid.UUID(int=2**64 + self.numbers))
        await trigger.trigger_job(self.world.ctx, "", job_id, self.by_hand[job_id])

    def more_calls(self, job_id: str) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
        ctx = self.world.ctx
        return {
            # Drawn here, not in the calls: those may be cut short at any moment.
            "plan": lambda: self.plan(coalesce=self.draw(st.booleans())),
            "plan later": lambda: self.later(self.draw(st.sampled_from([3, 5, 11])), coalesce=self.draw(st.booleans())),
            "put other times": lambda: self.put(job_id, other=True),
            "pause": lambda: schedules.pause_job(ctx, "", job_id),
            "resume": lambda: schedules.resume_job(ctx, "", job_id),
            "trigger": lambda: self.trigger(job_id, again=False),
            "trigger again": lambda: self.trigger(job_id, again=True),
        }

    async def later(self, seconds: int, *, coalesce: bool) -> None:
        self.world.machine.pass_(seconds)
        await self.plan(coalesce=coalesce)

    # --------------------------------------------------------------------------------------------------- to the end
    async def drain(self) -> None:
        await self.crash()
        self.world.store.between = self.let_through
        for agent_id in AGENTS:
            await self.hello(agent_id)
        # Without further fires all that is open ends, and what waits runs.
        for _ in range(12):
            await self.undisturbed_round()
        for job in self.world.store.tables.jobs.values():
            assert self.open_series(job.job_id) == 0, ("4", self.world.states(job.job_id))
            assert (job.pending, job.unsettled_since) == ((), None)
            assert job.schedule is not None
            assert (job.schedule.waiting, job.schedule.unkept) == (None, ()), self.world.states(job.job_id)
            assert job.attempts == len(self.world.attempts(job.job_id))
            self.check_decisions(job)
        for job in list(self.world.store.tables.jobs.values()):
            if not job.ended:
                await stop.stop_job(self.world.ctx, "", job.job_id)

    def check_decisions(self, job: Job) -> None:
        """Each time that was decided on is either that of one series, or in one skip."""
        made = self.world.attempts(job.job_id)
        ran = [e.fire_at or 0 for e in made if e.trigger is Trigger.SCHEDULE]
        kept = self.world.store.tables.skips.get(job.job_id, [])
        skipped = [at for skip in kept for at in range(skip.first, skip.last + 1, EVERY_MS)]
        assert sum(skip.count for skip in kept) == len(skipped)
        assert sorted([*ran, *skipped]) == sorted(self.decided[job.job_id]), self.world.states(job.job_id)

    def check_end(self) -> None:
        for job in self.world.store.tables.jobs.values():
            assert job.state is JobState.STOPPED
            assert (job.pending, job.unsettled_since, job.fire_at) == ((), None, None)


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_random_interleavings_of_recurring_jobs(atomic: bool, data: st.DataObject) -> None:
    farm = Recurring(world=World(store=FakePersistence(atomic=atomic)), draw=data.draw)
    asyncio.run(play(farm))
