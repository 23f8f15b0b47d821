"""Events over HTTP and gRPC, and GET of a job that waits for its end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest

from easyq.v1 import job_service_pb2
from easyq.v1.event_service_pb2 import Event, EventChange, EventKind, WatchRequest
from easyq.v1.event_service_pb2_grpc import EventServiceStub
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq_gateway.rest import events as sse
from easyq_gateway.rest import pace
from easyq_gateway.usecases import awaiting
from tests.integration.gateway.conftest import Client, Starter
from tests.support.sse import Parser, Told
from tests.support.waiting import eventually


class Reader:
    """One SSE connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.parser = Parser()
        self._ready: list[Told] = []

    async def next(self, count: int = 1) -> list[Told]:
        async with asyncio.timeout(30):
            while len(self._ready) < count:
                data = await self.response.content.readany()
                assert data, "the stream has ended"
                self._ready += self.parser.feed(data)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken


@asynccontextmanager
async def reading(gateway: Client, path: str, **headers: str) -> AsyncIterator[Reader]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.session.get(gateway.url + path, headers=named) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        yield Reader(response)


def states(told: list[Told]) -> list[tuple[str, str, str]]:
    return [(each.kind, each.data["change"] or "", each.data["state"]) for each in told]


def event(**fields: Any) -> Event:
    return Event(kind=EventKind.JOB, change=EventChange.CREATED, **fields)


async def test_a_job_from_its_present_state_on(gateway: Client) -> None:
    job = await gateway.enqueue(envs={"DB_PASSWORD": "canary"})
    for path in (f"/jobs/{job['jobId']}/events", f"{job['jobUrl']}/events/"):
        await gateway.store.move(job["executionId"], Execution.RUNNING)
        async with reading(gateway, path) as events:
            now = await events.next(2)
            assert states(now) == [("job", "CURRENT", "RUNNING"), ("execution", "CURRENT", "RUNNING")]
            assert (now[0].data["jobId"], now[1].data["executionId"]) == (job["jobId"], job["executionId"])
            assert "canary" not in str(now)
            await gateway.store.move(job["executionId"], Execution.ASSIGNED)
            following = (await events.next())[0]
            assert states([following]) == [("job", "CHANGED", "RUNNING")]
            assert following.id == following.data["id"] != now[0].id
    other = await gateway.call("GET", f"/tasks/other/jobs/{job['jobId']}/events")
    assert (other.status, other.error["reason"]) == (404, "JOB_NOT_FOUND")


async def test_a_task_and_the_farm(gateway: Client) -> None:
    mail, sms = await gateway.enqueue("mail"), await gateway.enqueue("sms")
    ended = await gateway.enqueue("mail")
    await gateway.store.move(ended["executionId"], Execution.SUCCEEDED)
    async with (
        reading(gateway, "/tasks/mail/events") as task,
        reading(gateway, "/events") as farm,
        reading(gateway, "/events?kinds=agent&kinds=EXECUTION") as some,
    ):
        assert [each.data["jobId"] for each in await task.next()] == [mail["jobId"]]
        await gateway.store.move(sms["executionId"], Execution.RUNNING)
        gateway.store.feed.tell(Event(kind=EventKind.AGENT, change=EventChange.CHANGED, agent_id="host-1"))
        await gateway.store.move(mail["executionId"], Execution.RUNNING)
        assert [each.data["jobId"] for each in await task.next()] == [mail["jobId"]]
        told = await farm.next(3)
        assert [each.data["jobId"] or each.data["agentId"] for each in told] == [sms["jobId"], "host-1", mail["jobId"]]
        assert [each.kind for each in await some.next()] == ["agent"]
    # All of them hang on one stream.
    assert len(gateway.store.feed.watches) == 1


async def test_what_an_event_looks_like(gateway: Client) -> None:
    async with reading(gateway, "/events") as events:
        told = Event(
            kind=EventKind.EXECUTION,
            change=EventChange.CHANGED,
            task_id="mail",
            job_id="j",
            execution_id="e",
            agent_id="host-1",
            state="FAILED",
            ended=True,
            attempt=2,
            exit_code=3,
            error=Failure(reason=Failure.NONZERO_EXIT, message="exit code 3\n\ndata: no"),
        )
        told.at.FromMilliseconds(1_700_000_000_123)
        gateway.store.feed.tell(told)
        assert (await events.next())[0].data == {
            "id": "b1-1.t-1700000000123",
            "kind": "EXECUTION",
            "change": "CHANGED",
            "at": "2023-11-14T22:13:20.123Z",
            "taskId": "mail",
            "jobId": "j",
            "executionId": "e",
            "agentId": "host-1",
            "state": "FAILED",
            "ended": True,
            "attempt": 2,
            "exitCode": 3,
            "error": {"reason": "NONZERO_EXIT", "message": "exit code 3\n\ndata: no"},
            "trigger": None,
            "nextRunAt": None,
            "stopRequestedAt": None,
            "revision": 0,
        }


@pytest.mark.parametrize("by", ["header", "parameter", "both"])
async def test_it_goes_on_where_it_was(gateway: Client, by: str) -> None:
    async with reading(gateway, "/events") as events:
        gateway.store.feed.tell(*(event(job_id=name, task_id="mail") for name in "abc"))
        first = await events.next(3)
    last = first[0].id
    path = {"header": "/events", "parameter": f"/events?lastEventId={last}", "both": "/events?lastEventId=b1-0"}[by]
    headers = {} if by == "parameter" else {"Last_Event_ID": last}
    async with reading(gateway, path, **headers) as again:
        assert [each.data["jobId"] for each in await again.next(2)] == ["b", "c"]
    async with reading(gateway, "/jobs/b/events", Last_Event_ID=last) as of_job:
        # No present state: what is known goes on.
        assert [each.data["jobId"] for each in await of_job.next()] == ["b"]


async def test_what_cannot_be_gone_on_with(gateway: Client) -> None:
    job = await gateway.enqueue()
    async with reading(gateway, f"/jobs/{job['jobId']}/events", Last_Event_ID="gone-5") as events:
        reset, *now = await events.next(3)
        assert (reset.kind, reset.data["change"]) == ("reset", None)
        assert states(now) == [("job", "CURRENT", "QUEUED"), ("execution", "CURRENT", "QUEUED")]


async def test_a_store_that_began_anew(gateway: Client) -> None:
    job, other = await gateway.enqueue(), await gateway.enqueue()
    paths = [each["jobUrl"] + "/events" for each in (job, other)]
    async with reading(gateway, paths[0]) as events, reading(gateway, paths[1]) as gone:
        await events.next(2)
        await gone.next(2)
        await gateway.behind.stop("store")
        gateway.store.feed.begin_anew("b2")
        gateway.store.jobs[job["jobId"]].state = Job.RUNNING
        del gateway.store.jobs[other["jobId"]]
        await gateway.behind.start("store")
        assert states(await events.next(2)) == [("reset", "", ""), ("job", "CURRENT", "RUNNING")]
        assert states(await gone.next(2)) == [("reset", "", ""), ("job", "DELETED", "")]


async def test_what_ended_unseen_is_told_to_watchers_of_its_task(gateway: Client) -> None:
    """To one that stays over the store's restart, and to one that comes again by another gateway's id."""
    jobs = [gateway.store.jobs[(await gateway.enqueue())["jobId"]] for _ in range(3)]
    (task,) = {job.task_id for job in jobs}
    known = 1_700_000_000_000
    async with reading(gateway, f"/tasks/{task}/events") as events:
        await events.next(3)
        seen = event(job_id=jobs[0].job_id, task_id=task)
        seen.at.FromMilliseconds(known)
        gateway.store.feed.tell(seen)
        ((last,),) = [await events.next()]
        await gateway.behind.stop("store")
        gateway.store.feed.begin_anew("b2")
        for job, ended in zip(jobs, (known - 60_000, known + 5), strict=False):
            job.state = Job.SUCCEEDED
            job.last_modified_at.FromMilliseconds(ended)
        await gateway.behind.start("store")
        missed = [("reset", "", ""), ("job", "CURRENT", "SUCCEEDED"), ("job", "CURRENT", "QUEUED")]
        told = await events.next(3)
        assert (states(told), told[1].data["jobId"]) == (missed, jobs[1].job_id)
    async with reading(gateway, f"/tasks/{task}/events", Last_Event_ID=last.id) as again:
        assert states(await again.next(3)) == missed
    # Without a time what is open is all that can be told.
    async with reading(gateway, f"/tasks/{task}/events", Last_Event_ID="gone-5") as again:
        assert states(await again.next(2)) == [missed[0], missed[2]]


async def test_silence_is_filled_with_comments(start_gateway: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.Events.__init__, "__kwdefaults__", {"beat": 0.02})
    gateway = await start_gateway()
    async with reading(gateway, "/events") as events:
        gateway.store.feed.tell(event(job_id="a"))
        await events.next()
        known = events.parser.comments
        while events.parser.comments < known + 3:
            assert not list(events.parser.feed(await events.response.content.readany()))


@asynccontextmanager
async def not_reading(gateway: Client) -> AsyncIterator[socket.socket]:
    """A connection that has asked for all events, with little room for them; who has it decides what it takes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        host, _, port = gateway.app.rest_address.rpartition(":")
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        yield connection


async def test_a_reader_that_takes_nothing_harms_nobody(gateway: Client) -> None:
    loop = asyncio.get_running_loop()
    async with not_reading(gateway) as connection:
        await eventually(lambda: gateway.app._rest._streams._inside == 1)
        message = "x" * 1000
        async with reading(gateway, "/events") as quick:
            # More than both ends' buffers and its queue hold.
            for part in range(16):
                new = [event(job_id=f"{part}-{each}", error=Failure(message=message)) for each in range(500)]
                gateway.store.feed.tell(*new)
                assert [told.data["jobId"] for told in await quick.next(500)] == [each.job_id for each in new]
            gateway.store.feed.tell(event(job_id="last"))
            await quick.next()
        # It reads on, and is told that it missed something.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        taken = b""
        async with asyncio.timeout(60):
            while b"event: reset" not in taken[-200_000:]:
                taken += await loop.sock_recv(connection, 65536)
        assert taken.startswith(b"HTTP/1.1 200")
        assert taken.count(b"event: job") < 16 * 500


async def test_a_reader_that_takes_nothing_is_let_go_with_its_connection(
    gateway: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "STALLED", 0.2)
    monkeypatch.setattr(pace, "_KEPT", 0.2)
    async with not_reading(gateway):
        streams, server = gateway.app._rest._streams, gateway.app._rest._server
        await eventually(lambda: streams._inside == 1)
        more = [event(job_id=f"{each}", error=Failure(message="x" * 1000)) for each in range(500)]

        def let_go() -> bool:
            gateway.store.feed.tell(*more)
            return not streams._inside

        await eventually(let_go)
        assert server is not None
        await eventually(lambda: not server.connections)


async def test_head_and_bad_input(gateway: Client) -> None:
    job = await gateway.enqueue()
    for path in ("/events", job["jobUrl"] + "/events"):
        head = await gateway.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (await gateway.call("HEAD", "/jobs/nope/events")).status == 404
    assert (await gateway.call("GET", "/jobs/nope/events")).status == 404
    assert (await gateway.call("POST", "/events")).status == 405
    wrong = await gateway.call("GET", "/events?kinds=no&x=1")
    assert (wrong.status, set(wrong.fields)) == (400, {"kinds[0]", "x"})
    assert (await gateway.call("GET", f"/events?lastEventId={'x' * 600}")).status == 400
    assert (await gateway.call("GET", "/events", Origin="https://evil.example")).status == 403


async def test_watchers_count_as_streams(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_streams=2)
    job = await gateway.enqueue()
    async with reading(gateway, "/events"), reading(gateway, "/tasks/mail/events"):
        assert (await gateway.call("GET", "/events")).status == 429
        assert (await gateway.call("GET", f"/jobs/{job['jobId']}?wait=1")).status == 429
        assert (await gateway.call("GET", f"/jobs/{job['jobId']}")).status == 200
    await eventually(lambda: gateway.app._rest._streams._inside == 0)


async def test_without_a_store_it_says_so(start_gateway: Starter) -> None:
    gateway = await start_gateway(running=False, store_patience=0.1)
    answer = await gateway.call("GET", "/events")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"]


async def test_a_gateway_that_stops_ends_its_streams(start_gateway: Starter) -> None:
    gateway = await start_gateway()
    job = await gateway.enqueue()
    waiting = asyncio.create_task(gateway.call("GET", f"/jobs/{job['jobId']}?wait=60"))
    async with reading(gateway, "/events") as events:
        await eventually(lambda: gateway.app._rest._streams._inside == 2)
        stopping = asyncio.create_task(gateway.app.stop())
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await events.next()
        answer = await waiting
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
        await stopping


# gRPC ---------------------------------------------------------------------------------------------------------------


async def test_grpc(gateway: Client) -> None:
    job = await gateway.enqueue()
    stub: Any = EventServiceStub(gateway.channel)
    call = stub.Watch(WatchRequest(job_id=job["jobId"]))
    now = (await call.read()).events
    assert [(each.kind, each.change) for each in now] == [
        (EventKind.JOB, EventChange.CURRENT),
        (EventKind.EXECUTION, EventChange.CURRENT),
    ]
    await gateway.store.move(job["executionId"], Execution.SUCCEEDED)
    told = (await call.read()).events[0]
    assert (told.state, told.ended, told.id) == ("SUCCEEDED", True, "b1-1")
    call.cancel()
    again = stub.Watch(WatchRequest(last_event_id="b1-0", kinds=[EventKind.JOB]))
    assert (await again.read()).events[0].id == "b1-1"
    again.cancel()


async def test_grpc_tells_that_a_watch_has_begun(gateway: Client) -> None:
    stub: Any = EventServiceStub(gateway.channel)
    call = stub.Watch(WatchRequest())
    await asyncio.wait_for(call.initial_metadata(), 20)
    gateway.store.feed.tell(event(job_id="a", task_id="mail"), event(job_id="b", task_id="mail"))
    assert [each.job_id for each in (await call.read()).events] == ["a", "b"]
    call.cancel()


async def test_grpc_errors(gateway: Client) -> None:
    stub: Any = EventServiceStub(gateway.channel)
    for request, code in (
        (WatchRequest(job_id="nope"), grpc.StatusCode.NOT_FOUND),
        (WatchRequest(kinds=[99]), grpc.StatusCode.INVALID_ARGUMENT),  # type: ignore[list-item]
        (WatchRequest(last_event_id="x" * 600), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Watch(request).read()
        assert raised.value.code() is code


# wait ---------------------------------------------------------------------------------------------------------------


async def test_wait_answers_with_the_end(start_gateway: Starter) -> None:
    # It may take longer than a request.
    gateway = await start_gateway(request_timeout=1.0)
    job = await eventually(gateway.enqueue)
    waiting = [
        asyncio.create_task(gateway.get(f"/jobs/{job['jobId']}?wait=60s")),
        asyncio.create_task(gateway.get(f"{job['jobUrl']}?wait=60")),
    ]
    await eventually(lambda: gateway.store.calls.count("GetJob") == 2)
    looks = gateway.store.calls.count("GetJob")
    await gateway.store.move(job["executionId"], Execution.RUNNING)
    await asyncio.sleep(1.2)  # longer than a request may take
    assert not any(task.done() for task in waiting)
    # Nobody polls.
    assert gateway.store.calls.count("GetJob") == looks
    await gateway.store.move(job["executionId"], Execution.SUCCEEDED)
    for answer in await asyncio.gather(*waiting):
        assert answer["state"] == "SUCCEEDED"
    assert (await gateway.get(f"/jobs/{job['jobId']}?wait=60"))["state"] == "SUCCEEDED"


async def test_wait_answers_when_its_time_is_over(gateway: Client) -> None:
    job = await gateway.enqueue()
    assert (await gateway.get(f"/jobs/{job['jobId']}?wait=0.05"))["state"] == "QUEUED"
    assert (await gateway.get(f"/jobs/{job['jobId']}?wait=0"))["state"] == "QUEUED"


async def test_a_watch_tells_which_stores_it_begins_without(start_gateway: Starter) -> None:
    gateway = await start_gateway(watch_stores="unix:/nowhere/store.sock")
    async with gateway.session.get(f"{gateway.url}/events") as response:
        assert (response.status, response.headers["EasyQ-Stores-Away"]) == (200, "unix:/nowhere/store.sock")
    stub: Any = EventServiceStub(gateway.channel)
    call = stub.Watch(WatchRequest())
    assert dict(await call.initial_metadata()) == {"easyq-stores-away": "unix:/nowhere/store.sock"}
    call.cancel()


async def test_a_store_that_is_away_keeps_nobody_from_waiting(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "_LOOK", 0.05)
    gateway = await start_gateway(watch_stores="unix:/nowhere/store.sock", store_patience=2)
    job = await eventually(gateway.enqueue)
    waiting = asyncio.create_task(gateway.get(f"/jobs/{job['jobId']}?wait=60s"))
    await eventually(lambda: gateway.store.calls.count("GetJob") > 2)
    assert not waiting.done()
    await gateway.store.move(job["executionId"], Execution.SUCCEEDED)
    assert (await waiting)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("wait", ["301", "-1", "soon", "5m1s"])
async def test_bad_waits(gateway: Client, wait: str) -> None:
    job = await gateway.enqueue()
    answer = await gateway.call("GET", f"/jobs/{job['jobId']}?wait={wait}")
    assert (answer.status, set(answer.fields)) == (400, {"wait"})


async def test_wait_for_one_that_is_not_there_or_goes(gateway: Client) -> None:
    assert (await gateway.call("GET", "/jobs/nope?wait=60")).status == 404
    job = await gateway.enqueue()
    waiting = asyncio.create_task(gateway.call("GET", f"/jobs/{job['jobId']}?wait=60"))
    await eventually(lambda: gateway.app._rest._streams._inside == 1)
    gone = gateway.store.jobs.pop(job["jobId"])
    gateway.store.feed.tell_job(gone, EventChange.DELETED)
    assert (await waiting).status == 404


async def test_wait_outlives_a_store_that_begins_anew(gateway: Client) -> None:
    job = await gateway.enqueue()
    waiting = asyncio.create_task(gateway.get(f"/jobs/{job['jobId']}?wait=60"))
    await eventually(lambda: gateway.app._rest._streams._inside == 1)
    await gateway.behind.stop("store")
    gateway.store.feed.begin_anew("b2")
    gateway.store.jobs[job["jobId"]].state = Job.FAILED
    await gateway.behind.start("store")
    assert (await waiting)["state"] == "FAILED"


async def test_wait_by_grpc(start_gateway: Starter) -> None:
    gateway = await start_gateway(request_timeout=1.0)
    job = await eventually(gateway.enqueue)
    stub: Any = JobServiceStub(gateway.channel)
    request = job_service_pb2.GetJobRequest(job_id=job["jobId"])
    request.wait.FromSeconds(60)
    call = stub.GetJob(request)
    await eventually(lambda: gateway.app._rest._streams._inside == 1)
    await asyncio.sleep(1.2)  # longer than a request may take
    await gateway.store.move(job["executionId"], Execution.SUCCEEDED)
    assert (await call).state == Job.SUCCEEDED
