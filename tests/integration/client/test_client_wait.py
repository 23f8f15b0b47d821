"""`wait` of both clients against a gateway on a socket: one call that ends with the job, whatever happens meanwhile."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from easyq import errors
from easyq.aio import AsyncClient
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1.job_pb2 import Job
from tests.fakes.public_api import FakeGateway, FakeJob, fake_gateway, status
from tests.support.waiting import wait_until

Wait = Callable[..., Future[Job]]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as made:
        yield made


@pytest.fixture
def job(gateway: FakeGateway) -> FakeJob:
    with Client(gateway.address) as client:
        client.submit(job_spec("i"))
    return gateway.job()


@pytest.fixture(params=["sync", "async"])
def wait(request: pytest.FixtureRequest, gateway: FakeGateway, job: FakeJob) -> Iterator[Wait]:
    """`wait` for the job, by either client, in a thread of its own."""

    def sync(**options: Any) -> Job:
        client_options = {"repeats": options.pop("repeats", True)}
        with Client(gateway.address, **client_options) as client:
            return client.wait(job.job_id, **options)

    def by_asyncio(**options: Any) -> Job:
        client_options = {"repeats": options.pop("repeats", True)}

        async def run() -> Job:
            async with AsyncClient(gateway.address, **client_options) as client:
                return await client.wait(job.job_id, **options)

        return asyncio.run(run())

    with ThreadPoolExecutor(1) as pool:
        yield lambda **options: pool.submit(sync if request.param == "sync" else by_asyncio, **options)


def test_one_call_that_ends_with_the_job(gateway: FakeGateway, job: FakeJob, wait: Wait) -> None:
    waiting = wait()
    wait_until(lambda: gateway.looks)
    job.write(b"x")
    job.end("FAILED", 3, retrying=True)
    job.attempt()
    job.end("FAILED", 4)
    assert waiting.result(20).state == Job.FAILED
    assert [look.wait.seconds > 30 for look in gateway.looks] == [True]


def test_a_job_that_has_ended(job: FakeJob, wait: Wait) -> None:
    job.end()
    assert wait(timeout=0).result(20).state == Job.SUCCEEDED


def test_the_server_waits_no_longer_than_the_deadline(gateway: FakeGateway, wait: Wait) -> None:
    with pytest.raises(errors.DeadlineExceeded, match="is still QUEUED"):
        wait(timeout=1).result(20)
    assert 0 < gateway.looks[0].wait.ToMilliseconds() <= 1000
    assert len(gateway.looks) <= 3, "it asked again and again"


def test_a_server_that_restarts_meanwhile(gateway: FakeGateway, job: FakeJob, wait: Wait) -> None:
    """It is away for longer than the repeats of one call last."""
    waiting = wait()
    wait_until(lambda: gateway.looks)
    gateway.stop()
    threading.Timer(2.0, gateway.start).start()
    wait_until(lambda: len(gateway.looks) > 1, 30)
    job.end()
    assert waiting.result(20).state == Job.SUCCEEDED


def test_an_outage_that_lasts_is_raised(gateway: FakeGateway, wait: Wait) -> None:
    gateway.stop()
    with pytest.raises(errors.Unavailable):
        wait(patience=0.2).result(20)


def test_the_deadline_holds_in_an_outage_too(gateway: FakeGateway, wait: Wait) -> None:
    gateway.stop()
    with pytest.raises(errors.DeadlineExceeded, match="is not known: can't reach EasyQ"):
        wait(timeout=0.3).result(20)


def test_who_wants_no_repeats_is_told_at_once(gateway: FakeGateway, wait: Wait) -> None:
    gateway.failures.append(status(grpc.StatusCode.UNAVAILABLE, "not now", reason="STORE_UNAVAILABLE"))
    with pytest.raises(errors.Unavailable, match="not now"):
        wait(repeats=False).result(20)
    assert len(gateway.looks) == 1


def test_a_server_without_room_for_those_who_wait_is_asked_now_and_then(
    gateway: FakeGateway, job: FakeJob, wait: Wait
) -> None:
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams", reason="OVERLOADED")
    gateway.failures.append(full)
    waiting = wait()
    wait_until(lambda: len(gateway.looks) > 2)
    job.end()
    assert waiting.result(20).state == Job.SUCCEEDED
    assert [look.HasField("wait") for look in gateway.looks][:3] == [True, False, True]


def test_a_server_that_does_not_know_how_to_wait_is_asked_slower_and_slower(
    gateway: FakeGateway, job: FakeJob, wait: Wait
) -> None:
    gateway.honours_wait = False
    with pytest.raises(errors.DeadlineExceeded):
        wait(timeout=1).result(20)
    assert 3 <= len(gateway.looks) <= 12


def test_a_job_that_is_deleted_meanwhile(gateway: FakeGateway, wait: Wait) -> None:
    gateway.failures.append(status(grpc.StatusCode.NOT_FOUND, "there is no job", reason="JOB_NOT_FOUND"))
    with pytest.raises(errors.NotFound):
        wait().result(20)


# ----------------------------------------------------------------------------------------------------------------- run


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, gateway: FakeGateway) -> Iterator[Callable[..., Future[Any]]]:
    """`run` by either client, in a thread of its own."""

    def sync(**options: Any) -> Any:
        with Client(gateway.address) as client:
            return client.run(job_spec("i"), **options)

    def by_asyncio(**options: Any) -> Any:
        async def work() -> Any:
            async with AsyncClient(gateway.address) as client:
                return await client.run(job_spec("i"), **options)

        return asyncio.run(work())

    with ThreadPoolExecutor(1) as pool:
        yield lambda **options: pool.submit(sync if request.param == "sync" else by_asyncio, **options)


def test_run_gives_what_became_of_it(gateway: FakeGateway, run: Callable[..., Future[Any]]) -> None:
    running = run()
    gateway.job().write(stdout=b"caf\xc3\xa9 \xff", stderr=b"oops")
    gateway.job().end("FAILED", 3)
    result = running.result(20)
    assert (result.exit_code, result.stdout, result.stderr, result.text) == (3, b"caf\xc3\xa9 \xff", b"oops", "café �")


def test_run_checks_where_it_is_told_to(gateway: FakeGateway, run: Callable[..., Future[Any]]) -> None:
    running = run(check=True)
    gateway.job().write(stdout=b"out")
    gateway.job().end("FAILED", 3)
    with pytest.raises(errors.JobFailed, match="FAILED: exit code 3") as caught:
        running.result(20)
    assert (caught.value.result.exit_code, caught.value.result.stdout) == (3, b"out")
    again = run(check=True)
    wait_until(lambda: len(gateway.jobs) == 2)
    gateway.job().end()
    assert again.result(20).exit_code == 0


def test_run_stops_what_takes_too_long(gateway: FakeGateway, run: Callable[..., Future[Any]]) -> None:
    running = run(timeout=0.5)
    gateway.job().write(stdout=b"working")
    with pytest.raises(errors.DeadlineExceeded, match=r"had not ended after 0\.5 s"):
        running.result(20)
    assert gateway.job().stops == 1


def test_output_that_has_no_end_in_time(gateway: FakeGateway, job: FakeJob) -> None:
    job.write(stdout=b"some")
    with Client(gateway.address) as client:
        following = client.logs(job.job_id, follow=True, timeout=2)
        assert next(following).data == b"some"  # type: ignore[union-attr]
        with pytest.raises(errors.DeadlineExceeded, match=f"job {job.job_id} had not ended after 2 s"):
            next(following)
