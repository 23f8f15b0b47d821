"""LogStoreService and TimeStoreService over a real socket."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.log_service_pb2 import FollowLogsRequest, LogPosition, LogStream, ReadLogsRequest
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1 import time_store_pb2 as time_pb
from easyq_internal.store.v1.log_store_pb2 import AppendResult
from tests.integration.store.conftest import Client
from tests.support.waiting import eventually

EXITED = records.Finish.Outcome.EXITED
# Seconds after which what does not come is said not to: no bound on what is late.
PATIENCE = 30


def chunk(
    execution_id: str,
    offset: int,
    data: bytes,
    epoch: int = 1,
    stream: LogStream.Name.ValueType = LogStream.STDOUT,
) -> records.Chunk:
    return records.Chunk(execution_id=execution_id, epoch=epoch, stream=stream, offset=offset, data=data)


async def read(store: Client, **wanted: Any) -> list[Any]:
    return [response async for response in store.logs.ReadLogs(ReadLogsRequest(**wanted))]


@pytest.fixture
async def running(store: Client) -> Any:
    opened = await store.hello()
    accepted = await store.enqueue()
    await store.run(accepted.execution_id, opened.session)
    return accepted


async def test_bytes_in_bytes_out(store: Client, running: Any) -> None:
    whole = bytes(range(256)) * 1024
    id_ = running.execution_id
    verdicts = AppendResult.Verdict
    for offset in range(0, len(whole), 40_000):
        result = await store.append.call(chunk(id_, offset, whole[offset : offset + 40_000]))
        assert result.verdict == verdicts.OK
        assert result.stored == min(offset + 40_000, len(whole))
    again = await store.append.call(chunk(id_, 0, whole[:1000]))
    assert (again.verdict, again.stored) == (verdicts.OK, len(whole))
    gap = await store.append.call(chunk(id_, len(whole) + 1, b"x"))
    assert (gap.verdict, gap.stored) == (verdicts.GAP, len(whole))
    assert (await store.append.call(chunk(id_, 0, b"x", epoch=9))).verdict == verdicts.STALE
    await store.append.call(chunk(id_, 0, b"error", stream=LogStream.STDERR))
    await store.say(id_, 1, finish=records.Finish(outcome=EXITED, exit_code=0, stdout_size=len(whole), stderr_size=5))
    responses = await read(store, execution_id=id_, streams=[LogStream.STDOUT], stdout_offset=1000)
    assert b"".join(r.chunk.data for r in responses) == whole[1000:]
    assert responses[0].chunk.offset == 1000
    end = responses[-1].end
    assert (end.execution_id, end.state, end.exit_code, end.job_ended) == (id_, "SUCCEEDED", 0, True)
    both = await read(store, job_id=running.job_id)
    assert b"".join(r.chunk.data for r in both if r.chunk.stream == LogStream.STDERR) == b"error"


async def test_live_output_and_the_end(store: Client, running: Any) -> None:
    id_ = running.execution_id
    call = store.logs.ReadLogs(ReadLogsRequest(job_id=running.job_id, follow=True))
    for number in range(5):
        await store.append.call(chunk(id_, number, b"%d" % number))
        response = await asyncio.wait_for(call.read(), PATIENCE)
        assert response.chunk.data == b"%d" % number
    await store.say(id_, 1, finish=records.Finish(outcome=EXITED, exit_code=3, stdout_size=5))
    response = await asyncio.wait_for(call.read(), PATIENCE)
    assert (response.end.state, response.end.exit_code, response.end.job_ended) == ("FAILED", 3, True)
    assert await asyncio.wait_for(call.read(), PATIENCE) is grpc.aio.EOF


async def test_following_from_a_place(store: Client, running: Any) -> None:
    id_ = running.execution_id
    for number in range(5):
        await store.append.call(chunk(id_, number * 2, b"%d\n" % number))
    call = store.logs.FollowLogs(FollowLogsRequest(job_id=running.job_id, tail=2))
    begun, first = [await asyncio.wait_for(call.read(), PATIENCE) for _ in range(2)]
    assert (begun.attempt.execution_id, begun.attempt.attempt, begun.attempt.stdout_offset) == (id_, 1, 6)
    assert (first.chunk.offset, first.chunk.data) == (6, b"3\n4\n")
    assert first.chunk.at.seconds > 0
    await store.append.call(chunk(id_, 10, b"5\n"))
    assert (await asyncio.wait_for(call.read(), PATIENCE)).chunk.data == b"5\n"
    await store.say(id_, 1, finish=records.Finish(outcome=EXITED, exit_code=0, stdout_size=12))
    end = (await asyncio.wait_for(call.read(), PATIENCE)).end
    assert (end.state, end.attempt, end.job_ended, end.complete) == ("SUCCEEDED", 1, True, True)
    assert await asyncio.wait_for(call.read(), PATIENCE) is grpc.aio.EOF

    async def stored(**wanted: Any) -> list[Any]:
        request = FollowLogsRequest(job_id=running.job_id, stored_only=True, **wanted)
        return [event.chunk.data async for event in store.logs.FollowLogs(request) if event.HasField("chunk")]

    assert await stored(since_ago=Duration(seconds=600)) == [b"0\n1\n2\n3\n4\n5\n"]
    assert await stored(since=Timestamp(seconds=4_000_000_000)) == []
    assert b"".join(await stored(timestamps=True)) == b"0\n1\n2\n3\n4\n5\n"
    assert await stored(position=LogPosition(execution_id=id_, stdout_offset=11)) == [b"\n"]


async def test_a_reader_that_goes_away_leaves_nothing_behind(app: Any, store: Client, running: Any) -> None:
    call = store.logs.ReadLogs(ReadLogsRequest(job_id=running.job_id, follow=True))
    await store.append.call(chunk(running.execution_id, 0, b"x"))
    await call.read()
    call.cancel()
    news = app._context.news
    await eventually(lambda: not news._waiting)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ReadLogsRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (ReadLogsRequest(job_id="x"), grpc.StatusCode.NOT_FOUND),
        (ReadLogsRequest(execution_id="x", follow=True), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_names_must_be_known(store: Client, request_: ReadLogsRequest, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in store.logs.ReadLogs(request_):
            pass
    assert caught.value.code() is code


async def test_what_is_due_is_fired_and_what_is_late_expires(store: Client) -> None:
    far = await store.enqueue(start_in=Duration(seconds=3_600))
    planned = await store.time.ListDue(time_pb.ListDueRequest(limit=10))
    assert not planned.items
    assert 3_500_000 < planned.next_in.ToMilliseconds() <= 3_600_000
    await store.jobs.StopJob(job_pb.StopJobRequest(job_id=far.job_id))
    soon = await store.enqueue(start_in=Duration(nanos=200_000_000))
    late = await store.enqueue(start_deadline=Duration(nanos=100_000_000))

    async def due() -> Any:
        return (await store.time.ListDue(time_pb.ListDueRequest(limit=10))).items

    items = await eventually(due)
    assert [item.execution_id for item in items] == [soon.execution_id]
    fired = await store.time.Fire(time_pb.FireRequest(items=items))
    assert [head.execution_id for head in fired.ready] == [soon.execution_id]
    assert not (await store.time.Fire(time_pb.FireRequest(items=items))).ready

    async def expired() -> Any:
        gone = await store.time.ExpireWaiting(time_pb.ExpireWaitingRequest(limit=10))
        return gone if gone.expired else None

    gone = await eventually(expired)
    assert (gone.expired, gone.HasField("next_in")) == (1, False)
    (end,) = await read(store, execution_id=late.execution_id)
    assert (end.end.state, end.end.job_ended) == ("EXPIRED", True)
    assert not (await store.time.ListDue(time_pb.ListDueRequest(limit=10))).HasField("next_in")
