"""Statistics in both protocols: what is asked of the store, what is shown, what is refused."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import stats_pb2 as api
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Execution, Failure
from easyq.v1.task_service_pb2_grpc import TaskServiceStub
from tests.integration.gateway.conftest import Client

POINT = api.StatPoint(
    at=Timestamp(seconds=1_900_000_800),
    jobs=2,
    executions=3,
    failed=1,
    run_time=api.Durations(count=1, mean=Duration(seconds=2), p50=Duration(nanos=500_000_000)),
)
ANSWER = api.Stats(
    from_time=Timestamp(seconds=1_900_000_800),
    step=Duration(seconds=60),
    total=POINT,
    points=[POINT],
    exits=[api.ExitCount(state=Execution.FAILED, exit_code=3, count=1), api.ExitCount(state=Execution.LOST, count=2)],
    reasons=[api.ReasonCount(reason=Failure.NONZERO_EXIT, count=1)],
)


async def test_the_farm(gateway: Client) -> None:
    gateway.store.stats = ANSWER
    shown = await gateway.get("/stats?from=2030-03-17T18:00:30Z&to=2030-03-17T18:10:00Z&step=2m")
    asked = gateway.store.queries[-1]
    assert (asked.task_id, asked.to_time.seconds - asked.from_time.seconds, asked.step.seconds) == ("", 570, 120)
    assert shown["from"] == "2030-03-17T18:00:00.000Z"
    assert shown["points"][0] == shown["total"]
    assert shown["total"]["runTime"]["p50"] == "0.500s"
    assert (shown["total"]["failed"], shown["total"]["queueWait"]) == (1, None)
    assert shown["exits"] == [
        {"state": "FAILED", "exitCode": 3, "count": 1},
        {"state": "LOST", "exitCode": None, "count": 2},
    ]
    assert shown["reasons"] == [{"reason": "NONZERO_EXIT", "count": 1}]
    stub: Any = FarmServiceStub(gateway.channel)
    assert await stub.GetStats(api.GetStatsRequest()) == ANSWER
    assert gateway.store.queries[-1].step.seconds == 60


async def test_a_task(gateway: Client) -> None:
    gateway.store.stats = ANSWER
    await gateway.get("/tasks/mail/stats?step=1h")
    assert (gateway.store.queries[-1].task_id, gateway.store.queries[-1].step.seconds) == ("mail", 3600)
    stub: Any = TaskServiceStub(gateway.channel)
    assert await stub.GetTaskStats(api.GetTaskStatsRequest(task_id="mail")) == ANSWER


async def test_a_task_that_did_nothing(gateway: Client) -> None:
    assert (await gateway.call("GET", "/tasks/nobodys/stats")).error["reason"] == "TASK_NOT_FOUND"
    await gateway.enqueue("mail")
    assert (await gateway.get("/tasks/mail/stats"))["total"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("step=90s", "step"),
        ("step=30s", "step"),
        ("step=31d", "step"),
        ("from=2001-01-01T00:00:00Z&to=2001-01-01T00:00:00Z", "from"),
        ("from=2001-01-01T00:00:00Z", "step"),
        ("from=2001-01-01T00:00:00Z&to=2001-01-02T00:00:00Z&step=15m", "step"),
        ("from=yesterday", "from"),
        ("until=2001-01-01T00:00:00Z", "until"),
    ],
)
async def test_what_is_refused(gateway: Client, query: str, field: str) -> None:
    for path in ("/stats", "/tasks/mail/stats"):
        answer = await gateway.call("GET", f"{path}?{query}")
        assert (answer.status, list(answer.fields)) == (400, [field])
    assert gateway.store.queries == []


async def test_what_is_refused_over_grpc(gateway: Client) -> None:
    stub: Any = FarmServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetStats(api.GetStatsRequest(step=Duration(seconds=90)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
