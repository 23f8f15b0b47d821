"""Recurring jobs on every backend: what depends on reads and writes of the database as they really are."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from easyq.v1.spec_pb2 import JobSpec, Overlap
from easyq_chassis.errors import EasyQError, FailedPrecondition
from easyq_internal.store.v1.job_store_pb2 import NewJob
from easyq_store.convert import jobs as convert_jobs
from easyq_store.convert.notices import targets_of
from easyq_store.convert.spec import policy_of, same_request
from easyq_store.domain.clock import StoreClock
from easyq_store.domain.moves import Claim
from easyq_store.domain.recurring import Fire, FireDecision, fire_id
from easyq_store.domain.sessions import Hello
from easyq_store.domain.states import ExecutionState, JobState, SkipReason, Trigger
from easyq_store.ports import Persistence
from easyq_store.usecases import assign, look, put, report, schedules, sessions, stop, submit, trigger
from easyq_store.usecases.context import Context
from easyq_store.usecases.news import News
from tests.support.store_records import T0
from tests.support.store_world import Machine, exited

BY_HAND = "00000000-0000-4000-8000-000000000001"


@dataclass
class Rig:
    """The use cases over one database."""

    store: Persistence
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        self.ctx = Context(
            store=self.store,
            clock=StoreClock(self.machine),
            share=lambda: 0.0,
            policy_of=policy_of,
            targets_of=targets_of,
            same_request=same_request,
            news=News(),
        )

    def new(self, overlap: Overlap.Mode.ValueType, *, retries: int = 0, cron: str = "* * * * *") -> submit.NewJob:
        spec = JobSpec(image="echo:1", cron=cron, overlap=overlap, retries=retries)
        return convert_jobs.new_job(NewJob(task_id="mail", job_id="job", execution_id=BY_HAND, spec=spec))

    async def submit(self, overlap: Overlap.Mode.ValueType, *, retries: int = 0) -> None:
        (accepted,) = await submit.submit(self.ctx, [self.new(overlap, retries=retries)])
        assert isinstance(accepted, submit.Accepted), accepted
        await sessions.open_session(self.ctx, Hello(agent_id="host-a", daemon_id="d", slots=9), [])

    def decision(self, *seconds: int, cursor: int = 0) -> FireDecision:
        fires = tuple(Fire(nominal=T0 + second * 1000, due_at=T0 + second * 1000) for second in seconds)
        last = fires[-1].nominal
        return FireDecision(
            job_id="job",
            revision=1,
            cursor=T0 + cursor * 1000 if cursor else 0,
            fires=fires,
            new_cursor=last,
            next_at=last + 60_000,
            next_fire=last + 60_000,
        )

    async def fire(self, *seconds: int, cursor: int = 0) -> schedules.Fired:
        self.machine.wall = max(self.machine.wall, T0 + seconds[-1] * 1000)
        return await schedules.fire_schedules(self.ctx, [self.decision(*seconds, cursor=cursor)])

    async def run(self, execution_id: str) -> None:
        execution = await self.store.reads.get_execution(execution_id)
        assert execution is not None
        claim = Claim(
            execution_id=execution_id,
            epoch=execution.epoch,
            generation=0,
            agent_id="host-a",
            session=1,
            pool="default",
        )
        (assigned,) = await assign.assign_all(self.ctx, [claim])
        assert isinstance(assigned, assign.Assignment), assigned

    async def end(self, execution_id: str, code: int = 0) -> report.Taken:
        word = report.Word(agent_id="host-a", execution_id=execution_id, epoch=1, said=exited(code))
        (taken,) = await report.report(self.ctx, [word])
        return taken

    async def states(self) -> str:
        view = await look.get_job(self.ctx, "", "job", 1_000)
        return " ".join([view.job.state.name, *(e.execution.state.name for e in view.executions)])


@pytest.fixture
def rig(store: Persistence) -> Rig:
    return Rig(store)


def of(second: int) -> str:
    return fire_id("job", T0 + second * 1000)


async def test_the_life_of_a_recurring_job(rig: Rig) -> None:
    await rig.submit(Overlap.QUEUE, retries=1)
    due = await schedules.list_due_schedules(rig.ctx, 10)
    assert [job.job_id for job in due.items] == ["job"]
    assert [head.execution_id for head in (await rig.fire(60)).ready] == [of(60)]
    assert (await schedules.list_due_schedules(rig.ctx, 10)).next_in_ms == 60_000
    await rig.run(of(60))
    await rig.fire(120, 180, cursor=60)
    view = await look.get_job(rig.ctx, "", "job", 20)
    assert view.job.schedule is not None
    assert view.job.schedule.waiting is not None
    assert [(skip.first, skip.reason) for skip in view.skips] == [(T0 + 180_000, SkipReason.ONE_WAITS)]
    taken = await rig.end(of(60), 1)
    assert await rig.states() == "ACTIVE FAILED SCHEDULED"
    assert taken.verdict is report.Verdict.OK
    retried = (await rig.store.reads.executions_of("job", 1))[0]
    assert (retried.trigger, retried.attempt, retried.fence) == (Trigger.RETRY, 2, 2)
    await trigger_is_refused(rig)
    await schedules.pause_job(rig.ctx, "mail", "job")
    assert (await schedules.list_due_schedules(rig.ctx, 10)).items == ()
    await schedules.resume_job(rig.ctx, "mail", "job")
    await put.put_job(rig.ctx, replace(rig.new(Overlap.ALLOW, retries=1), execution_id="put-2"), 0)
    assert await rig.states() == "ACTIVE FAILED SCHEDULED QUEUED"
    stopped = await stop.stop_job(rig.ctx, "mail", "job")
    assert (stopped.job.state, await rig.states()) == (JobState.STOPPED, "STOPPED FAILED STOPPED STOPPED")
    assert (stopped.job.pending, stopped.job.unsettled_since, stopped.job.fire_at) == ((), None, None)
    await put.put_job(rig.ctx, replace(rig.new(Overlap.SKIP, cron="@daily"), execution_id="put-3"), 0)
    assert (await rig.states()).startswith("ACTIVE")


async def trigger_is_refused(rig: Rig) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await trigger.trigger_job(rig.ctx, "", "job", BY_HAND)
    assert caught.value.reason == "OVERLAP"


async def test_a_fire_takes_the_place_of_what_runs(rig: Rig) -> None:
    await rig.submit(Overlap.REPLACE, retries=5)
    await rig.fire(60)
    await rig.run(of(60))
    stops = (await rig.fire(120, cursor=60)).stops
    assert [e.execution_id for e in stops] == [of(60)]
    await rig.end(of(60), 143)
    assert await rig.states() == "ACTIVE FAILED QUEUED"


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE, Overlap.ALLOW])
async def test_of_many_schedulers_one_decides(rig: Rig, overlap: Overlap.Mode.ValueType) -> None:
    await rig.submit(overlap)
    rig.machine.pass_(120)
    decisions = [rig.decision(60, 120), rig.decision(60), replace(rig.decision(120), fires=())] * 5
    fired = await asyncio.gather(*(schedules.fire_schedules(rig.ctx, [decision]) for decision in decisions))
    assert sum(each.recorded for each in fired) == 1
    job = await rig.store.reads.get_job("job")
    assert job is not None
    assert job.schedule is not None
    made = await rig.store.reads.executions_of("job", 10)
    assert (job.attempts, job.pending, job.unsettled_since) == (len(made), (), None)
    decided = len(made) + (job.schedule.waiting is not None) + job.schedule.skipped
    # Of the one decision that held, and of no other.
    assert decided in {T0 + 60_000: {1}, T0 + 120_000: {0, 2}}[job.schedule.cursor]


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE])
async def test_one_series_at_a_time_whatever_comes_at_once(rig: Rig, overlap: Overlap.Mode.ValueType) -> None:
    await rig.submit(overlap)
    await rig.fire(60)
    await rig.run(of(60))
    rig.machine.pass_(600)

    async def by_hand(number: int) -> str:
        try:
            triggered = await trigger.trigger_job(rig.ctx, "", "job", f"{BY_HAND[:-2]}{number:02}")
        except EasyQError as error:
            return error.reason
        return "runs" if triggered.execution_id else "waits"

    answers = await asyncio.gather(
        rig.end(of(60)),
        *(by_hand(number) for number in range(10, 18)),
        rig.fire(120, cursor=60),
        rig.fire(120, cursor=60),
    )
    made = (await rig.store.reads.executions_of("job", 100))[::-1]
    told = Counter(answer for answer in answers if isinstance(answer, str))
    job = await rig.store.reads.get_job("job")
    assert job is not None
    assert job.schedule is not None
    # None, if all that came was skipped before the end.
    assert len([e for e in made if not e.ended]) in ({0, 1} if overlap == Overlap.SKIP else {1}), told
    assert [e.attempt for e in made] == list(range(1, job.attempts + 1))
    assert (job.pending, job.unsettled_since, job.schedule.cursor) == ((), None, T0 + 120_000)
    assert told["runs"] <= len([e for e in made if e.trigger is Trigger.MANUAL])
    by_fire = [e for e in made if e.fire_at == T0 + 120_000]
    waits = job.schedule.waiting is not None and job.schedule.waiting.nominal == T0 + 120_000
    assert len(by_fire) + waits + job.schedule.skipped == 1
    while open_one := await rig.store.reads.open_executions("job"):
        assert len(open_one) == 1
        assert open_one[0].state is ExecutionState.QUEUED
        await rig.run(open_one[0].execution_id)
        await rig.end(open_one[0].execution_id)
    job = await rig.store.reads.get_job("job")
    assert job is not None
    assert job.schedule is not None
    assert job.schedule.waiting is None


@pytest.mark.parametrize("key", ["", "k"])
async def test_what_was_asked_for_is_learnt_from_a_repeat(rig: Rig, key: str) -> None:
    new = replace(rig.new(Overlap.SKIP), idempotency_key=key)
    await submit.submit(rig.ctx, [new])
    before = await rig.store.reads.get_job("job")
    assert before is not None
    asked = JobSpec(image="echo:1", cron="* * * * *").SerializeToString(deterministic=True)
    told = replace(new, asked=asked)
    rig.machine.wall += 1_000
    for _ in range(2):
        if key:
            (answer,) = await submit.submit(rig.ctx, [replace(told, job_id="unused", execution_id="unused")])
            assert isinstance(answer, submit.Accepted)
            assert (answer.job_id, answer.replayed_asked) == ("job", asked)
        else:
            assert not (await put.put_job(rig.ctx, replace(told, execution_id="put"), 0)).created
        assert await rig.store.reads.get_job("job") == replace(before, asked=asked, write_no=before.write_no + 1)
    # The defaults are others now.
    newer = replace(rig.new(Overlap.SKIP, retries=7), asked=asked, execution_id="put")
    spelled = JobSpec.FromString(asked)
    spelled.overlap = Overlap.SKIP
    await put.put_job(rig.ctx, newer, 0)
    await put.put_job(rig.ctx, replace(newer, asked=spelled.SerializeToString(deterministic=True)), 0)
    assert await rig.store.reads.get_job("job") == replace(before, asked=asked, write_no=before.write_no + 1)
