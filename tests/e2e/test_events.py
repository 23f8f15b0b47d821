"""Events as users get them: by a plain reader of SSE and by gRPC, over restarts, beside readers that are slow."""

import contextlib
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self

import grpc
import pytest

from easyq.v1.event_service_pb2 import EventKind, WatchRequest
from easyq.v1.event_service_pb2_grpc import EventServiceStub
from tests.support.farm import Rest, UpFarm, shell
from tests.support.sse import Parser, Stream, Told
from tests.support.waiting import wait_until

_AWAY = (OSError, http.client.HTTPException)


class Follower:
    """Reads /events as browsers do: one that is cut off comes again with the id of the last event that it got."""

    def __init__(self, rest: Rest, path: str = "/events") -> None:
        self._rest = rest
        self._path = path
        self._last = ""
        self._ending = threading.Event()
        self.connections = 0
        # Why it was refused, if it was for another reason than that somebody is away.
        self.refusals: list[int] = []
        self._told: queue.Queue[Told] = queue.Queue()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.connections, 20, message="the first connection")
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()

    def next(self, timeout: float = 30) -> Told:
        return self._told.get(timeout=timeout)

    def _follow(self) -> None:
        while not self._ending.is_set():
            try:
                with Stream(self._rest.url, self._path, last=self._last, timeout=30) as stream:
                    if stream.answer.status != 200:
                        self.refusals.append(stream.answer.status)
                        raise OSError("refused")
                    self.connections += 1
                    for told in stream:
                        self._last = told.id
                        self._told.put(told)
            except _AWAY:
                self._ending.wait(0.1)


def until(follower: Follower, job_id: str, state: str) -> list[Told]:
    """What is told up to a job's state."""
    found = [follower.next()]
    while (found[-1].data["jobId"], found[-1].kind, found[-1].data["state"]) != (job_id, "job", state):
        found.append(follower.next())
    return found


def test_a_job_from_its_enqueue_to_its_end(farm: UpFarm, rest: Rest, task: str) -> None:
    with Follower(rest, f"/tasks/{task}/events") as by_task, grpc.insecure_channel(farm.grpc_address) as channel:
        watch = EventServiceStub(channel).Watch(WatchRequest(task_id=task, kinds=[EventKind.EXECUTION]))
        watch.initial_metadata()
        job_id = rest.enqueue(task, shell("echo hi; exit 3", envs={"API_TOKEN": "canary"}))["jobId"]
        told = until(by_task, job_id, "FAILED")
        states = [(each.kind, each.data["state"]) for each in told]
        assert states[:2] == [("job", "QUEUED"), ("execution", "QUEUED")]
        assert [state for kind, state in states if kind == "job"] == ["QUEUED", "RUNNING", "FAILED"]
        [end] = [each for each in told if each.kind == "execution" and each.data["ended"]][:1]
        job = rest.job(job_id)
        assert (end.data["exitCode"], end.data["error"]["reason"]) == (3, "NONZERO_EXIT")
        assert (end.data["executionId"], end.data["agentId"]) == (
            job["executions"][0]["executionId"],
            job["executions"][0]["host"],
        )
        assert "canary" not in json.dumps([each.data for each in told])
        by_grpc = [event.id for response in _until_ended(watch) for event in response.events]
        of_sse = [each.id for each in told if each.kind == "execution"]
        both = min(len(by_grpc), len(of_sse))
        assert by_grpc[:both] == of_sse[:both]
        assert both >= 3
        watch.cancel()
        # Whoever comes later gets how it stands, and then what happens.
        with Follower(rest, f"/jobs/{job_id}/events") as late:
            now = [late.next(), late.next()]
            assert [(each.kind, each.data["change"], each.data["state"]) for each in now] == [
                ("job", "CURRENT", "FAILED"),
                ("execution", "CURRENT", "FAILED"),
            ]
            rest.call("DELETE", f"/jobs/{job_id}")
            while (gone := late.next()).data["change"] != "DELETED" or gone.kind != "job":
                pass
            assert gone.data["jobId"] == job_id


def _until_ended(watch: Iterator[Any]) -> Iterator[Any]:
    for response in watch:
        yield response
        if any(event.ended for event in response.events):
            return


def test_wait_answers_with_the_jobs_end(rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("sleep 1; exit 4"))["jobId"]
    # However long the machine takes: it is not asked again, and no state but an end is an answer.
    job = rest.get(f"/jobs/{job_id}?wait=120s", timeout=150)
    assert (job["state"], job["executions"][0]["exitCode"]) == ("FAILED", 4)
    waiting = rest.enqueue(task, shell("true", startIn="1h"))["jobId"]
    assert rest.get(f"/jobs/{waiting}?wait=0.2s")["state"] == "SCHEDULED"
    rest.stop(waiting)


@pytest.fixture(scope="module")
def farm_of_readers() -> Iterator[UpFarm]:
    with UpFarm() as farm:
        yield farm


@pytest.fixture
def quiet_farm(farm_of_readers: UpFarm) -> UpFarm:
    """A farm of these tests, without a host: jobs wait."""
    wait_until(farm_of_readers.rest.accepting, 30)
    return farm_of_readers


def enqueue_some(rest: Rest, task: str, name: str, count: int = 5) -> set[str]:
    return {rest.enqueue(task, shell("true"), key=f"{name}-{number}")["jobId"] for number in range(count)}


def created(follower: Follower, wanted: set[str]) -> list[str]:
    """Jobs that were told to be created, each as often as it was told, until all that are wanted were."""
    found: list[str] = []
    while not wanted <= set(found):
        told = follower.next()
        assert told.kind != "reset", "it was told to read again"
        if told.kind == "job" and told.data["change"] == "CREATED":
            found.append(told.data["jobId"])
    return found


def test_over_a_restart_of_the_gateway_nothing_is_lost_or_doubled(quiet_farm: UpFarm, task: str) -> None:
    rest = quiet_farm.rest
    with Follower(rest) as follower:
        jobs = enqueue_some(rest, task, "before")
        for round_ in range(2):
            known = follower.connections
            quiet_farm.kill("gateway")
            # By a gateway that is new, and partly before the follower is there again.
            jobs |= enqueue_some(rest, task, f"round-{round_}")
            wait_until(lambda known=known: follower.connections > known, 30)  # type: ignore[misc]
        jobs |= enqueue_some(rest, task, "after")
        found = created(follower, jobs)
        assert sorted(found) == sorted(jobs)
    assert set(follower.refusals) <= {503}


def test_over_a_restart_of_the_store_it_is_told_to_read_again(quiet_farm: UpFarm, task: str) -> None:
    rest = quiet_farm.rest
    with Follower(rest) as follower:
        jobs = enqueue_some(rest, task, "before")
        assert sorted(created(follower, jobs)) == sorted(jobs)
        quiet_farm.kill("store")
        late = enqueue_some(rest, task, "meanwhile")
        while follower.next().kind != "reset":
            pass
        # What was told before is read, what comes after is told: nothing is missing from both.
        read = {job["jobId"] for job in rest.get("/jobs?pageSize=1000")["items"]}
        last = enqueue_some(rest, task, "after")
        told = set(created(follower, last - read))
        assert jobs | late <= read | told
        # One that was away over the store's restart is told as well.
        with Follower(rest) as stranger:
            stranger._last = "0123456789ab-7"
            quiet_farm.kill("gateway")
            assert stranger.next().kind == "reset"


def test_a_job_that_ends_while_nobody_watches_is_told_to_watchers_of_its_task(quiet_farm: UpFarm, task: str) -> None:
    rest = quiet_farm.rest
    with Follower(rest, f"/tasks/{task}/events") as follower:
        job_id = rest.enqueue(task, shell("true", startDeadline="2s"))["jobId"]
        while follower.next().data["jobId"] != job_id:
            pass
        # It expires, which a gateway that starts later than the store never hears.
        quiet_farm.kill("gateway")
        quiet_farm.kill("store")
        while not ((told := follower.next()).data["jobId"] == job_id and told.data["ended"]):
            pass
        assert told.data["state"] == "EXPIRED"


def test_a_reader_that_takes_nothing_harms_nobody(quiet_farm: UpFarm) -> None:
    rest = quiet_farm.rest
    spec = {"image": "easyq/example:1", "command": "true"}
    batch = json.dumps({"jobs": [{"taskId": "flood", "spec": spec}] * 500}).encode()
    with socket.socket() as slow, Follower(rest) as quick:
        slow.settimeout(60)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((rest.host, rest.port))
        slow.sendall(f"GET /events HTTP/1.1\r\nHost: {rest.host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        assert answer.status == 200
        jobs: set[str] = set()
        for _ in range(16):
            # On a busy machine an item may be told as not known to be stored; whatever is stored is told once.
            new = {result["job"]["jobId"] for result in rest.post("/batch", batch)["results"] if result["job"]}
            found = created(quick, new)
            assert len(found) == len(set(found))
            jobs |= set(found)
        assert len(jobs) > 4000
        # It goes on, and knows whether it missed something.
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        marker = rest.enqueue("mail", shell("true"))["jobId"]
        parser = Parser()
        told = list(_read_on(answer, parser, marker))
        if told[-1].kind == "reset":
            # What was made before it is to be read; what comes after it is told.
            told += _read_on(answer, parser, rest.enqueue("mail", shell("true"))["jobId"])
        elif told[-1].data["jobId"] != marker:
            # It took nothing for a minute, and was let go: it comes again.
            with Stream(rest.url, "/events", last=told[-1].id) as again:
                told += _read_on(again.answer, again.parser, marker)
        seen = [each.data["jobId"] for each in told if each.kind == "job"]
        assert len(seen) == len(set(seen))
        assert "reset" in {each.kind for each in told} or jobs <= set(seen)


def _read_on(answer: http.client.HTTPResponse, parser: Parser, job_id: str) -> Iterator[Told]:
    """What comes until a job's creation is told, or a reset, or the connection is cut off."""
    with contextlib.suppress(*_AWAY):
        while data := answer.read1(65536):
            for told in parser.feed(data):
                yield told
                if told.data["jobId"] == job_id or told.kind == "reset":
                    return
