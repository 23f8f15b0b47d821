"""Upkeep, deletions and calls for many over a real socket, on both backends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.farm_service_pb2 import Agent, ListAgentsRequest
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2 import JobSelection
from easyq.v1.log_service_pb2 import LogStream, ReadLogsRequest
from easyq.v1.spec_pb2 import OnLost
from easyq.v1.task_service_pb2 import GetTaskRequest
from easyq_chassis.channel import open_channel
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import log_store_pb2 as log_pb
from easyq_internal.store.v1 import records_pb2 as records
from easyq_store.app import App
from easyq_store.config import StoreSettings
from tests.integration.store.conftest import Client, new_job
from tests.support.waiting import eventually

EXITED = records.Finish.Outcome.EXITED
CORDONED = pb.AssignResult.Refusal.CORDONED
FAILED = records.Finish(outcome=EXITED, exit_code=1)


@pytest.fixture(params=["sqlite", "mongo"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    sqlite = request.param == "sqlite"
    app = App(
        StoreSettings.model_validate(
            {
                "listen": "127.0.0.1:0",
                "database": f"sqlite:///{tmp_path}/store.db" if sqlite else request.getfixturevalue("mongo_url"),
                "sweep_interval": 0.1,
                "log_poll": 0.05,
                "retain_interval": 0.1,
                "retain_pause": 0.0,
                "rules": str(rules(tmp_path, "")),
            }
        )
    )
    await app.start()
    client = Client(open_channel(app.address))
    yield client
    await client.close()
    await app.stop()


def rules(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text)
    return path


async def agent_of(store: Client) -> Agent:
    (agent,) = (await store.farm.ListAgents(ListAgentsRequest())).items
    found: Agent = agent
    return found


async def test_drain_takes_one_more_job(store: Client) -> None:
    """It does not, however close together the wish and the assignments are."""
    offer = records.Offer(cpu_millis=4000, memory=1 << 33, gpus=1)
    opened = await store.hello(offer=offer)
    assert opened.upkeep == records.Upkeep(version=opened.upkeep.version)
    ids = [(await store.enqueue()).execution_id for _ in range(30)]

    async def assign(execution_id: str) -> bool:
        claim = pb.AssignItem(
            execution_id=execution_id, epoch=0, generation=0, agent_id="host-a", session=opened.session, pool="default"
        )
        result = await store.assign.call(claim)
        assert result.HasField("assignment") or result.refusal == CORDONED, result
        return bool(result.HasField("assignment"))

    first = [asyncio.create_task(assign(id_)) for id_ in ids[:15]]
    await asyncio.sleep(0)
    wish = records.Upkeep(cordoned=True, draining=True, deadline_in=Duration(seconds=60))
    upkeep = asyncio.ensure_future(store.farm.SetUpkeep(pb.SetUpkeepRequest(agent_id="host-a", upkeep=wish)))
    second = [asyncio.create_task(assign(id_)) for id_ in ids[15:]]
    told = await upkeep
    agent = told.agent
    assert agent.HasField("cordoned_at")
    assert agent.HasField("drain_deadline")
    assert (agent.capacity.cpus, agent.capacity.memory, agent.capacity.gpus) == (4.0, 1 << 33, 1)
    held_then = {h.execution_id for h in (await store.farm.ListHeld(pb.ListHeldRequest(limit=99))).items}
    given = {id_ for id_, task in zip(ids, [*first, *second], strict=True) if await task}
    assert given <= held_then
    held = {h.execution_id for h in (await store.farm.ListHeld(pb.ListHeldRequest(limit=99))).items}
    assert held == given
    beat = await store.beat.call(pb.AgentBeat(agent_id="host-a", session=opened.session, healthy=True, slots=4))
    assert (beat.upkeep.cordoned, beat.upkeep.draining, beat.fenced) == (True, True, False)
    assert 50 < beat.upkeep.deadline_in.seconds <= 60
    # Which of these words is the newer can be told.
    assert opened.upkeep.version < told.upkeep.version < beat.upkeep.version
    assert (told.upkeep.cordoned, told.upkeep.draining) == (True, True)
    assert 50 < told.upkeep.deadline_in.ToSeconds() <= 60
    assert {d.execution_id for d in beat.directives} == given
    again = await store.hello(offer=offer)
    assert again.upkeep.cordoned
    cleared = await store.farm.SetUpkeep(pb.SetUpkeepRequest(agent_id="host-a"))
    assert not cleared.agent.HasField("cordoned_at")


async def test_an_agent_is_declared_dead(store: Client) -> None:
    opened = await store.hello()
    accepted = await store.enqueue(on_lost=OnLost.WAIT)
    await store.run(accepted.execution_id, opened.session)
    gone = await store.farm.DeclareDead(pb.DeclareDeadRequest(agent_id="host-a"))
    assert (gone.lost, gone.agent.state, gone.agent.running) == (1, Agent.DEAD, 0)
    assert (await store.farm.DeclareDead(pb.DeclareDeadRequest(agent_id="host-a"))).lost == 0
    held = records.Held(execution_id=accepted.execution_id, epoch=1)
    back = await store.hello(inventory=[held])
    assert [d.kind for d in back.directives] == [records.Directive.Order.KILL]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.farm.DeclareDead(pb.DeclareDeadRequest(agent_id="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_bad_upkeep_is_refused(store: Client) -> None:
    await store.hello()
    for agent_id, seconds, code in (("nobody", 1, "NOT_FOUND"), ("host-a", -1, "INVALID_ARGUMENT")):
        wish = records.Upkeep(draining=True, deadline_in=Duration(seconds=seconds))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await store.farm.SetUpkeep(pb.SetUpkeepRequest(agent_id=agent_id, upkeep=wish))
        assert caught.value.code().name == code


async def run_and_fail(store: Client, session: int, **fields: Any) -> job_pb.SubmitAccepted:
    accepted = await store.enqueue(**fields)
    await store.run(accepted.execution_id, session)
    await store.say(accepted.execution_id, 1, finish=FAILED)
    return accepted


async def gone(store: Client, job_id: str) -> bool:
    try:
        await store.jobs.GetJob(job_pb.GetJobRequest(job_id=job_id))
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND
    return False


async def test_a_running_job_is_deleted_once_it_has_ended(store: Client) -> None:
    opened = await store.hello()
    result = await store.submit.call(new_job(key="k"))
    accepted = result.accepted
    await store.run(accepted.execution_id, opened.session)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.jobs.DeleteJob(job_pb.DeleteJobRequest(job_id=accepted.job_id))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    deleted = await store.jobs.DeleteJob(job_pb.DeleteJobRequest(job_id=accepted.job_id, force=True))
    assert deleted.stopping
    assert [(h.execution_id, h.agent_id) for h in deleted.hints] == [(accepted.execution_id, "host-a")]
    follower = store.logs.ReadLogs(ReadLogsRequest(job_id=accepted.job_id, follow=True))
    word = await store.say(accepted.execution_id, 1, finish=FAILED)
    assert word.verdict == records.ReportResult.Verdict.OK
    await eventually(lambda: gone(store, accepted.job_id))
    late = records.Chunk(execution_id=accepted.execution_id, epoch=1, stream=LogStream.STDOUT, data=b"x")
    assert (await store.append.call(late)).verdict == log_pb.AppendResult.Verdict.STALE
    stale = await store.say(accepted.execution_id, 1, finish=FAILED)
    assert (stale.verdict, stale.released) == (records.ReportResult.Verdict.STALE, True)
    # It ends, whether it saw the end of the job before that was deleted, or not.
    told, code = [], grpc.StatusCode.OK
    try:
        told = [event async for event in follower]
    except grpc.aio.AioRpcError as error:
        code = error.code()
    assert code is grpc.StatusCode.NOT_FOUND or told[-1].end.job_ended
    # The key is free.
    anew = (await store.submit.call(new_job(key="k"))).accepted
    assert not anew.HasField("replayed_spec")


async def test_a_task_is_deleted(store: Client) -> None:
    opened = await store.hello()
    await run_and_fail(store, opened.session)
    for _ in range(4):
        await store.enqueue()
    await store.enqueue("other")
    counts = await store.jobs.CountExecutions(job_pb.CountExecutionsRequest(task_id="mail"))
    assert (counts.queued, counts.held) == (4, 0)
    deleted, more = 0, True
    while more:
        page = await store.jobs.DeleteTask(job_pb.DeleteTaskRequest(task_id="mail", force=True, limit=2))
        deleted, more = deleted + page.deleted, page.more
    assert deleted == 5
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await store.jobs.GetTask(GetTaskRequest(task_id="mail"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await store.jobs.GetTask(GetTaskRequest(task_id="other"))).job_count == 1


async def test_stop_retry_and_discard_by_filter(store: Client) -> None:
    opened = await store.hello()
    failed = [await run_and_fail(store, opened.session, labels={"n": str(n)}) for n in range(3)]
    waiting = [await store.enqueue("print") for _ in range(3)]
    stop = job_pb.ManyRequest(selection=JobSelection(task_pattern="pri.t"), limit=2)
    first = await store.jobs.StopMany(stop)
    assert (first.matched, first.done, bool(first.next_cursor)) == (2, 2, True)
    stop.cursor = first.next_cursor
    rest = await store.jobs.StopMany(stop)
    assert (rest.matched, rest.done, rest.next_cursor) == (1, 1, "")
    for accepted in waiting:
        job = await store.jobs.GetJob(job_pb.GetJobRequest(job_id=accepted.job_id))
        assert job.state == Job.STOPPED
    one = job_pb.ManyRequest(selection=JobSelection(label=["n=1"]), limit=9)
    retried = await store.jobs.RetryMany(one)
    assert (retried.matched, retried.done, len(retried.ready)) == (1, 1, 1)
    everything = job_pb.ManyRequest(limit=1000, dry_run=True)
    assert (await store.jobs.DeleteMany(everything)).matched == 2
    everything.dry_run = False
    assert (await store.jobs.DeleteMany(everything)).done == 2
    assert [await gone(store, accepted.job_id) for accepted in failed] == [True, False, True]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.jobs.StopMany(job_pb.ManyRequest(selection=JobSelection(task_pattern="(a"), limit=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_rules_of_retention_are_read_again(store: Client, tmp_path: Path) -> None:
    opened = await store.hello()
    kept = await run_and_fail(store, opened.session, task_id="kept")
    old = await run_and_fail(store, opened.session, task_id="old")
    rules(tmp_path, '[[retention]]\npattern = "ol."\nfailed = 0.001\n')
    await eventually(lambda: gone(store, old.job_id))
    assert not await gone(store, kept.job_id)
