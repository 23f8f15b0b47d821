"""Statistics over a socket: what the store's other services did."""

from datetime import timedelta
from typing import Any

import grpc
import pytest

from easyq.v1.job_pb2 import Execution, Failure
from easyq.v1.stats_pb2 import Stats
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1 import stats_pb2
from easyq_internal.store.v1.stats_pb2_grpc import StatsServiceStub
from easyq_store.app import App
from tests.integration.store.conftest import Client
from tests.support.waiting import eventually


def request(task_id: str = "", **fields: Any) -> stats_pb2.QueryRequest:
    import time

    now = int(time.time())
    made = stats_pb2.QueryRequest(task_id=task_id, **{"step": timedelta(minutes=1), **fields})
    made.from_time.seconds, made.to_time.seconds = now - 600, now + 60
    return made


async def test_what_was_done_is_told_within_a_second_or_two(store: Client) -> None:
    stub: Any = StatsServiceStub(store.channel)
    session = (await store.hello()).session
    for code, task in ((0, "mail"), (3, "mail"), (3, "report")):
        job = await store.enqueue(task)
        run = await store.run(job.execution_id, session)
        finish = records.Finish(outcome=records.Finish.Outcome.EXITED, exit_code=code)
        finish.ran_for.FromMilliseconds(1_500)
        await store.say(job.execution_id, run.epoch, finish=finish)

    async def all_ended() -> Stats | None:
        told: Stats = await stub.Query(request())
        return told if told.total.failed == 2 else None

    farm = await eventually(all_ended)
    total = farm.total
    assert (total.jobs, total.executions, total.succeeded, total.failed) == (3, 3, 1, 2)
    assert (total.run_time.count, total.run_time.max.ToMilliseconds()) == (3, 1_500)
    assert 1_125 <= total.run_time.p50.ToMilliseconds() <= 1_500
    assert total.queue_wait.count == 3
    assert sum(point.executions for point in farm.points) == 3
    assert farm.points[0].at == farm.from_time
    assert (farm.to_time.seconds - farm.from_time.seconds) // 60 == len(farm.points) in {11, 12}
    assert [(e.state, e.exit_code, e.count) for e in farm.exits] == [
        (Execution.FAILED, 3, 2),
        (Execution.SUCCEEDED, 0, 1),
    ]
    assert [(r.reason, r.count) for r in farm.reasons] == [(Failure.NONZERO_EXIT, 2)]
    mail: Stats = await stub.Query(request("mail"))
    assert (mail.task_id, mail.total.jobs, mail.total.failed) == ("mail", 2, 1)
    hours: Stats = await stub.Query(request("mail", step=timedelta(hours=1)))
    assert (hours.total.jobs, len(hours.points) in {1, 2}) == (2, True)


async def test_what_was_counted_is_written_at_a_clean_end(store: Client, app: App, tmp_path: Any) -> None:
    import sqlite3

    await store.enqueue()
    await app.stop()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT count(*) FROM stat WHERE task_id = 'mail'").fetchone() == (2,)


async def test_a_query_that_makes_no_sense(store: Client) -> None:
    stub: Any = StatsServiceStub(store.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Query(request(step=timedelta(seconds=61)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
