"""`run` of both clients that is left before the job's end: the job is stopped, as subprocess.run ends its child."""

import asyncio
import signal
import threading
from collections.abc import Iterator

import grpc
import pytest

from easyq import AsyncClient, Client, errors
from easyq.spec import job_spec
from easyq.v1.log_service_pb2 import LogChunk
from tests.fakes.public_api import FakeJob, status
from tests.fakes.public_farm import FakeFarm, fake_farm
from tests.support.waiting import eventually


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        yield made


def _writes_at_once(farm: FakeFarm) -> threading.Thread:
    def write() -> None:
        farm.job().write(stdout=b"begun")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def _stops(farm: FakeFarm) -> list[int]:
    return [job.stops for job in farm.jobs]


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C does what it does at a terminal, whatever whoever runs the tests ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_stops_the_job(farm: FakeFarm) -> None:
    _writes_at_once(farm)

    def interrupt(_chunk: LogChunk) -> None:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()

    with Client(farm.address) as client, pytest.raises(KeyboardInterrupt):
        client.run(job_spec("i"), on_output=interrupt)
    assert _stops(farm) == [1]


def test_what_on_output_raises_stops_it_too(farm: FakeFarm) -> None:
    _writes_at_once(farm)

    def fail(_chunk: LogChunk) -> None:
        raise KeyError("mine")

    with Client(farm.address) as client, pytest.raises(KeyError, match="mine"):
        client.run(job_spec("i"), on_output=fail)
    assert _stops(farm) == [1]


def test_ctrl_c_before_the_answer_to_the_enqueue(farm: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(farm.address) as client:
        submit = client.submit

        def interrupted(*arguments: object, **options: object) -> None:
            submit(*arguments, **options)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        monkeypatch.setattr(client, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.run(job_spec("i"))
    assert _stops(farm) == [1]


def test_an_error_of_a_call_leaves_the_job_as_it_is(farm: FakeFarm) -> None:
    farm.breaks.append(0)
    farm.broken = status(grpc.StatusCode.PERMISSION_DENIED, "not you", reason="ORIGIN_NOT_ALLOWED")
    with Client(farm.address) as client, pytest.raises(errors.PermissionDenied):
        client.run(job_spec("i"))
    assert _stops(farm) == [0]


async def test_a_cancellation_stops_the_job(farm: FakeFarm) -> None:
    async with AsyncClient(farm.address) as client:
        running = asyncio.create_task(client.run(job_spec("i")))
        await eventually(lambda: farm.log_requests)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert _stops(farm) == [1]


async def test_a_time_limit_of_asyncio_stops_it_too(farm: FakeFarm) -> None:
    async with AsyncClient(farm.address) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.run(job_spec("i")), 0.3)
    assert _stops(farm) == [1]


async def test_a_cancellation_before_the_answer_to_the_enqueue(farm: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def judge(_spec: object) -> dict[str, str]:
        asked.set()
        answered.wait(30)
        return {}

    monkeypatch.setattr(farm, "judge", judge)
    async with AsyncClient(farm.address) as client:
        running = asyncio.create_task(client.run(job_spec("i")))
        await eventually(asked.is_set)
        running.cancel()
        await asyncio.sleep(0)
        answered.set()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert _stops(farm) == [1]


async def test_a_stop_that_fails_hides_no_cancellation(farm: FakeFarm) -> None:
    async with AsyncClient(farm.address, repeats=False) as client:
        running = asyncio.create_task(client.run(job_spec("i")))
        await eventually(lambda: farm.log_requests)
        job: FakeJob = farm.job()
        job.end()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert _stops(farm) == [0]
