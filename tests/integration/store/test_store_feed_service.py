"""The feed over a socket: what goes through the store's other services, once it is durable."""

import asyncio
from typing import Any

import grpc
import pytest

from easyq.v1.event_service_pb2 import Event, EventChange, EventKind
from easyq_internal.store.v1 import feed_pb2
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1.feed_pb2_grpc import FeedServiceStub
from easyq_store.app import App
from tests.integration.store.conftest import Client

# Seconds after which what does not come is said not to: no bound on what is late.
PATIENCE = 30


class Watch:
    """One call."""

    def __init__(self, store: Client, **fields: Any) -> None:
        stub: Any = FeedServiceStub(store.channel)
        self.call = stub.Watch(feed_pb2.WatchRequest(**fields))
        self.events: list[Event] = []
        self.begin: feed_pb2.WatchResponse | None = None

    async def begun(self) -> feed_pb2.WatchResponse:
        self.begin = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert isinstance(self.begin, feed_pb2.WatchResponse)
        return self.begin

    async def until(self, state: str, kind: EventKind.Name.ValueType = EventKind.JOB) -> list[str]:
        """What is told up to a state of the kind."""
        while not any(each.state == state and each.kind == kind for each in self.events):
            batch = await asyncio.wait_for(self.call.read(), PATIENCE)
            assert batch.events
            self.events += batch.events
        return [
            f"{EventKind.Name.Name(each.kind)} {EventChange.Kind.Name(each.change)} {each.state}"
            for each in self.events
        ]


async def test_the_way_of_a_job(store: Client) -> None:
    watch = Watch(store)
    began = await watch.begun()
    assert (began.first, began.head, began.reset, len(began.events)) == (1, 0, False, 0)
    session = (await store.hello()).session
    job = await store.enqueue(envs={"DB_PASSWORD": "canary"})
    run = await store.run(job.execution_id, session)
    await store.say(
        job.execution_id, run.epoch, finish=records.Finish(outcome=records.Finish.Outcome.EXITED, exit_code=0)
    )
    assert await watch.until("SUCCEEDED") == [
        "AGENT CREATED LIVE",
        "JOB CREATED QUEUED",
        "EXECUTION CREATED QUEUED",
        "EXECUTION CHANGED ASSIGNED",
        "JOB CHANGED RUNNING",
        "EXECUTION CHANGED RUNNING",
        "EXECUTION CHANGED SUCCEEDED",
        "JOB CHANGED SUCCEEDED",
    ]
    ended = watch.events[-2]
    assert (ended.exit_code, ended.agent_id, ended.ended, ended.job_id) == (0, "host-a", True, job.job_id)
    assert all(each.HasField("at") and not each.id for each in watch.events)
    assert b"canary" not in b"".join(each.SerializeToString() for each in watch.events)
    watch.call.cancel()


async def test_it_goes_on_where_it_was(store: Client) -> None:
    watch = Watch(store)
    boot = (await watch.begun()).boot
    await store.enqueue()
    await watch.until("QUEUED", EventKind.EXECUTION)
    watch.call.cancel()
    await store.enqueue("sms")
    again = Watch(store, boot=boot, after=2)
    began = await again.begun()
    assert (began.boot, began.first, began.reset, began.head) == (boot, 3, False, 4)
    assert len(await again.until("QUEUED", EventKind.EXECUTION)) == 2
    assert {each.task_id for each in again.events} == {"sms"}
    back = Watch(store, back=1)
    assert (await back.begun()).first == 4
    other = Watch(store, boot="another", after=2)
    began = await other.begun()
    assert (began.reset, began.first) == (True, 5)
    for each in (again, back, other):
        each.call.cancel()


async def test_a_store_that_stops_ends_its_watches(store: Client, app: App) -> None:
    watch = Watch(store)
    await watch.begun()
    stopping = asyncio.create_task(app.stop())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asyncio.wait_for(watch.call.read(), PATIENCE)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await stopping
