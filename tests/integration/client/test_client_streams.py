"""The client over a real socket: output that goes on over breaks and restarts of the server."""

import threading
from collections.abc import Iterator

import grpc
import pytest

from easyq import errors
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream
from tests.fakes.public_api import FakeGateway, FakeJob, fake_gateway, status
from tests.support.waiting import free_port, wait_until


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as server:
        yield server


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[Client]:
    with Client(gateway.address) as one:
        yield one


class Follower(threading.Thread):
    """Follows a job in a thread of its own."""

    def __init__(self, client: Client, job: FakeJob, patience: float = 20) -> None:
        super().__init__(daemon=True)
        self.events: list[LogChunk | LogEnd] = []
        self.breaks: list[errors.EasyQError] = []
        self.error: BaseException | None = None
        self._iterator = client.logs(job.job_id, follow=True, patience=patience, on_break=self.breaks.append)
        self.start()

    def run(self) -> None:
        try:
            for event in self._iterator:
                self.events.append(event)
        except errors.EasyQError as error:
            self.error = error

    def bytes_of(self, stream: LogStream.Name.ValueType) -> bytes:
        return b"".join(one.data for one in self.events if isinstance(one, LogChunk) and one.stream == stream)

    def finish(self) -> None:
        self.join(20)
        assert not self.is_alive()
        if self.error:
            raise self.error


def submitted(gateway: FakeGateway, client: Client) -> FakeJob:
    client.submit(job_spec("i:1"))
    return gateway.job()


def test_output_is_followed_live_and_in_order(gateway: FakeGateway, client: Client) -> None:
    job = submitted(gateway, client)
    follower = Follower(client, job)
    job.write(stdout=b"one", stderr=b"warn")
    wait_until(lambda: follower.bytes_of(LogStream.STDOUT) == b"one")
    job.write(stdout=b"two" * 50)
    job.end("FAILED", 3)
    follower.finish()
    assert follower.bytes_of(LogStream.STDOUT) == b"one" + b"two" * 50
    assert follower.bytes_of(LogStream.STDERR) == b"warn"
    end = follower.events[-1]
    assert isinstance(end, LogEnd)
    assert (end.state, end.exit_code, end.job_ended) == ("FAILED", 3, True)


@pytest.mark.parametrize("honours_offsets", [True, False])
def test_breaks_lose_and_double_nothing(gateway: FakeGateway, client: Client, honours_offsets: bool) -> None:
    gateway.honours_offsets = honours_offsets
    gateway.breaks.extend([0, 1, 3, 5, 8, 0, 2, 13])
    job = submitted(gateway, client)
    for attempt in range(3):
        job.write(stdout=bytes(range(50)) + bytes([attempt]), stderr=b"e%d" % attempt * 5)
        job.end("FAILED", 1, retrying=attempt < 2)
        if attempt < 2:
            job.attempt()
    follower = Follower(client, job)
    follower.finish()
    expected = b"".join(bytes(attempt.output[LogStream.STDOUT]) for attempt in job.attempts)
    assert follower.bytes_of(LogStream.STDOUT) == expected
    assert follower.bytes_of(LogStream.STDERR) == b"e0" * 5 + b"e1" * 5 + b"e2" * 5
    assert [event.execution_id for event in follower.events if isinstance(event, LogEnd)] == [
        attempt.execution.execution_id for attempt in job.attempts
    ]
    assert len(follower.breaks) >= 5


def test_a_reader_that_was_let_go_comes_back(gateway: FakeGateway, client: Client) -> None:
    """As a server does with one that takes nothing for long."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    gateway.broken = status(code, "the reader took nothing for 60 s", reason="OVERLOADED", retry_after=0.1)
    gateway.breaks.extend([2, 3])
    job = submitted(gateway, client)
    job.write(stdout=bytes(range(100)))
    job.end()
    follower = Follower(client, job)
    follower.finish()
    assert follower.bytes_of(LogStream.STDOUT) == bytes(range(100))
    assert {error.code for error in follower.breaks} == {"RESOURCE_EXHAUSTED"}


def test_it_goes_on_after_a_restart_of_the_server(gateway: FakeGateway, client: Client) -> None:
    job = submitted(gateway, client)
    follower = Follower(client, job)
    job.write(stdout=b"before ")
    wait_until(lambda: follower.bytes_of(LogStream.STDOUT) == b"before ")
    gateway.stop()
    job.write(stdout=b"meanwhile ")
    wait_until(lambda: follower.breaks)
    gateway.start()
    job.write(stdout=b"after")
    job.end()
    follower.finish()
    assert follower.bytes_of(LogStream.STDOUT) == b"before meanwhile after"
    assert gateway.log_requests[-1].position.stdout_offset == 7


def test_patience_ends(gateway: FakeGateway, client: Client) -> None:
    job = submitted(gateway, client)
    follower = Follower(client, job, patience=0.5)
    job.write(stdout=b"x")
    wait_until(lambda: follower.bytes_of(LogStream.STDOUT))
    gateway.stop()
    with pytest.raises(errors.Unavailable):
        follower.finish()


def test_a_refusal_is_not_a_break(gateway: FakeGateway, client: Client) -> None:
    with pytest.raises(errors.NotFound) as caught:
        list(client.logs("0" * 24, follow=True))
    assert caught.value.reason == "JOB_NOT_FOUND"


def test_stored_output_without_following(gateway: FakeGateway, client: Client) -> None:
    job = submitted(gateway, client)
    job.write(stdout=b"so far", stderr=b"e")
    events = list(client.logs(job.job_id, streams=(LogStream.STDOUT,)))
    assert [event.data for event in events if isinstance(event, LogChunk)] == [b"so far"]
    assert not any(isinstance(event, LogEnd) for event in events)


def test_one_execution_of_several(gateway: FakeGateway, client: Client) -> None:
    job = submitted(gateway, client)
    job.write(stdout=b"first")
    job.end("FAILED", 1, retrying=True)
    job.attempt()
    job.write(stdout=b"second")
    job.end()
    events = list(client.logs(execution_id=job.attempts[0].execution.execution_id, follow=True))
    assert [event.data for event in events if isinstance(event, LogChunk)] == [b"first"]
    assert isinstance(events[-1], LogEnd)


def test_run_gives_the_result_with_its_output(gateway: FakeGateway, client: Client) -> None:
    def work() -> None:
        job = gateway.job()
        job.write(stdout=b"\x00\xffout", stderr=b"err")
        job.end("FAILED", 7)

    threading.Thread(target=work, daemon=True).start()
    result = client.run(job_spec("i:1", "x"), task="t")
    assert (result.exit_code, result.stdout, result.stderr) == (7, b"\x00\xffout", b"err")
    assert result.job.task_id == "t"


def test_the_answer_to_a_submit_may_get_lost(gateway: FakeGateway, client: Client) -> None:
    gateway.failures.append(status(grpc.StatusCode.UNAVAILABLE, "restarting"))
    first = client.submit(job_spec("i:1"), idempotency_key="k")
    again = client.submit(job_spec("i:1"), idempotency_key="k")
    assert (again.job_id, again.replayed) == (first.job_id, True)
    assert len(gateway.jobs) == 1


def test_the_server_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, gateway: FakeGateway) -> None:
    monkeypatch.setenv("EASYQ_SERVER", gateway.address)
    with Client() as one:
        assert one.submit(job_spec("i:1")).job_id


def test_nobody_there() -> None:
    with Client(f"127.0.0.1:{free_port()}") as one, pytest.raises(errors.Unavailable, match="can't reach EasyQ at"):
        one.get("j")
