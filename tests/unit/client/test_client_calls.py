"""The client's calls on a channel of grpcio-testing: no socket, each answer given by hand."""

import inspect
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest

from easyq import errors
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_pb2 import Job
from tests.fakes.public_api import status

JOBS = api.DESCRIPTOR.services_by_name["JobService"]


class Wire:
    """The server's end: takes one call after the other and answers it."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel([JOBS], grpc_testing.strict_real_time())
        self.client = Client("nowhere:1", channel=self.channel)
        self._pool = ThreadPoolExecutor(1)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        return self._pool.submit(call)

    def take(self, method: str) -> tuple[Any, Any]:
        _metadata, request, rpc = self.channel.take_unary_unary(JOBS.methods_by_name[method])
        return request, rpc

    def answer(self, method: str, response: Any) -> Any:
        request, rpc = self.take(method)
        rpc.terminate(response, (), grpc.StatusCode.OK, "")
        return request

    def refuse(self, method: str, code: grpc.StatusCode, message: str, **details: Any) -> Any:
        request, rpc = self.take(method)
        full = status(code, message, **details)
        trailer = [("grpc-status-details-bin", full.SerializeToString())] if full.details else []
        rpc.terminate(None, trailer, code, message)
        return request


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_submit_sends_the_spec_under_its_task(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.submit(job_spec("i", "a b"), task="t", idempotency_key="k"))
    request = wire.answer("CreateJob", api.CreateJobResponse(job_id="j"))
    assert (request.task_id, list(request.spec.command), request.idempotency_key) == ("t", ["a", "b"], "k")
    assert future.result(30).job_id == "j"


def test_a_submit_is_repeated_under_one_key_while_the_server_is_away(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.submit(job_spec("i")))
    keys = {wire.refuse("CreateJob", grpc.StatusCode.UNAVAILABLE, "refused").idempotency_key for _ in range(2)}
    keys.add(wire.answer("CreateJob", api.CreateJobResponse(job_id="j")).idempotency_key)
    assert future.result(30).job_id == "j"
    assert len(keys) == 1
    assert keys != {""}


def test_a_put_of_a_known_revision_is_made_once(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.put("j", job_spec("i"), task="t"))
    wire.refuse("PutJob", grpc.StatusCode.UNAVAILABLE, "cut off")
    wire.answer("PutJob", api.PutJobResponse(created=True))
    assert future.result(30).created
    # It may have taken effect, after which the job has another revision.
    future = wire.start(lambda: wire.client.put("j", job_spec("i"), task="t", revision=1))
    wire.refuse("PutJob", grpc.StatusCode.UNAVAILABLE, "cut off")
    with pytest.raises(errors.Unavailable):
        future.result(30)


def test_a_server_that_stays_away_is_told_by_name(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.get("j"))
    for _ in range(4):
        wire.refuse("GetJob", grpc.StatusCode.UNAVAILABLE, "connection refused")
    with pytest.raises(errors.Unavailable, match="can't reach EasyQ at nowhere:1: connection refused") as caught:
        future.result(30)
    assert caught.value.reason == ""


def test_a_refusal_carries_its_reason_and_fields_and_is_not_repeated(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.submit(job_spec("")))
    fields = {"spec.image": "is required"}
    wire.refuse("CreateJob", grpc.StatusCode.INVALID_ARGUMENT, "bad", reason="INVALID_FIELDS", fields=fields)
    with pytest.raises(errors.InvalidArgument) as caught:
        future.result(30)
    assert caught.value.reason == "INVALID_FIELDS"
    assert [(one.field, one.message) for one in caught.value.fields] == [("spec.image", "is required")]
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("code", [one for one in grpc.StatusCode if one is not grpc.StatusCode.OK])
def test_every_code_is_an_error_of_ours(wire: Wire, code: grpc.StatusCode) -> None:
    future = wire.start(lambda: wire.client.stop("j"))
    repeated = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    for _ in range(4 if repeated else 1):
        wire.refuse("StopJob", code, "no")
    with pytest.raises(errors.EasyQError) as caught:
        future.result(30)
    assert caught.value.code == code.name
    assert type(caught.value) is errors.BY_CODE.get(code.name, errors.EasyQError)


def test_a_busy_server_is_asked_again_when_it_says(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.get("j"))
    refused = time.monotonic()
    wire.refuse("GetJob", grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="OVERLOADED", retry_after=0.4)
    wire.answer("GetJob", Job(job_id="j"))
    assert time.monotonic() - refused > 0.3, "it came back too early"
    assert future.result(30).job_id == "j"


def test_wait_asks_until_the_job_has_ended(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.wait("j"))
    wire.answer("GetJob", Job(job_id="j", state=Job.QUEUED))
    wire.answer("GetJob", Job(job_id="j", state=Job.RETRYING))
    wire.answer("GetJob", Job(job_id="j", state=Job.FAILED))
    assert future.result(30).state == Job.FAILED


def test_wait_gives_up_after_its_timeout(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.wait("j", timeout=0))
    wire.answer("GetJob", Job(job_id="j", state=Job.RUNNING))
    with pytest.raises(errors.DeadlineExceeded, match="still RUNNING"):
        future.result(30)


def test_wait_asks_again_while_time_is_left(wire: Wire) -> None:
    future = wire.start(lambda: wire.client.wait("j", timeout=60))
    wire.answer("GetJob", Job(job_id="j", state=Job.RUNNING))
    wire.answer("GetJob", Job(job_id="j", state=Job.SUCCEEDED))
    assert future.result(30).state == Job.SUCCEEDED


def test_jobs_come_page_after_page(wire: Wire) -> None:
    future = wire.start(lambda: [job.job_id for job in wire.client.jobs(task="t", states=(Job.QUEUED, Job.RUNNING))])
    first = wire.answer("ListJobs", api.ListJobsResponse(items=[Job(job_id="a")], next_page_token="next"))
    second = wire.answer("ListJobs", api.ListJobsResponse(items=[Job(job_id="b"), Job(job_id="c")]))
    assert future.result(30) == ["a", "b", "c"]
    assert (first.task_id, list(first.state), first.page_token) == ("t", [Job.QUEUED, Job.RUNNING], "")
    assert second.page_token == "next"


def test_both_clients_offer_the_same() -> None:
    from easyq.aio import AsyncClient
    from easyq.client import Client

    assert {name for name in dir(Client) if name[0] != "_"} == {name for name in dir(AsyncClient) if name[0] != "_"}
    for name in (
        "submit",
        "submit_many",
        "put",
        "jobs",
        "wait",
        "logs",
        "run",
        "error_queue",
        "stop_jobs",
        "executions",
        "schedule",
        "stats",
        "deliveries",
        "resend",
    ):
        sync, by_asyncio = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, AsyncClient))
        assert list(sync) == list(by_asyncio), name
