"""Admission and rounds on fakes."""

from collections.abc import Sequence

import grpc
import pytest

from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import InvalidArgument, Unavailable
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest, PutJobResponse, SubmitResult
from easyq_internal.store.v1.records_pb2 import Head
from easyq_scheduler.usecases import Admission, DueRound, ExpiryRound
from tests.fakes.time_store import FakeTimeStore


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
        self.store.plan(request.job)
        return PutJobResponse(created=True)


class News:
    def __init__(self) -> None:
        self.heads: list[Head] = []

    def announce(self, heads: Sequence[Head]) -> None:
        self.heads += heads


class Farm:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeTimeStore(self.clock.now_ms)
        self.news = News()
        self.hurries = 0
        self.admission = Admission(sink=Sink(self.store), clock=self.clock, longest=0.5, hurry=self._hurry)
        self.due = DueRound(store=self.store, news=self.news, page=3, longest=0.5, shortest=0.02)
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
    cron.spec.cron = "* * * * *"
    results = await farm.admission.submit([job(1, ms=0), timeless, wild, cron, job(5, ms=60_000)])

    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["accepted", "error", "error", "error", "accepted"]
    assert sorted(farm.store.waiting) == ["e1", "e5"]
    assert {results[n].error.code for n in (1, 2, 3)} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
    assert results[2].error.reason == ErrorReason.INVALID_FIELDS
    assert results[2].error.message.startswith("startIn: ")
    assert results[3].error.reason == ErrorReason.NOT_SUPPORTED


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
