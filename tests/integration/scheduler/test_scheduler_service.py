"""The scheduler as a service: real sockets on both sides, the store and the dispatchers being fakes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.batching import MicroBatcher
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import Unavailable
from easyq_chassis.server import GrpcServer
from easyq_internal.dispatcher.v1.dispatcher_pb2 import NotifyRequest, NotifyResponse
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import (
    DispatcherServiceServicer,
    add_DispatcherServiceServicer_to_server,
)
from easyq_internal.scheduler.v1.scheduler_pb2 import PreviewScheduleRequest, WakeRequest
from easyq_internal.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceStub
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest, SubmitRequest, SubmitResult
from easyq_scheduler.app import App
from easyq_scheduler.config import SchedulerSettings
from tests.fakes.time_store import FakeTimeStore, serve
from tests.support.process import make_folder, remove_folder
from tests.support.waiting import eventually


class Dispatcher(DispatcherServiceServicer):
    """Notes which executions it was told of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def Notify(self, requests: AsyncIterator[NotifyRequest], context: Any) -> AsyncIterator[NotifyResponse]:
        async for request in requests:
            self.told += [head.execution_id for head in request.ready]
            yield NotifyResponse(batch=request.batch)


class Neighbours:
    """A store, two dispatchers (the second one is down at first) and any number of schedulers."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.store = FakeTimeStore()
        self.dispatchers = {
            name: Dispatcher()  # type: ignore[abstract] # the other methods stay UNIMPLEMENTED
            for name in ("d1", "d2")
        }
        self._stack = stack

    def address(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    async def start_store(self) -> GrpcServer:
        server = await serve(self.store, self.address("store"))
        self._stack.push_async_callback(server.stop, 0)
        return server

    async def start_dispatcher(self, name: str) -> None:
        server = GrpcServer(self.address(name))
        servicer = self.dispatchers[name]
        server.add(add_DispatcherServiceServicer_to_server, servicer, "easyq_internal.dispatcher.v1.DispatcherService")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)

    async def start_scheduler(self, name: str = "scheduler", **settings: Any) -> SchedulerServiceStub:
        app = App(
            SchedulerSettings(
                listen=self.address(name),
                store=self.address("store"),
                dispatchers=tuple(self.address(one) for one in self.dispatchers),
                **settings,
            )
        )
        await app.start()
        self._stack.push_async_callback(app.stop)
        return SchedulerServiceStub(self.channel(name))

    def channel(self, name: str) -> grpc.aio.Channel:
        channel = open_channel(self.address(name))
        self._stack.push_async_callback(channel.close)
        return channel


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = make_folder("sched")
    yield folder
    remove_folder(folder)


@pytest.fixture
async def farm(short_folder: Path) -> AsyncIterator[Neighbours]:
    async with AsyncExitStack() as stack:
        neighbours = Neighbours(short_folder, stack)
        await neighbours.start_dispatcher("d1")
        yield neighbours


def job(number: int, ms: int) -> NewJob:
    made = NewJob(task_id="t", job_id=f"j{number}", execution_id=f"e{number}", spec=JobSpec(image="i:1"))
    made.spec.start_in.FromMilliseconds(ms)
    made.spec.start_in.SetInParent()
    return made


async def submit(scheduler: Any, jobs: list[NewJob]) -> list[SubmitResult]:
    batcher: MicroBatcher[NewJob, SubmitResult] = MicroBatcher(scheduler.Submit, SubmitRequest)
    try:
        return await asyncio.gather(*(batcher.call(one) for one in jobs))
    finally:
        await batcher.close()


async def health(channel: grpc.aio.Channel) -> int:
    answer: Any = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def test_a_job_is_stored_fired_on_time_and_told_to_the_dispatchers(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler = await farm.start_scheduler(poll_interval=30)
    await submit(scheduler, [job(1, 0), job(2, 300)])
    planned = {key: one.due_ms for key, one in farm.store.waiting.items()}
    await eventually(lambda: farm.dispatchers["d1"].told == ["e1", "e2"])
    for key, due in planned.items():
        assert farm.store.fired_at_ms[key] >= due


async def test_a_bad_item_is_refused_alone(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler = await farm.start_scheduler()
    timeless = job(2, 0)
    timeless.spec.ClearField("start_in")
    good, bad = await submit(scheduler, [job(1, 60_000), timeless])
    assert good.accepted.job_id == "j1"
    assert bad.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_put_passes_the_stores_error_through(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler: Any = await farm.start_scheduler()
    answer = await scheduler.PutJob(PutJobRequest(job=job(1, 60_000)))
    assert answer.created
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.PutJob(PutJobRequest(job=job(1, 60_000), revision=7))
    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_with_two_schedulers_each_due_execution_is_fired_once(farm: Neighbours) -> None:
    await farm.start_store()
    schedulers = [await farm.start_scheduler(name, page=7) for name in ("s1", "s2")]
    jobs = [job(number, number % 5 * 100) for number in range(200)]
    await asyncio.gather(*(submit(one, jobs) for one in schedulers))
    await eventually(lambda: len(farm.store.fired) == 200)
    assert not farm.store.waiting
    assert len(set(farm.store.fired)) == 200
    await eventually(lambda: len(farm.dispatchers["d1"].told) == 200)
    assert len(set(farm.dispatchers["d1"].told)) == 200


async def test_with_two_schedulers_each_fire_of_a_recurring_job_is_made_once(farm: Neighbours) -> None:
    await farm.start_store()
    schedulers = [await farm.start_scheduler(name) for name in ("s1", "s2")]
    jobs = [
        NewJob(task_id="t", job_id=f"j{number}", spec=JobSpec(image="i:1", cron="@every 1s")) for number in range(20)
    ]
    await asyncio.gather(*(submit(one, jobs) for one in schedulers))
    await eventually(lambda: len(farm.store.fires) >= 60)
    assert len(set(farm.store.fires)) == len(farm.store.fires)
    told = farm.dispatchers["d1"].told
    await eventually(lambda: len(told) >= 60)
    assert len(set(told)) == len(told)
    for number in range(20):
        nominal = [at for job_id, at in farm.store.fires if job_id == f"j{number}"]
        assert nominal == [nominal[0] + 1_000 * n for n in range(len(nominal))]


async def test_a_wrong_schedule_is_refused_with_its_fields_and_previewed(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler: Any = await farm.start_scheduler()
    spec = JobSpec(image="i:1", cron="0 25 * * *", time_zone="Nowhere/Else")
    [refused] = await submit(scheduler, [NewJob(task_id="t", job_id="j", spec=spec)])
    assert [one.field for one in refused.error.fields] == ["cron", "timeZone"]
    assert not farm.store.recurring
    preview = await scheduler.PreviewSchedule(PreviewScheduleRequest(spec=spec, count=3))
    assert [one.field for one in preview.problems] == ["cron", "timeZone"]
    good = PreviewScheduleRequest(spec=JobSpec(cron="@hourly"), count=3)
    fires = (await scheduler.PreviewSchedule(good)).fires
    assert [at % 3_600_000 for at in fires] == [0, 0, 0]


async def test_a_dispatcher_that_is_away_delays_nobody_and_is_told_when_back(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler = await farm.start_scheduler()
    await submit(scheduler, [job(1, 0)])
    await eventually(lambda: farm.dispatchers["d1"].told == ["e1"])
    await farm.start_dispatcher("d2")

    numbers = iter(range(10, 1_000))

    async def told() -> bool:
        await submit(scheduler, [job(next(numbers), 0)])
        return bool(farm.dispatchers["d2"].told)

    await eventually(told, interval=0.1)


async def test_it_is_unhealthy_while_the_store_is_away_and_catches_up_after(farm: Neighbours) -> None:
    scheduler = await farm.start_scheduler()
    channel = farm.channel("scheduler")
    assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
    [result] = await submit(scheduler, [job(1, 0)])
    assert result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]

    farm.store.plan(job(2, 0))
    await farm.start_store()
    await eventually(lambda: farm.store.fired == ["e2"])

    async def is_health(wanted: int) -> bool:
        return await health(channel) == wanted

    # It looks after its health beside its work.
    await eventually(lambda: is_health(health_pb2.HealthCheckResponse.SERVING))
    farm.store.failure = Unavailable("restarting")
    await eventually(lambda: is_health(health_pb2.HealthCheckResponse.NOT_SERVING))


async def test_a_scheduler_that_starts_before_its_store_says_so_once_and_warns_of_nothing(farm: Neighbours) -> None:
    with capture_logs() as lines:
        await farm.start_scheduler()
        await eventually(lambda: [line for line in lines if line["event"] == "waits_for_store"])
        farm.store.plan(job(1, 0))
        await farm.start_store()
        await eventually(lambda: farm.store.fired == ["e1"])
    waits = [line for line in lines if line["event"] == "waits_for_store"]
    assert [(line["log_level"], line["store"]) for line in waits] == [("info", farm.address("store"))]
    assert not [line for line in lines if line["log_level"] not in {"info", "debug"}]


async def test_a_scheduler_whose_store_never_comes_ends_in_order(farm: Neighbours) -> None:
    await farm.start_scheduler()
    # The fixture stops it, while it waits.
    assert farm.store.lists == 0


async def test_a_wake_cuts_the_sleep_short(farm: Neighbours) -> None:
    await farm.start_store()
    scheduler: Any = await farm.start_scheduler(poll_interval=30, expiry_interval=30)
    await eventually(lambda: farm.store.lists > 0)
    late = job(2, 60_000)
    late.spec.expiration.FromMilliseconds(1)
    farm.store.plan(job(1, 0))
    farm.store.plan(late)
    await scheduler.Wake(WakeRequest())
    await eventually(lambda: farm.store.fired == ["e1"] and farm.store.expired == ["e2"])
