"""FarmStoreService over a real socket."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.farm_service_pb2 import Agent, ListAgentsRequest
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.log_service_pb2 import LogStream
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import records_pb2 as records
from tests.integration.store.conftest import Client
from tests.support.waiting import eventually

OK = records.ReportResult.Verdict.OK
STALE = records.ReportResult.Verdict.STALE
EXITED = records.Finish.Outcome.EXITED


async def job_of(store: Client, job_id: str) -> Job:
    job: Job = await store.jobs.GetJob(job_pb.GetJobRequest(job_id=job_id, executions=20))
    return job


async def test_a_run_from_hello_to_finish(store: Client) -> None:
    opened = await store.hello(hostname="h", pools=["default"], labels={"a": "1"}, version="0.1.0")
    assert (opened.session, len(opened.directives)) == (1, 0)
    accepted = await store.enqueue(command=["x"], start_deadline=Duration(seconds=60))
    assignment = await store.run(accepted.execution_id, 1)
    assert (assignment.job_id, assignment.task_id, assignment.attempt, assignment.fence) == (
        accepted.job_id,
        "mail",
        1,
        1,
    )
    assert list(assignment.spec.command) == ["x"]
    assert 50 < assignment.start_within.seconds <= 60
    held = await store.farm.ListHeld(pb.ListHeldRequest(limit=10))
    assert [(h.execution_id, h.agent_id, h.session, h.pool, h.epoch) for h in held.items] == [
        (accepted.execution_id, "host-a", 1, "default", 1)
    ]
    tail = records.Chunk(execution_id=accepted.execution_id, epoch=1, stream=LogStream.STDOUT, data=b"hi\n")
    finish = records.Finish(outcome=EXITED, exit_code=0, stdout_size=3, tail=[tail], ran_for=Duration(nanos=5_000_000))
    for _ in range(2):
        result = await store.say(accepted.execution_id, 1, finish=finish)
        assert (result.verdict, result.released, result.logs_complete) == (OK, True, True)
        assert (result.execution_id, result.epoch) == (accepted.execution_id, 1)
    job = await job_of(store, accepted.job_id)
    assert job.state == Job.SUCCEEDED
    (execution,) = job.executions
    assert (execution.exit_code, execution.host, execution.container_id) == (0, "host-a", "c0ffee")
    assert (execution.stdout_bytes, execution.logs_complete) == (3, True)
    assert not (await store.farm.ListHeld(pb.ListHeldRequest(limit=10))).items


async def test_a_failure_is_retried(store: Client) -> None:
    opened = await store.hello()
    accepted = await store.enqueue(retries=1)
    await store.run(accepted.execution_id, opened.session)
    failure = Failure(reason=Failure.NONZERO_EXIT, message="exit code 3")
    finish = records.Finish(outcome=EXITED, exit_code=3, failure=failure)
    assert (await store.say(accepted.execution_id, 1, finish=finish)).verdict == OK
    job = await job_of(store, accepted.job_id)
    assert (job.state, [e.state for e in job.executions]) == (Job.RETRYING, [Execution.FAILED, Execution.SCHEDULED])
    assert job.executions[0].error == failure
    assert job.HasField("next_run_at")
    other = records.Finish(outcome=EXITED, exit_code=0)
    assert (await store.say(accepted.execution_id, 1, finish=other)).verdict == STALE


async def test_refusals_of_assignments(store: Client) -> None:
    await store.hello()
    accepted = await store.enqueue()
    base: dict[str, Any] = {"execution_id": accepted.execution_id, "agent_id": "host-a", "session": 1}
    kinds = pb.AssignResult.Refusal
    items = [
        (pb.AssignItem(**{**base, "generation": 5}), kinds.STALE_GENERATION),
        (pb.AssignItem(**{**base, "session": 5}), kinds.STALE_SESSION),
        (pb.AssignItem(**{**base, "epoch": 5}), kinds.STALE_EPOCH),
        (pb.AssignItem(**{**base, "execution_id": "x"}), kinds.NOT_QUEUED),
    ]
    for item, kind in items:
        result = await store.assign.call(item)
        assert result.refusal == kind
        assert result.HasField("ready") is (kind == kinds.STALE_EPOCH)


async def test_queues_generations_and_fences(store: Client) -> None:
    start = (await store.farm.ListQueued(pb.ListQueuedRequest(limit=10))).last_seq
    low = await store.enqueue("a", priority=-1)
    high = await store.enqueue("a", priority=1)
    other = await store.enqueue("b")
    queued = await store.farm.ListQueued(pb.ListQueuedRequest(after_seq=start, limit=2))
    assert [head.execution_id for head in queued.items] == [low.execution_id, high.execution_id]
    assert queued.last_seq >= queued.items[1].queue_seq
    task = await store.farm.ListTaskQueue(pb.ListTaskQueueRequest(task_id="a", limit=10))
    assert list(task.items) == [high.ready, low.ready]
    tasks = await store.farm.ListQueuedTasks(pb.ListQueuedTasksRequest(limit=1))
    assert list(tasks.task_ids) == ["a"]
    rest = await store.farm.ListQueuedTasks(pb.ListQueuedTasksRequest(after="a", limit=10))
    assert list(rest.task_ids) == ["b"]
    fenced = await store.farm.Fence(pb.FenceRequest(execution_ids=[other.execution_id, "x"]))
    assert (fenced.results[0].ready.epoch, fenced.results[1].HasField("ready")) == (1, False)
    raising: dict[str, Any] = {"from": 0}
    raised = await store.farm.RaiseGeneration(pb.RaiseGenerationRequest(**raising))
    again = await store.farm.RaiseGeneration(pb.RaiseGenerationRequest(**raising))
    assert (raised.generation, raised.raised, again.generation, again.raised) == (1, True, 1, False)
    assert (await store.farm.GetGeneration(pb.GetGenerationRequest())).generation == 1


async def test_an_agent_comes_back_and_is_told_what_to_do(store: Client) -> None:
    await store.hello()
    running = await store.enqueue()
    stopping = await store.enqueue()
    for accepted in (running, stopping):
        await store.run(accepted.execution_id, 1)
    await store.jobs.StopJob(job_pb.StopJobRequest(job_id=stopping.job_id))
    inventory = [
        records.Held(execution_id=running.execution_id, epoch=1, phase=records.Held.Phase.RUNNING),
        records.Held(execution_id=stopping.execution_id, epoch=1, phase=records.Held.Phase.RUNNING),
        records.Held(execution_id="stranger", epoch=4),
    ]
    opened = await store.hello(inventory=inventory)
    assert opened.session == 2
    kinds = records.Directive.Order
    told = {d.execution_id: d for d in opened.directives}
    assert {id_: d.kind for id_, d in told.items()} == {
        running.execution_id: kinds.ADOPT,
        stopping.execution_id: kinds.STOP,
        "stranger": kinds.KILL,
    }
    assert told[running.execution_id].assignment.spec.image == "echo:1"
    beat = pb.AgentBeat(agent_id="host-a", session=2, inventory=inventory[:2], healthy=True)
    answer = await store.beat.call(beat)
    assert (answer.fenced, [d.kind for d in answer.directives]) == (False, [kinds.STOP])
    assert (await store.beat.call(pb.AgentBeat(agent_id="host-a", session=1))).fenced
    await store.farm.ParkSession(pb.ParkSessionRequest(agent_id="host-a", session=2))
    agents = await store.farm.ListAgents(ListAgentsRequest())
    assert [(a.agent_id, a.state, a.running, a.session) for a in agents.items] == [("host-a", Agent.PARKED, 2, 2)]


async def test_a_name_that_is_bound_to_another_daemon(store: Client) -> None:
    await store.hello()
    request = pb.OpenSessionRequest(agent_id="host-a", daemon_id="another")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.farm.OpenSession(request)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_silent_agent_is_dead_and_its_executions_run_again(store: Client) -> None:
    await store.hello()
    accepted = await store.enqueue()
    await store.run(accepted.execution_id, 1)
    # Only now can it be lost.
    running = records.Held(execution_id=accepted.execution_id, epoch=1, phase=records.Held.Phase.RUNNING)
    await store.hello(lost_after=Duration(nanos=300_000_000), inventory=[running])

    async def lost() -> bool:
        job = await job_of(store, accepted.job_id)
        return [e.state for e in job.executions][:1] == [Execution.LOST]

    await eventually(lost)
    job = await job_of(store, accepted.job_id)
    assert job.executions[0].error.reason == Failure.HOST_LOST
    assert len(job.executions) == 2
    assert (await store.say(accepted.execution_id, 1, finish=records.Finish(outcome=EXITED))).verdict == STALE
    assert (await store.beat.call(pb.AgentBeat(agent_id="host-a", session=2))).fenced
    agents = await store.farm.ListAgents(ListAgentsRequest())
    assert [agent.state for agent in agents.items] == [Agent.DEAD]


async def test_a_give_back_is_ready_again(store: Client) -> None:
    await store.hello()
    accepted = await store.enqueue()
    claim = pb.AssignItem(execution_id=accepted.execution_id, agent_id="host-a", session=1)
    assert (await store.assign.call(claim)).HasField("assignment")
    result = await store.say(accepted.execution_id, 1, give_back=records.GiveBack())
    assert (result.verdict, result.released, result.ready.epoch) == (OK, True, 1)
    assert result.ready.queue_seq == accepted.ready.queue_seq
