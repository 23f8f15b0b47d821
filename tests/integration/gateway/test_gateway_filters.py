"""Filters of lists in both protocols: each reaches the store as it was asked for, and a bad one nobody."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.execution_service_pb2 import ListExecutionsRequest
from easyq.v1.job_pb2 import Execution, Failure, Job, ListOrder, Trigger
from easyq.v1.job_service_pb2 import ListJobsRequest
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from tests.integration.gateway.conftest import Client

TIMES: dict[str, Any] = {
    "created_after": Timestamp(seconds=1_000),
    "created_before": Timestamp(seconds=2_000),
    "ended_after": Timestamp(seconds=3_000),
    "ended_before": Timestamp(seconds=4_000),
}
ASKED_TIMES = "createdAfter=1000&createdBefore=2000&endedAfter=3000&endedBefore=4000"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (
            (
                "/tasks/mail/jobs?state=failed&state=STOPPED&outcome=FAILED&outcome=lost&image=r.example:5000/echo&label=a=1"
                f"&metadata=order.id=42&metadata=x=a%20b&order=oldest&{ASKED_TIMES}"
            ),
            ListJobsRequest(
                task_id="mail",
                state=[Job.FAILED, Job.STOPPED],
                outcome=[Execution.FAILED, Execution.LOST],
                image="r.example:5000/echo",
                label=["a=1"],
                metadata=["order.id=42", "x=a b"],
                order=ListOrder.OLDEST,
                **TIMES,
            ),
        ),
        (
            (
                "/executions?taskId=mail&state=FAILED&reason=NONZERO_EXIT&exitCode=3&exitCode=137&host=host-1&trigger=RETRY"
                f"&image=echo&{ASKED_TIMES}"
            ),
            ListExecutionsRequest(
                task_id="mail",
                state=[Execution.FAILED],
                reason=[Failure.NONZERO_EXIT],
                exit_code=[3, 137],
                host="host-1",
                trigger=[Trigger.RETRY],
                image="echo",
                **TIMES,
            ),
        ),
        ("/jobs/some/executions?exitCode=0", ListExecutionsRequest(job_id="some", exit_code=[0])),
    ],
)
async def test_a_filter_reaches_the_store(gateway: Client, path: str, asked: Any) -> None:
    await gateway.get(path)
    sent = gateway.store.lists[-1]
    sent.ClearField("page_size")
    assert sent == asked


async def test_filters_go_with_the_next_page(gateway: Client) -> None:
    for _ in range(3):
        await gateway.enqueue("mail", image="echo:1", metadata={"n": 1})
    gateway.store.short_pages = 2
    page = await gateway.get("/jobs?pageSize=20&createdAfter=1&order=OLDEST")
    # Shorter than asked for: it took the store some time, and goes on only if that is asked for.
    assert len(page["items"]) == 2
    assert (await gateway.get(page["nextUrl"]))["nextUrl"] == ""
    asked = [request for request in gateway.store.lists if isinstance(request, ListJobsRequest)]
    assert [request.order for request in asked] == [ListOrder.OLDEST] * 2


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/jobs?outcome=NEVER", "outcome[0]"),
        ("/jobs?outcome=RUNNING", "outcome[0]"),
        ("/jobs?metadata=novalue", "metadata[0]"),
        ("/jobs?metadata==x", "metadata[0]"),
        ("/jobs?" + "&".join(["metadata=a=b"] * 9), "metadata"),
        ("/jobs?image=" + "x" * 1025, "image"),
        ("/jobs?image=a&image=b", "image"),
        ("/jobs?endedAfter=now", "endedAfter"),
        ("/jobs?exitCode=1", "exitCode"),
        ("/executions?exitCode=one", "exitCode[0]"),
        ("/executions?exitCode=99999999999", "exitCode[0]"),
        ("/executions?" + "&".join(f"exitCode={n}" for n in range(17)), "exitCode"),
        ("/executions?trigger=WISH", "trigger[0]"),
        ("/executions?host=" + "x" * 257, "host"),
        ("/executions?metadata=a=b", "metadata"),
    ],
)
async def test_what_is_refused(gateway: Client, path: str, field: str) -> None:
    answer = await gateway.call("GET", path)
    assert (answer.status, list(answer.fields)) == (400, [field])
    assert gateway.store.lists == []


async def test_only_ends_are_outcomes(gateway: Client) -> None:
    """As docs/lists.md lists them, over both protocols and in the API's document."""
    ends = ["SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "LOST", "EXPIRED"]
    for word in ("x", "RUNNING"):
        answer = await gateway.call("GET", f"/jobs?outcome={word}")
        assert answer.fields == {"outcome[0]": f"must be one of {', '.join(ends)}"}
    stub: Any = JobServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListJobs(ListJobsRequest(outcome=[Execution.RUNNING]))
    assert f"must be one of {', '.join(ends)}" in (refused.value.details() or "")
    document = await gateway.get("/openapi.json")
    [told] = [one for one in document["paths"]["/jobs"]["get"]["parameters"] if one["name"] == "outcome"]
    assert told["schema"]["items"]["enum"] == ends


async def test_what_is_refused_over_grpc(gateway: Client) -> None:
    stub: Any = JobServiceStub(gateway.channel)
    unknown: Any = 99
    for request in (ListJobsRequest(metadata=["x"]), ListJobsRequest(outcome=[unknown])):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListJobs(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
