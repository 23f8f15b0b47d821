"""`submit_many` of both clients against a gateway on a socket: order, bounds, breaks, refusals."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from easyq import errors
from easyq.aio import AsyncClient
from easyq.backlog import Submitted
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_service_pb2 import BatchItem
from easyq.v1.spec_pb2 import JobSpec
from tests.fakes.public_api import status
from tests.fakes.public_farm import FakeFarm, fake_farm

Submit = Callable[..., list[Submitted]]


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def submit(request: pytest.FixtureRequest, farm: FakeFarm) -> Submit:
    """All answers of `submit_many`, by either client."""

    def sync(jobs: Any, **options: Any) -> list[Submitted]:
        with Client(farm.address) as client:
            return list(client.submit_many(jobs, **options))

    def by_asyncio(jobs: Any, **options: Any) -> list[Submitted]:
        async def run() -> list[Submitted]:
            async with AsyncClient(farm.address) as client:
                return [one async for one in client.submit_many(jobs, **options)]

        return asyncio.run(run())

    return sync if request.param == "sync" else by_asyncio


def specs(count: int) -> Iterator[JobSpec]:
    return (job_spec("i", str(index)) for index in range(count))


def test_each_has_its_answer_in_order(farm: FakeFarm, submit: Submit) -> None:
    answers = submit(specs(200), task="t", under_way=7)
    assert [one.index for one in answers] == list(range(200))
    assert [list(one.item.spec.command) for one in answers] == [[str(index)] for index in range(200)]
    assert [one.job.job_id for one in answers if one.job] == [job.job_id for job in farm.jobs]
    assert {job.request.task_id for job in farm.jobs} == {"t"}
    assert len({job.request.idempotency_key for job in farm.jobs}) == 200


def test_nothing_at_all(submit: Submit) -> None:
    assert submit([]) == []


def test_tasks_and_keys_of_their_own(farm: FakeFarm, submit: Submit) -> None:
    item = BatchItem(task_id="b", idempotency_key="k", spec=job_spec("i"))
    answers = submit([("a", job_spec("i")), item, item, BatchItem(spec=job_spec("i"))], task="c")
    assert [job.request.task_id for job in farm.jobs] == ["a", "b", "c"]
    assert answers[1].job is not None
    assert answers[2].job is not None
    assert (answers[1].job.job_id, answers[2].job.replayed) == (answers[2].job.job_id, True)


def test_one_that_is_refused_keeps_no_other_back(farm: FakeFarm, submit: Submit) -> None:
    farm.judge = lambda spec: {"spec.image": "is bad"} if list(spec.command) == ["3"] else {}
    answers = submit(specs(6))
    assert [one.index for one in answers if one.error] == [3]
    error = answers[3].error
    assert isinstance(error, errors.InvalidArgument)
    assert (error.reason, error.fields[0].field, answers[3].job) == ("INVALID_FIELDS", "item.spec.image", None)


def test_a_stream_that_breaks_loses_and_doubles_nothing(farm: FakeFarm, submit: Submit) -> None:
    farm.submit_breaks = [5, 0, 13, 1]
    answers = submit(specs(50), under_way=10)
    assert [one.index for one in answers] == list(range(50))
    assert [list(job.request.spec.command) for job in farm.jobs] == [[str(index)] for index in range(50)]


def test_what_the_input_raises_comes_after_what_was_before_it(farm: FakeFarm, submit: Submit) -> None:
    def jobs() -> Iterator[JobSpec]:
        yield from specs(3)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        submit(jobs())
    assert len(farm.jobs) == 3


def test_an_outage_that_lasts_is_raised(farm: FakeFarm, submit: Submit) -> None:
    farm.stop()
    with pytest.raises(errors.Unavailable):
        submit(specs(1), patience=0.2)


def test_a_server_with_too_much_to_do_is_asked_again(farm: FakeFarm, submit: Submit) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    farm.failures.append(status(code, "too many streams", reason="OVERLOADED", retry_after=0.1))
    assert [one.index for one in submit(specs(3))] == [0, 1, 2]
    assert len(farm.jobs) == 3


def test_a_refusal_of_the_whole_stream_is_raised(farm: FakeFarm, submit: Submit) -> None:
    # Of a stream that is refused while something is written, grpc.aio tells INTERNAL only, and so it is begun again.
    farm.failures += [status(grpc.StatusCode.PERMISSION_DENIED, "not you", reason="ORIGIN_NOT_ALLOWED")] * 100
    with pytest.raises(errors.PermissionDenied):
        submit(specs(3))


def test_the_input_is_read_no_further_ahead_than_allowed(farm: FakeFarm) -> None:
    read = 0

    def jobs() -> Iterator[JobSpec]:
        nonlocal read
        for spec in specs(10_000):
            read += 1
            yield spec

    with Client(farm.address) as client:
        answers = client.submit_many(jobs(), under_way=5)
        assert read == 0
        for index in range(50):
            next(answers)
            # One is with the reader thread, another with gRPC's.
            assert read <= index + 1 + 5 + 2
        answers.close()  # type: ignore[attr-defined]
    assert read < 100


async def test_on_asyncio_it_is_read_no_further_either(farm: FakeFarm) -> None:
    read = 0

    def jobs() -> Iterator[JobSpec]:
        nonlocal read
        for spec in specs(10_000):
            read += 1
            yield spec

    async with AsyncClient(farm.address) as client:
        answers = client.submit_many(jobs(), under_way=5)
        assert read == 0
        for index in range(50):
            await anext(answers)
            assert read <= index + 1 + 5 + 2
        await answers.aclose()  # type: ignore[attr-defined]
    assert read < 100


class Forgetful(FakeFarm):
    """Accepts everything and keeps nothing."""

    def SubmitJobs(self, requests: Iterator[api.SubmitJobsRequest], context: Any) -> Iterator[api.SubmitJobsResponse]:
        for index, _ in enumerate(requests):
            result = api.BatchResult(index=index, job=api.CreateJobResponse(job_id=str(index)))
            yield api.SubmitJobsResponse(result=result)


# Submits COUNT jobs of 50 kB each. After 200 answers it takes no further one until the input is not read any more;
# prints by how many MB the process was ever larger than at its beginning.
_MUCH = """
import asyncio, sys, time
import easyq

address, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
read = seen = 0

def size():
    # getrusage's would be that of the parent, where that is larger.
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024

def jobs():
    global read
    for read in range(1, count + 1):
        yield easyq.job_spec("i", envs={"N": str(read) * (50_000 // len(str(read)))})

async def by_asyncio():
    global seen
    async with easyq.AsyncClient(address) as client:
        async for _ in client.submit_many(jobs(), under_way=50):
            seen += 1
            if seen == 200:
                before = 0
                while before != read:
                    before = read
                    await asyncio.sleep(0.2)

def sync():
    global seen
    with easyq.Client(address) as client:
        for _ in client.submit_many(jobs(), under_way=50):
            seen += 1
            if seen == 200:
                before = 0
                while before != read:
                    before = read
                    time.sleep(0.2)

begun = size()
asyncio.run(by_asyncio()) if kind == "async" else sync()
assert seen == count
print(size() - begun)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_memory_does_not_grow_with_the_number_of_jobs(kind: str) -> None:
    count = 2_000
    with Forgetful() as farm:  # type: ignore[abstract] # the other methods stay UNIMPLEMENTED
        command = [sys.executable, "-c", _MUCH, farm.address, kind, str(count)]
        grown = float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout)
    assert grown < count * 0.05 / 2, f"{grown} MB"


def test_a_slow_input_keeps_nothing_back(farm: FakeFarm) -> None:
    go_on = threading.Event()

    def jobs() -> Iterator[JobSpec]:
        yield job_spec("first")
        assert go_on.wait(20)
        yield job_spec("second")

    with Client(farm.address) as client:
        answers = client.submit_many(jobs())
        assert next(answers).job is not None
        go_on.set()
        assert [one.index for one in answers] == [1]


async def test_an_asynchronous_input(farm: FakeFarm) -> None:
    go_on = asyncio.Event()

    async def jobs() -> AsyncIterator[JobSpec]:
        yield job_spec("first")
        await go_on.wait()
        yield job_spec("second")

    async with AsyncClient(farm.address) as client:
        seen = []
        async for answer in client.submit_many(jobs()):
            seen.append(answer.index)
            go_on.set()
        assert seen == [0, 1]
