"""The suite of the port FarmStore: on the fake, on the adapter before the fake, and on the adapter before the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.channel import open_channel
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import FailedPrecondition, Unavailable
from easyq_chassis.ids import new_execution_id, new_job_id
from easyq_dispatcher.adapters.grpc_store import IDEMPOTENT, GrpcFarmStore
from easyq_dispatcher.convert import store as convert_store
from easyq_dispatcher.domain.agents import Held, Hello, Phase
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.records import Head, Taking
from easyq_dispatcher.ports import Beat, FarmStore
from easyq_internal.store.v1 import job_store_pb2
from easyq_internal.store.v1.job_store_pb2_grpc import JobStoreServiceStub
from easyq_internal.store.v1.records_pb2 import Directive, Finish, GiveBack, Report, ReportResult, Started
from easyq_store.app import App as Store
from easyq_store.config import StoreSettings
from tests.fakes.dispatcher import FakeFarm, FakeFarmServer

Order = Directive.Order
Said = ReportResult.Verdict
Submit = Callable[..., Awaitable[list[Head]]]


class Side:
    """A store and how tests fill it. `stop` makes it unreachable."""

    def __init__(self, store: FarmStore, submit: Submit, stop: Callable[[], Awaitable[None]]) -> None:
        self.store, self.submit, self.stop = store, submit, stop


@pytest.fixture(params=["fake", "fake over gRPC", "store over gRPC"])
async def side(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Side]:
    farm = FakeFarm()

    async def submit_to_farm(task: str, count: int = 1, *, priority: int = 0) -> list[Head]:
        return farm.submit(task, count, priority=priority)

    async def go_away() -> None:
        farm.away = True

    if request.param == "fake":
        yield Side(farm, submit_to_farm, go_away)
        return
    address = f"unix:{tmp_path}/s"
    async with open_channel(address, idempotent=IDEMPOTENT) as channel:
        adapter = GrpcFarmStore(channel, clock=SystemClock(), timeout=5.0)
        if request.param == "fake over gRPC":
            server = FakeFarmServer(farm, address)
            await server.start()
            yield Side(adapter, submit_to_farm, server.stop)
            await server.stop()
        else:
            store = await start_store(address, tmp_path)
            yield Side(adapter, job_submitter(channel), store.stop)
            await store.stop()
        await adapter.close()


async def start_store(address: str, folder: Path) -> Store:
    values: dict[str, Any] = {"listen": address, "database": f"sqlite:///{folder}/store.db", "shutdown_grace": 0.1}
    store = Store(StoreSettings(**values))
    await store.start()
    return store


def job_submitter(channel: grpc.aio.Channel) -> Submit:
    async def submit(task: str, count: int = 1, *, priority: int = 0) -> list[Head]:
        jobs = [
            job_store_pb2.NewJob(
                task_id=task,
                job_id=new_job_id(),
                execution_id=new_execution_id(),
                spec=JobSpec(image="example:1", priority=priority),
            )
            for _ in range(count)
        ]
        call: Any = JobStoreServiceStub(channel).Submit()
        await call.write(job_store_pb2.SubmitRequest(batch=1, items=jobs))
        response = await call.read()
        call.cancel()
        heads = [result.accepted.ready for result in response.results]
        return [convert_store.head(item) for item in heads]

    return submit


def hello(agent: str = "a", *, daemon: str = "daemon", inventory: tuple[Held, ...] = ()) -> Hello:
    return Hello(
        agent_id=agent,
        daemon_id=daemon,
        hostname="host",
        pools=("default",),
        slots=4,
        version="1",
        protocol_min=1,
        protocol_max=1,
        inventory=inventory,
        healthy=True,
        message="",
    )


async def open_session(store: FarmStore, **values: Any) -> int:
    opened = await store.open_session(hello(**values), pools=("default",), lost_after_ms=120_000, lease_ms=15_000)
    return opened.number


def taking(head: Head, session: int, *, agent: str = "a") -> Taking:
    return Taking(head=head, token="1.1", agent_id=agent, session=session, pool="default")


def beat(session: int, *inventory: Held, agent: str = "a", healthy: bool = True, message: str = "") -> Beat:
    return Beat(agent_id=agent, session=session, inventory=inventory, healthy=healthy, message=message, slots=4)


def finish(head: Head, epoch: int) -> Report:
    word = Finish(outcome=Finish.Outcome.EXITED, exit_code=0)
    return Report(execution_id=head.execution_id, epoch=epoch, finish=word)


async def assign(store: FarmStore, session: int, *heads: Head) -> int:
    """Assigns all; their epoch in the store."""
    answers = await store.assign(await store.generation(), [taking(head, session) for head in heads])
    assert [answer.verdict for answer in answers] == [Verdict.ASSIGNED] * len(heads)
    epochs = {answer.assignment.epoch for answer in answers if answer.assignment}
    assert len(epochs) == 1
    return epochs.pop()


async def test_sessions_are_numbered_and_fence_the_ones_before(side: Side) -> None:
    first = await open_session(side.store)
    assert not (await side.store.beat(beat(first))).fenced
    second = await open_session(side.store)
    assert second > first
    assert (await side.store.beat(beat(first))).fenced
    assert not (await side.store.beat(beat(second, healthy=False, message="draining"))).fenced
    (agent,) = await side.store.list_agents()
    assert (agent.agent_id, agent.live, agent.healthy, agent.message) == ("a", True, False, "draining")
    assert (agent.pools, agent.slots) == (("default",), 4)
    assert agent.silent_for < 5
    await side.store.park_session("a", second)
    assert (await side.store.beat(beat(second))).fenced
    (agent,) = await side.store.list_agents()
    assert not agent.live


async def test_a_name_is_bound_to_its_daemon(side: Side) -> None:
    await open_session(side.store)
    with pytest.raises(FailedPrecondition, match="bound"):
        await open_session(side.store, daemon="another")


async def test_the_generation_is_raised_once(side: Side) -> None:
    number = await side.store.generation()
    assert await side.store.raise_generation(number) == (number + 1, True)
    assert await side.store.raise_generation(number) == (number + 1, False)
    assert await side.store.generation() == number + 1


async def test_reading_what_waits(side: Side) -> None:
    heads = [*await side.submit("b", 2), *await side.submit("a", 2), *await side.submit("a", priority=9)]
    listed, last = await side.store.list_queued(0, 3)
    assert list(listed) == heads[:3]
    assert last >= heads[-1].queue_seq
    listed, _ = await side.store.list_queued(heads[2].queue_seq, 10)
    assert list(listed) == heads[3:]
    beyond, last_of_all = await side.store.list_queued((1 << 45) - 1, 1)
    assert list(beyond) == []
    assert last_of_all >= heads[-1].queue_seq
    assert list(await side.store.list_task_queue("a", 2)) == [heads[4], heads[2]]
    assert list(await side.store.list_task_queue("none", 2)) == []
    assert list(await side.store.list_queued_tasks("", 1)) == ["a"]
    assert list(await side.store.list_queued_tasks("a", 9)) == ["b"]
    queues = await side.store.list_queues("", 9)
    assert [(queue.task_id, queue.queued) for queue in queues] == [("a", 3), ("b", 2)]
    assert all(0 <= queue.oldest < 60 for queue in queues)
    assert [queue.task_id for queue in await side.store.list_queues("a", 1)] == ["b"]
    assert [queue.task_id for queue in await side.store.list_queues("", 1)] == ["a"]


async def test_an_execution_from_take_to_end(side: Side) -> None:
    (head,) = await side.submit("t")
    session = await open_session(side.store)
    (answer,) = await side.store.assign(await side.store.generation(), [taking(head, session)])
    assert answer.verdict is Verdict.ASSIGNED
    assert answer.assignment is not None
    assert (answer.assignment.execution_id, answer.assignment.task_id) == (head.execution_id, "t")
    epoch = answer.assignment.epoch
    assert epoch > head.epoch
    (held,) = await side.store.list_held("", 10)
    assert (held.execution_id, held.task_id, held.agent_id) == (head.execution_id, "t", "a")
    assert (held.session, held.pool, held.epoch) == (session, "default", epoch)
    assert list(await side.store.list_held(head.execution_id, 10)) == []
    started = Report(execution_id=head.execution_id, epoch=epoch, started=Started(container_id="c"))
    both = await side.store.report("a", session, [started, finish(head, epoch)])
    assert [word.result.verdict for word in both] == [Said.OK, Said.OK]
    assert both[0].released is None
    assert both[1].released is not None
    assert (both[1].released.execution_id, both[1].released.epoch) == (head.execution_id, epoch)
    (again,) = await side.store.report("a", session, [finish(head, epoch)])
    assert again.result.verdict == Said.OK
    assert list(await side.store.list_held("", 10)) == []


async def test_a_give_back_is_ready_in_its_place(side: Side) -> None:
    (head,) = await side.submit("t")
    session = await open_session(side.store)
    epoch = await assign(side.store, session, head)
    word = Report(execution_id=head.execution_id, epoch=epoch, give_back=GiveBack())
    (answer,) = await side.store.report("a", session, [word])
    assert answer.released is not None
    assert answer.ready is not None
    assert (answer.ready.execution_id, answer.ready.queue_seq) == (head.execution_id, head.queue_seq)
    assert answer.ready.epoch >= epoch
    assert await assign(side.store, session, answer.ready) > epoch


async def test_words_of_another_epoch_are_stale(side: Side) -> None:
    (head,) = await side.submit("t")
    session = await open_session(side.store)
    epoch = await assign(side.store, session, head)
    (answer,) = await side.store.report("a", session, [finish(head, epoch + 1)])
    assert answer.result.verdict == Said.STALE
    assert answer.released is None


async def test_every_refusal_has_its_kind(side: Side) -> None:
    taken, moved, parked, fine = await side.submit("t", 4)
    generation = await side.store.generation()
    session = await open_session(side.store)
    gone = await open_session(side.store, agent="gone", daemon="other")
    await side.store.park_session("gone", gone)
    await assign(side.store, session, taken)
    await side.store.fence([moved.execution_id])
    answers = await side.store.assign(
        generation,
        [
            taking(taken, session),
            taking(moved, session),
            taking(parked, gone, agent="gone"),
            taking(fine, session),
        ],
    )
    assert [answer.verdict for answer in answers] == [
        Verdict.NOT_QUEUED,
        Verdict.STALE_EPOCH,
        Verdict.STALE_SESSION,
        Verdict.ASSIGNED,
    ]
    assert answers[1].ready is not None
    assert answers[1].ready.epoch == moved.epoch + 1
    await side.store.raise_generation(generation)
    (answer,) = await side.store.assign(generation, [taking(answers[2].taking.head, session)])
    assert answer.verdict is Verdict.STALE_GENERATION


async def test_a_fence_says_where_each_stands(side: Side) -> None:
    waiting, held = await side.submit("t", 2)
    session = await open_session(side.store)
    epoch = await assign(side.store, session, held)
    answers = await side.store.fence([held.execution_id, "unknown", waiting.execution_id])
    assert [answer.execution_id for answer in answers] == [held.execution_id, "unknown", waiting.execution_id]
    assert answers[0].held is not None
    assert (answers[0].held.agent_id, answers[0].held.epoch) == ("a", epoch)
    assert (answers[1].held, answers[1].ready) == (None, None)
    assert answers[2].ready is not None
    assert answers[2].ready.epoch > waiting.epoch


async def test_beats_and_hellos_tell_the_differences(side: Side) -> None:
    (head,) = await side.submit("t")
    session = await open_session(side.store)
    epoch = await assign(side.store, session, head)
    unknown = Held(execution_id="6b1f4a3e-0000-4000-8000-000000000000", epoch=3, phase=Phase.RUNNING)
    answer = await side.store.beat(beat(session, unknown))
    orders = {order.execution_id: order for order in answer.directives}
    assert orders[unknown.execution_id].kind == Order.KILL
    assert orders[head.execution_id].kind == Order.RUN
    assert orders[head.execution_id].assignment.epoch == epoch
    item = Held(execution_id=head.execution_id, epoch=epoch, phase=Phase.PULLING)
    assert list((await side.store.beat(beat(session, item))).directives) == []
    opened = await side.store.open_session(hello(), pools=("default",), lost_after_ms=120_000, lease_ms=15_000)
    assert [order.kind for order in opened.directives] == [Order.RUN]
    (held,) = await side.store.list_held("", 10)
    assert (held.session, held.epoch) == (opened.number, epoch)


async def test_a_store_that_is_away(side: Side) -> None:
    (head,) = await side.submit("t")
    session = await open_session(side.store)
    await side.stop()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: open_session(side.store),
        lambda: side.store.beat(beat(session)),
        side.store.generation,
        side.store.list_agents,
        lambda: side.store.list_held("", 1),
        lambda: side.store.list_queued(0, 1),
        lambda: side.store.fence([head.execution_id]),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            await call()
    (answer,) = await side.store.assign(1, [taking(head, session)])
    assert answer.verdict is Verdict.UNANSWERED
    (word,) = await side.store.report("a", session, [finish(head, 2)])
    assert (word.result.verdict, word.released, word.ready) == (Said.RETRY, None, None)
