"""What is due, what expires, and the clock's mark."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq_store.domain.states import ExecutionState
from easyq_store.loops import ClockRound
from easyq_store.usecases import stop, time
from tests.support.store_records import T0
from tests.support.store_world import World, exited


async def test_what_is_due_is_fired(world: World) -> None:
    first = await world.submit("first", start_in=Duration(seconds=10))
    second = await world.submit("second", start_in=Duration(seconds=20))
    assert await time.list_due(world.ctx, 10) == time.Due(items=(), next_in_ms=10_000)
    world.machine.pass_(12)
    due = await time.list_due(world.ctx, 10)
    assert [(d.execution_id, d.epoch) for d in due.items] == [(first, 0)]
    assert due.next_in_ms == 8_000
    (head,) = await time.fire_all(world.ctx, [(first, 0), (second, 0), ("unknown", 0)])
    assert head.execution_id == first
    assert (world.states("first"), world.states("second")) == ("QUEUED QUEUED", "SCHEDULED SCHEDULED")
    assert await time.fire_all(world.ctx, [(first, 0)]) == []
    world.machine.pass_(8)
    assert len((await time.list_due(world.ctx, 10)).items) == 1


async def test_more_is_due_than_fits(world: World) -> None:
    for name in "abc":
        await world.submit(name, start_in=Duration(seconds=1))
    world.machine.pass_(2)
    assert (await time.list_due(world.ctx, 2)).next_in_ms == 0
    due = await time.list_due(world.ctx, 4)
    assert (len(due.items), due.next_in_ms) == (3, None)


async def test_what_was_replaced_meanwhile_is_left_alone(world: World) -> None:
    execution_id = await world.submit(start_in=Duration(seconds=1))
    await world.put(start_in=Duration(seconds=1), command=["x"])
    world.machine.pass_(2)
    assert await time.fire_all(world.ctx, [(execution_id, 0)]) == []
    assert len(await time.fire_all(world.ctx, [(execution_id, 1)])) == 1


async def test_an_execution_that_is_fired_too_late_expires(world: World) -> None:
    execution_id = await world.submit(start_in=Duration(seconds=1), start_deadline=Duration(seconds=1))
    world.machine.pass_(3)
    assert await time.fire_all(world.ctx, [(execution_id, 0)]) == []
    assert world.states() == "EXPIRED EXPIRED"


async def test_what_waits_too_long_expires(world: World) -> None:
    await world.hello()
    queued = await world.submit("queued", start_deadline=Duration(seconds=5))
    await world.submit("scheduled", start_in=Duration(seconds=60), expiration=Timestamp(seconds=T0 // 1000 + 10))
    running = await world.submit("running", start_deadline=Duration(seconds=5))
    await world.run(running)
    assert await time.expire_waiting(world.ctx, 10) == time.Expiry(expired=0, next_in_ms=5_001)
    world.machine.pass_(5)
    assert (await time.expire_waiting(world.ctx, 10)).expired == 0
    world.machine.pass_(0.001)
    assert await time.expire_waiting(world.ctx, 10) == time.Expiry(expired=1, next_in_ms=5_000)
    assert world.execution(queued).state is ExecutionState.EXPIRED
    world.machine.pass_(10)
    assert await time.expire_waiting(world.ctx, 1) == time.Expiry(expired=1, next_in_ms=0)
    assert await time.expire_waiting(world.ctx, 1) == time.Expiry(expired=0, next_in_ms=None)
    assert world.states("running") == "RUNNING RUNNING"
    assert (world.states("queued"), world.states("scheduled")) == ("EXPIRED EXPIRED", "EXPIRED EXPIRED")


async def test_a_retry_is_fired_like_anything_else(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=1)
    await world.run(execution_id)
    await world.say(execution_id, exited(1))
    world.machine.pass_(2)
    (due,) = (await time.list_due(world.ctx, 10)).items
    await time.fire_all(world.ctx, [(due.execution_id, due.epoch)])
    assert world.states() == "QUEUED FAILED QUEUED"


async def test_what_was_stopped_is_not_fired(world: World) -> None:
    execution_id = await world.submit(start_in=Duration(seconds=1))
    await stop.stop_job(world.ctx, "", "job")
    world.machine.pass_(2)
    assert await time.fire_all(world.ctx, [(execution_id, 0)]) == []
    assert (await time.list_due(world.ctx, 10)).items == ()


async def test_the_clock_goes_on_after_a_restart_with_an_earlier_machine(world: World) -> None:
    world.machine.pass_(100)
    await ClockRound(world.ctx).run_once()
    world.machine.wall -= 3_600_000
    world.restart()
    assert world.ctx.clock.now() == T0 + 100_000
    await ClockRound(world.ctx).run_once()
    assert world.store.tables.clock == T0 + 100_000


async def test_the_clock_takes_over_what_another_process_told(world: World) -> None:
    world.store.tables.clock = T0 + 50_000
    await ClockRound(world.ctx).run_once()
    assert world.ctx.clock.now() == T0 + 50_000
