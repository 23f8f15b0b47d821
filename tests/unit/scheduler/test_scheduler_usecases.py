"""Admission and rounds on fakes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import EasyQError, Internal, InvalidArgument, Unavailable
from easyq_internal.scheduler.v1.scheduler_pb2 import PreviewScheduleRequest
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest, PutJobResponse, StopHint, SubmitResult
from easyq_internal.store.v1.records_pb2 import DueSchedule, Head
from easyq_internal.store.v1.time_store_pb2 import (
    DueExecution,
    FireSchedulesResponse,
    ListDueResponse,
    ScheduleDecision,
)
from easyq_scheduler.usecases.admitting import Admission
from easyq_scheduler.usecases.recurring import Planner, ScheduleRound, decide, preview_schedule
from easyq_scheduler.usecases.rounds import DueRound, ExpiryRound
from easyq_scheduler.usecases.starting import StoreWait
from tests.fakes.time_store import FakeTimeStore
from tests.support.waiting import eventually


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Sink:
    def __init__(self, store: FakeTimeStore) -> None:
        self.store = store

    async def submit(self, job: NewJob) -> SubmitResult:
        return self.store.plan(job)

    async def put(self, request: PutJobRequest, timeout: float) -> PutJobResponse:
        accepted = self.store.plan(request.job).accepted
        schedule = accepted.schedule if accepted.HasField("schedule") else None
        return PutJobResponse(created=True, schedule=schedule, now=accepted.now)


class News:
    def __init__(self) -> None:
        self.heads: list[Head] = []

    def announce(self, heads: Sequence[Head], stops: Sequence[StopHint] = ()) -> None:
        self.heads += heads


class Farm:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeTimeStore(self.clock.now_ms)
        self.news = News()
        self.hurries = 0
        planner = Planner(store=self.store, news=self.news)
        self.admission = Admission(
            sink=Sink(self.store), planner=planner, clock=self.clock, longest=0.5, hurry=self._hurry
        )
        self.schedules = ScheduleRound(
            store=self.store, planner=planner, clock=self.clock, page=3, longest=0.5, shortest=0.02
        )
        self.due = DueRound(store=self.store, news=self.news, clock=self.clock, page=3, longest=0.5, shortest=0.02)
        self.expiry = ExpiryRound(store=self.store, page=3, longest=1.0, shortest=0.02)

    def _hurry(self) -> None:
        self.hurries += 1


@pytest.fixture
def farm() -> Farm:
    return Farm()


def job(number: int, **start_in_ms: int) -> NewJob:
    made = NewJob(task_id="t", job_id=f"j{number}", execution_id=f"e{number}", spec=JobSpec(image="i:1"))
    if "ms" in start_in_ms:
        made.spec.start_in.FromMilliseconds(start_in_ms["ms"])
        made.spec.start_in.SetInParent()
    return made


async def test_each_item_is_admitted_or_refused_on_its_own_and_in_order(farm: Farm) -> None:
    timeless, wild, cron = job(2), job(3, ms=-5), job(4)
    cron.spec.cron = "61 * * * *"
    cron.spec.time_zone = "Mars/Olympus"
    results = await farm.admission.submit([job(1, ms=0), timeless, wild, cron, job(5, ms=60_000)])

    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["accepted", "error", "error", "error", "accepted"]
    assert sorted(farm.store.waiting) == ["e1", "e5"]
    assert {results[n].error.code for n in (1, 2, 3)} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
    assert results[2].error.reason == ErrorReason.INVALID_FIELDS
    assert results[2].error.message.startswith("startIn: ")
    assert [one.field for one in results[3].error.fields] == ["cron", "timeZone"]


async def test_only_what_is_due_soon_wakes_the_due_loop(farm: Farm) -> None:
    await farm.admission.submit([job(1, ms=60_000)])
    assert farm.hurries == 0
    await farm.admission.submit([job(2, ms=10)])
    assert farm.hurries == 1


async def test_a_store_that_is_away_is_the_result_of_each_item(farm: Farm) -> None:
    farm.store.failure = Unavailable("the store can't be reached")
    results = await farm.admission.submit([job(1, ms=0), job(2, ms=0)])
    assert [result.error.reason for result in results] == [ErrorReason.UNAVAILABLE] * 2
    assert farm.hurries == 0


async def test_a_new_job_whose_window_has_no_fire_is_refused(farm: Farm) -> None:
    empty, some, hashed = recurring(1, "@hourly"), recurring(2, "@every 10s"), recurring(3, "H H 1 1 *")
    for made in (empty, some, hashed):
        made.spec.end_at.FromMilliseconds(farm.clock.ms + 10_000)
    results = await farm.admission.submit([empty, some, hashed])
    assert [[one.field for one in result.error.fields] for result in results] == [["endAt"], [], ["endAt"]]
    assert results[1].WhichOneof("result") == "accepted"
    # The times of one that is there may be counted from earlier: whoever puts it has asked already.
    assert (await farm.admission.put(PutJobRequest(job=empty), 5.0)).created


async def test_put_is_checked_and_passed_on(farm: Farm) -> None:
    assert (await farm.admission.put(PutJobRequest(job=job(1, ms=100)), 5.0)).created
    assert farm.hurries == 1
    with pytest.raises(InvalidArgument) as refused:
        await farm.admission.put(PutJobRequest(job=job(2)), 5.0)
    assert [problem.field for problem in refused.value.fields] == ["startAt"]
    assert list(farm.store.waiting) == ["e1"]


async def test_a_round_fires_what_is_due_and_sleeps_until_the_next(farm: Farm) -> None:
    await farm.admission.submit([job(1, ms=0), job(2, ms=300)])
    assert await farm.due.run_once() == pytest.approx(0.3)
    assert [head.execution_id for head in farm.news.heads] == ["e1"]
    farm.clock.ms += 300
    assert await farm.due.run_once() == 0.5
    assert farm.store.fired == ["e1", "e2"]


async def test_a_backlog_is_fired_page_after_page_without_a_pause(farm: Farm) -> None:
    await farm.admission.submit([job(number, ms=0) for number in range(7)])
    pauses = [await farm.due.run_once() for _ in range(3)]
    assert pauses == [0.0, 0.0, 0.5]
    assert len(farm.news.heads) == len(set(farm.store.fired)) == 7


async def test_what_another_scheduler_fired_is_not_announced_again(farm: Farm) -> None:
    await farm.admission.submit([job(1, ms=0)])
    listed = await farm.store.list_due(10)
    await farm.store.fire(listed.items)
    assert await farm.store.fire(listed.items) == []
    await farm.due.run_once()
    assert farm.news.heads == []


async def test_expiry_says_when_to_look_again(farm: Farm) -> None:
    for number, at in ((1, 1_000_000), (2, 1_000_400)):
        late = job(number, ms=60_000)
        late.spec.expiration.FromMilliseconds(at)
        farm.store.plan(late)
    assert await farm.expiry.run_once() == pytest.approx(0.4)
    assert farm.store.expired == ["e1"]


def recurring(number: int, cron: str, **fields: object) -> NewJob:
    spec = JobSpec(image="i:1", cron=cron, **fields)  # type: ignore[arg-type] # the fields of the test
    return NewJob(task_id="t", job_id=f"j{number}", execution_id=f"e{number}", spec=spec)


async def test_a_recurring_job_is_planned_with_its_admission(farm: Farm) -> None:
    [result] = await farm.admission.submit([recurring(1, "@every 10s")])
    assert result.WhichOneof("result") == "accepted"
    assert farm.store.recurring["j1"].next_at == farm.clock.ms + 10_000
    assert farm.store.fires == []


async def test_a_first_fire_that_comes_before_the_next_poll_wakes_the_loop(farm: Farm) -> None:
    farm.clock.ms = 1_000_000_600
    await farm.admission.submit([recurring(1, "@every 1s"), recurring(2, "0 * * * *")])
    assert farm.hurries == 0
    await farm.admission.submit([recurring(3, "* * * * * *")])
    assert farm.hurries == 1
    await farm.admission.put(PutJobRequest(job=recurring(4, "* * * * * *")), 5.0)
    assert farm.hurries == 2


async def test_a_jitter_that_lets_two_fires_follow_soon_is_kept(farm: Farm) -> None:
    """A round that fired a job sleeps no longer than until that job is due again."""
    await farm.admission.submit([recurring(1, "@every 1s", jitter=Duration(nanos=900_000_000))])
    for _ in range(200):
        pause = await farm.schedules.run_once()
        assert pause <= max(0.0, (farm.store.recurring["j1"].next_at - farm.clock.ms) / 1000)
        farm.clock.ms += max(1, round(pause * 1000))
    assert len(farm.store.fires) > 10


async def test_put_of_a_recurring_job_plans_it_as_well(farm: Farm) -> None:
    answer = await farm.admission.put(PutJobRequest(job=recurring(1, "@every 10s")), 5.0)
    assert farm.store.recurring["j1"].next_at == farm.clock.ms + 10_000
    assert answer.job.next_run_at.ToMilliseconds() == farm.clock.ms + 10_000
    with pytest.raises(InvalidArgument) as refused:
        await farm.admission.put(PutJobRequest(job=recurring(2, "no cron")), 5.0)
    assert [problem.field for problem in refused.value.fields] == ["cron"]


async def test_a_recurring_job_fires_when_it_is_due_and_is_told(farm: Farm) -> None:
    began = farm.clock.ms
    await farm.admission.submit([recurring(1, "@every 10s")])
    assert await farm.schedules.run_once() == 0.5
    for _ in range(3):
        farm.clock.ms += 10_000
        await farm.schedules.run_once()
    assert farm.store.fires == [("j1", began + n * 10_000) for n in (1, 2, 3)]
    assert [head.execution_id for head in farm.news.heads] == [f"j1@{at}" for _, at in farm.store.fires]


async def test_what_was_missed_follows_the_policy(farm: Farm) -> None:
    began = farm.clock.ms
    await farm.admission.submit([recurring(1, "@every 10s")])
    farm.clock.ms += 3_600_000 - 5_000
    await farm.schedules.run_once()
    # The fires of the last minute are on time, and stand for those that were missed.
    assert [at for _, at in farm.store.fires] == [began + n * 10_000 for n in range(354, 360)]
    assert sum(skip.count for skip in farm.store.skips) == 353


async def test_a_long_round_delays_what_is_due_after_it_by_nothing(farm: Farm) -> None:
    class Slow(FakeTimeStore):
        async def fire_schedules(self, decisions: Sequence[ScheduleDecision]) -> FireSchedulesResponse:
            farm.clock.ms += 100
            return await super().fire_schedules(decisions)

        async def fire(self, items: Sequence[DueExecution]) -> list[Head]:
            farm.clock.ms += 100
            return await super().fire(items)

    slow = Slow(farm.clock.now_ms)
    sizes = {"page": 3, "longest": 0.5, "shortest": 0.02}
    planner = Planner(store=slow, news=farm.news)
    schedules = ScheduleRound(store=slow, planner=planner, clock=farm.clock, **sizes)  # type: ignore[arg-type]
    due = DueRound(store=slow, news=farm.news, clock=farm.clock, **sizes)  # type: ignore[arg-type]

    slow.plan(recurring(1, "@every 1h"))
    farm.clock.ms += 300
    slow.plan(recurring(2, "@every 1h"))
    farm.clock.ms -= 300
    assert await schedules.run_once() == pytest.approx(0.2)
    slow.plan(job(3, ms=0))
    slow.plan(job(4, ms=300))
    assert await due.run_once() == pytest.approx(0.2)


async def test_fires_are_decided_while_the_store_records_those_before(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []

    def watched(due: DueSchedule, now: int) -> ScheduleDecision:
        decided.append(due.job_id)
        return decide(due, now)

    class Waits(FakeTimeStore):
        recorded = 0

        async def fire_schedules(self, decisions: Sequence[ScheduleDecision]) -> FireSchedulesResponse:
            self.recorded += len(decisions)
            await eventually(lambda: len(decided) > self.recorded or len(decided) == 120)
            return await super().fire_schedules(decisions)

    monkeypatch.setattr("easyq_scheduler.usecases.recurring.decide", watched)
    store = Waits(farm.clock.now_ms)
    for number in range(120):
        store.plan(recurring(number, "@every 10s"))
    farm.clock.ms += 10_000
    listed = await store.list_due_schedules(1_000)
    assert (await Planner(store=store, news=farm.news).record(listed.items, now=listed.now)).held == 120
    assert len(store.fires) == len(farm.news.heads) == 120
    assert decided == [item.job_id for item in listed.items]


async def test_two_schedulers_decide_each_fire_once(farm: Farm) -> None:
    await farm.admission.submit([recurring(1, "@every 10s")])
    farm.clock.ms += 10_000
    listed = await farm.store.list_due_schedules(10)
    other = Planner(store=farm.store, news=farm.news)
    assert (await other.record(listed.items, now=listed.now)).held == 1
    assert (await other.record(listed.items, now=listed.now)).held == 0
    await farm.schedules.run_once()
    assert len(farm.store.fires) == 1


async def test_a_schedule_whose_zone_has_gone_is_left_undecided_and_looked_at_again(farm: Farm) -> None:
    await farm.admission.submit([recurring(1, "@every 10s"), recurring(2, "@every 10s")])
    farm.store.recurring["j1"].job.spec.time_zone = "Gone/Zone"
    farm.clock.ms += 10_000
    await farm.schedules.run_once()
    assert [id_ for id_, _ in farm.store.fires] == ["j2"]
    assert farm.store.recurring["j1"].next_at == farm.clock.ms + 60_000


async def test_a_store_that_goes_away_after_the_admission_leaves_planning_to_the_poll(farm: Farm) -> None:
    class Away(FakeTimeStore):
        async def fire_schedules(self, decisions: Sequence[ScheduleDecision]) -> FireSchedulesResponse:
            raise Unavailable("the store has gone")

    away = Away(farm.clock.now_ms)
    hurried: list[None] = []
    admission = Admission(
        sink=Sink(away),
        planner=Planner(store=away, news=farm.news),
        clock=farm.clock,
        longest=0.5,
        hurry=lambda: hurried.append(None),
    )
    [result] = await admission.submit([recurring(1, "@every 10s")])
    assert result.WhichOneof("result") == "accepted"
    assert hurried


def test_a_preview_stores_nothing_and_tells_what_is_wrong() -> None:
    asked = PreviewScheduleRequest(spec=JobSpec(cron="0 3 * * *", time_zone="Europe/Berlin"), count=2)
    noon = 1_774_699_200_000  # 2026-03-28T12:00:00Z, the day before the clocks go forward in Berlin
    answer = preview_schedule(asked, noon)
    assert list(answer.fires) == [noon + 13 * 3_600_000, noon + 37 * 3_600_000]
    asked.spec.end_at.FromMilliseconds(noon + 13 * 3_600_000)
    assert list(preview_schedule(asked, noon).fires) == [noon + 13 * 3_600_000]
    asked.spec.end_at.FromMilliseconds(noon + 13 * 3_600_000 - 1)
    asked.spec.start_after.FromMilliseconds(noon + 1)
    assert [one.field for one in preview_schedule(asked, noon).problems] == ["endAt", "startAfter"]
    every = PreviewScheduleRequest(spec=JobSpec(cron="@every 1h"), anchor=noon - 1_800_000)
    every.spec.end_at.FromMilliseconds(noon + 1_800_000)
    assert not preview_schedule(every, noon).problems
    # It is there, and has had its last fire.
    every.spec.end_at.FromMilliseconds(noon + 1)
    assert not preview_schedule(every, noon).problems
    assert not preview_schedule(every, noon).fires
    every.anchor = 0
    assert [one.field for one in preview_schedule(every, noon).problems] == ["endAt"]
    asked.spec.cron = "0 3 * *"
    asked.spec.time_zone = "Nowhere"
    assert [one.field for one in preview_schedule(asked, noon).problems] == ["cron", "timeZone"]


class Sleepless(Clock):
    """A clock on which each look at the time takes `step` ms."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def monotonic(self) -> float:
        self.ms += self.step
        return super().monotonic()


class LateStore(FakeTimeStore):
    """Fails as told, one look after the other, and answers then."""

    def __init__(self, failures: Sequence[EasyQError]) -> None:
        super().__init__()
        self.failures = list(failures)

    async def list_due(self, limit: int) -> ListDueResponse:
        self.failure = self.failures.pop(0) if self.failures else None
        return await super().list_due(limit)


async def waited_for(*failures: EasyQError, step: int = 1) -> list[dict[str, Any]]:
    """What is logged by a scheduler whose store fails so; each look takes `step` ms."""
    wait = StoreWait(store=LateStore(failures), address="unix:/s", clock=Sleepless(step), pause=0.001)
    with capture_logs() as lines:
        await asyncio.wait_for(wait.until_there(), 10)
    return [dict(line) for line in lines]


async def test_a_store_that_starts_a_moment_later_is_waited_for_without_a_warning() -> None:
    first, last = await waited_for(*[Unavailable("refused")] * 5)
    assert (first["event"], first["log_level"], first["store"]) == ("waits_for_store", "info", "unix:/s")
    assert (last["event"], last["log_level"]) == ("store_is_there", "info")


@pytest.mark.parametrize("failures", [[], [Internal("a fault")]])
async def test_a_store_that_answers_is_not_waited_for(failures: list[EasyQError]) -> None:
    """Whatever it says: the loops tell what is wrong then."""
    assert await waited_for(*failures) == []
