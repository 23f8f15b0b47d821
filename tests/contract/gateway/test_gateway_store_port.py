"""The gateway's ports to the store, over real sockets: the fake server and the store itself keep the same promises."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.execution_service_pb2 import GetExecutionRequest, ListExecutionsRequest
from easyq.v1.farm_service_pb2 import SearchRequest
from easyq.v1.job_pb2 import Execution, Job, Trigger
from easyq.v1.job_service_pb2 import ListJobsRequest, StopJobResponse
from easyq.v1.log_service_pb2 import FollowLogsRequest, LogPosition, ReadLogsRequest
from easyq.v1.spec_pb2 import JobSpec, Pull, Resources
from easyq.v1.task_service_pb2 import GetTaskRequest, ListTasksRequest
from easyq_chassis import ids
from easyq_chassis.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from easyq_gateway import convert
from easyq_gateway.usecases.waits import waiting_executions
from easyq_internal.store.v1.job_store_pb2 import GetJobRequest, NewJob, PutJobRequest, RetryJobRequest, StopJobRequest
from tests.contract.gateway.conftest import Ports, new_job, refused, spec

# Merged into what was asked for.
SPELLED_OUT = JobSpec(priority=0, pull=Pull.MISSING, privileged=False, resources=Resources()).SerializeToString()


async def test_a_job_is_there_once_it_is_accepted(ports: Ports) -> None:
    new = new_job(envs={"A": "1"}, labels={"k": "v"}, key="k")
    accepted = await ports.jobs.submit(new)
    assert (accepted.job_id, accepted.execution_id) == (new.job_id, new.execution_id)
    assert not accepted.HasField("replayed_spec")
    assert (accepted.ready.execution_id, accepted.ready.task_id) == (new.execution_id, "mail")
    job = await ports.get(new.job_id, "mail")
    assert (job.task_id, job.state, job.revision, job.execution_count) == ("mail", Job.QUEUED, 1, 1)
    assert (job.spec, job.idempotency_key) == (new.spec, "k")
    assert not job.HasField("waiting")
    [execution] = job.executions
    assert (execution.execution_id, execution.attempt, execution.state) == (new.execution_id, 1, Execution.QUEUED)
    assert (execution.trigger, execution.image) == (Trigger.ENQUEUE, "busybox:1")
    assert (list(execution.command), dict(execution.envs)) == (["true"], {"A": "1"})
    assert execution.HasField("queued_at")
    assert not execution.HasField("started_at")


async def test_a_repeat_is_harmless(ports: Ports) -> None:
    for key in ("", "k"):
        new = new_job(key=key)
        first, again = await ports.jobs.submit(new), await ports.jobs.submit(new)
        assert (again.job_id, again.execution_id) == (first.job_id, first.execution_id)
    assert len((await ports.jobs.list_jobs(ListJobsRequest())).items) == 2


async def test_a_known_key_gives_the_first_job_and_its_spec(ports: Ports) -> None:
    first = new_job(key="k")
    await ports.jobs.submit(first)
    again = await ports.jobs.submit(new_job(key="k", image="busybox:2"))
    assert (again.job_id, again.execution_id) == (first.job_id, first.execution_id)
    assert again.replayed_spec == first.spec
    other = await ports.jobs.submit(new_job("other", key="k"))
    assert not other.HasField("replayed_spec")


async def test_many_at_once(ports: Ports) -> None:
    accepted = await asyncio.gather(*(ports.submit(f"t{i % 3}") for i in range(100)))
    assert len({one.job_id for one in accepted}) == 100
    counts = {count.state: count.count for count in await ports.jobs.count_jobs()}
    assert counts[Job.QUEUED] == 100


async def test_put(ports: Ports) -> None:
    made = await ports.jobs.put_job(PutJobRequest(job=new_job(job_id="nightly")))
    assert (made.created, made.job.revision, made.job.state) == (True, 1, Job.QUEUED)
    assert made.HasField("ready")
    same = await ports.jobs.put_job(PutJobRequest(job=new_job(job_id="nightly")))
    assert (same.created, same.job.revision) == (False, 1)
    changed = new_job(job_id="nightly", image="busybox:2")
    after = await ports.jobs.put_job(PutJobRequest(job=changed, revision=1))
    assert (after.created, after.job.revision, after.job.spec.image) == (False, 2, "busybox:2")
    stale = await refused(ports.jobs.put_job(PutJobRequest(job=new_job(job_id="nightly", image="b:3"), revision=1)))
    assert (type(stale), stale.reason) == (Aborted, "REVISION_MISMATCH")
    other = await refused(ports.jobs.put_job(PutJobRequest(job=new_job("other", job_id="nightly"))))
    assert (type(other), other.reason) == (FailedPrecondition, "JOB_EXISTS")


async def test_a_put_that_is_made_again_is_known_by_its_execution_id(ports: Ports) -> None:
    first = new_job(job_id="nightly")
    for _ in range(2):
        made = await ports.jobs.put_job(PutJobRequest(job=first))
        assert (made.created, made.job.revision) == (True, 1)
    second, third = (new_job(job_id="nightly", image=f"busybox:{number}") for number in (2, 3))
    for _ in range(2):
        assert (await ports.jobs.put_job(PutJobRequest(job=second, revision=1))).job.revision == 2
    await ports.jobs.put_job(PutJobRequest(job=third, revision=2))
    again = await ports.jobs.put_job(PutJobRequest(job=second, revision=1))
    assert (again.created, again.job.revision, again.job.spec.image) == (False, 3, "busybox:3")


async def test_what_was_asked_for_is_known_again(ports: Ports) -> None:
    first = new_job(key="k", asked=b"asked")
    made = await ports.jobs.submit(first)
    by_ids = await ports.jobs.find_submitted(first)
    assert (by_ids.job_id, by_ids.execution_id) == (first.job_id, first.execution_id)
    assert not by_ids.HasField("replayed_spec")
    repeat = NewJob(task_id="mail", idempotency_key="k")
    for answer in (await ports.jobs.submit(new_job(key="k")), await ports.jobs.find_submitted(repeat)):
        assert (answer.job_id, answer.execution_id) == (made.job_id, made.execution_id)
        assert (answer.replayed_spec, answer.replayed_asked) == (first.spec, b"asked")
    for unknown in (new_job(), new_job(key="other"), new_job("other", key="k")):
        assert isinstance(await refused(ports.jobs.find_submitted(unknown)), NotFound)


async def test_put_of_the_same_request(ports: Ports) -> None:
    asked, other = (convert.asked(JobSpec(image="busybox:1", command=["true"], user=user)) for user in ("", "x"))
    await ports.jobs.put_job(PutJobRequest(job=new_job(job_id="nightly", asked=asked)))
    other_defaults = new_job(job_id="nightly", asked=asked, retries=3)
    spelled_out = new_job(job_id="nightly", asked=convert.asked(JobSpec.FromString(asked + SPELLED_OUT)), retries=3)
    as_shown = new_job(job_id="nightly", asked=convert.asked(spec()), timeout=Duration(seconds=5))
    for request in (
        PutJobRequest(job=other_defaults),
        PutJobRequest(job=as_shown),
        PutJobRequest(job=other_defaults, only_same=True, revision=1),
        PutJobRequest(job=as_shown, only_same=True),
        PutJobRequest(job=spelled_out),
        PutJobRequest(job=spelled_out, only_same=True),
    ):
        same = await ports.jobs.put_job(request)
        assert (same.created, same.job.revision, same.job.spec.retries) == (False, 1, 0)
    for unlike in (
        new_job(job_id="nightly", asked=other, user="x"),
        new_job(asked=asked),
        new_job("t", job_id="nightly"),
    ):
        assert isinstance(await refused(ports.jobs.put_job(PutJobRequest(job=unlike, only_same=True))), NotFound)
    newer = new_job(job_id="nightly", asked=other, retries=3, user="x")
    changed = await ports.jobs.put_job(PutJobRequest(job=newer))
    assert (changed.job.revision, changed.job.spec.retries) == (2, 3)


async def test_what_was_asked_for_is_learnt_from_a_repeat(ports: Ports) -> None:
    asked = convert.asked(JobSpec(image="busybox:1", command=["true"]))
    made = await ports.jobs.submit(new_job(job_id="nightly", key="k"))
    await ports.jobs.submit(new_job(job_id="plain"))
    before = await ports.jobs.get_job(GetJobRequest(task_id="mail", job_id="nightly"))
    again = await ports.jobs.submit(new_job(key="k", asked=asked))
    assert (again.job_id, again.replayed_asked) == (made.job_id, asked)
    assert await ports.jobs.get_job(GetJobRequest(task_id="mail", job_id="nightly")) == before
    for job_id in ("nightly", "plain"):
        await ports.jobs.put_job(PutJobRequest(job=new_job(job_id=job_id, asked=asked)))
        same = await ports.jobs.put_job(PutJobRequest(job=new_job(job_id=job_id, asked=asked, retries=3)))
        assert (same.job.revision, same.job.spec.retries) == (1, 0)


async def test_pages_are_complete_and_newest_first(ports: Ports) -> None:
    made = []
    for _ in range(7):
        made.append((await ports.submit()).job_id)
        await asyncio.sleep(0.002)  # a job's place in the list is its millisecond
    seen: list[str] = []
    request = ListJobsRequest(page_size=3)
    while True:
        page = await ports.jobs.list_jobs(request)
        seen += [job.job_id for job in page.items]
        assert not any(job.executions for job in page.items)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == made[::-1]


async def test_a_token_is_bound_to_its_filters_but_not_to_the_size(ports: Ports) -> None:
    for _ in range(4):
        await ports.submit()
    token = (await ports.jobs.list_jobs(ListJobsRequest(page_size=1))).next_page_token
    assert len((await ports.jobs.list_jobs(ListJobsRequest(page_size=2, page_token=token))).items) == 2
    for request in (ListJobsRequest(page_token="nonsense"), ListJobsRequest(task_id="x", page_token=token)):
        error = await refused(ports.jobs.list_jobs(request))
        assert isinstance(error, InvalidArgument)
        assert [field.field for field in error.fields] == ["pageToken"]


async def test_filters(ports: Ports) -> None:
    one = await ports.submit("a")
    two = await ports.submit("b", labels={"k": "v", "l": "w"})
    await ports.jobs.stop_job(StopJobRequest(job_id=one.job_id))

    async def found(**where: Any) -> list[str]:
        return [job.job_id for job in (await ports.jobs.list_jobs(ListJobsRequest(**where))).items]

    assert await found(task_id="a") == [one.job_id]
    assert await found(state=[Job.STOPPED]) == [one.job_id]
    assert await found(label=["k=v", "l=w"]) == [two.job_id]
    assert await found(label=["k=v", "l=x"]) == []
    listed = await ports.jobs.list_executions(ListExecutionsRequest(job_id=two.job_id, state=[Execution.QUEUED]))
    assert [execution.execution_id for execution in listed.items] == [two.execution_id]


async def test_tasks(ports: Ports) -> None:
    for task in ("b", "a", "b"):
        await ports.submit(task)
    assert [task.task_id for task in (await ports.jobs.list_tasks(ListTasksRequest())).items] == ["a", "b"]
    assert (await ports.jobs.get_task(GetTaskRequest(task_id="b"))).job_count == 2


async def test_search(ports: Ports) -> None:
    accepted = await ports.submit("mailing", image="busybox:77")
    for query, kind in (
        ("mailing", "task"),
        ("mail", "task"),
        (accepted.job_id, "job"),
        (accepted.execution_id, "execution"),
    ):
        hits = (await ports.jobs.search(SearchRequest(query=query))).items
        assert kind in {hit.kind for hit in hits}, query
        assert all(hit.task_id == "mailing" for hit in hits)
    assert list((await ports.jobs.search(SearchRequest(query="nothing"))).items) == []


async def test_what_is_not_there(ports: Ports) -> None:
    accepted = await ports.submit("a")
    missing = ids.new_execution_id()
    for call, reason in (
        (ports.get("nope"), "JOB_NOT_FOUND"),
        (ports.get(accepted.job_id, "other"), "JOB_NOT_FOUND"),
        (ports.jobs.get_execution(GetExecutionRequest(execution_id=missing)), "EXECUTION_NOT_FOUND"),
        (
            ports.jobs.get_execution(GetExecutionRequest(job_id="nope", execution_id=accepted.execution_id)),
            "EXECUTION_NOT_FOUND",
        ),
        (ports.jobs.get_task(GetTaskRequest(task_id="nope")), "TASK_NOT_FOUND"),
        (ports.jobs.stop_job(StopJobRequest(job_id="nope")), "JOB_NOT_FOUND"),
        (ports.jobs.retry_job(RetryJobRequest(job_id="nope", execution_id=missing)), "JOB_NOT_FOUND"),
    ):
        error = await refused(call)
        assert (type(error), error.reason) == (NotFound, reason)
        assert "nope" not in error.message


async def test_stop_then_retry(ports: Ports) -> None:
    accepted = await ports.submit()
    again = RetryJobRequest(job_id=accepted.job_id, execution_id=ids.new_execution_id())
    early = await refused(ports.jobs.retry_job(again))
    assert (type(early), early.reason) == (FailedPrecondition, "ILLEGAL_STATE")
    for _ in range(2):
        stopped = await ports.jobs.stop_job(StopJobRequest(job_id=accepted.job_id))
        assert (stopped.outcome, stopped.job.state, list(stopped.hints)) == (StopJobResponse.STOPPED, Job.STOPPED, [])
        assert stopped.job.HasField("stop_requested_at")
    for _ in range(2):
        retried = await ports.jobs.retry_job(again)
        assert (retried.task_id, retried.job_id, retried.execution_id) == ("mail", accepted.job_id, again.execution_id)
    job = await ports.get(accepted.job_id)
    assert [execution.attempt for execution in job.executions] == [1, 2]
    assert (job.executions[1].trigger, job.state) == (Trigger.MANUAL, Job.QUEUED)


async def test_logs_of_what_never_ran(ports: Ports) -> None:
    accepted = await ports.submit()

    async def follow(**of: Any) -> list[Any]:
        return [event async for event in ports.logs.read_logs(ReadLogsRequest(follow=True, **of))]

    following = [
        asyncio.create_task(follow(execution_id=accepted.execution_id)),
        asyncio.create_task(follow(job_id=accepted.job_id)),
    ]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in following)
    await ports.jobs.stop_job(StopJobRequest(job_id=accepted.job_id))
    for task in following:
        [event] = await asyncio.wait_for(task, 10)
        assert (event.end.execution_id, event.end.state) == (accepted.execution_id, "STOPPED")
        assert event.end.job_ended
    for of in ({"execution_id": ids.new_execution_id()}, {"job_id": "nope"}):
        with pytest.raises(NotFound):
            await follow(**of)


async def test_following_what_never_ran(ports: Ports) -> None:
    accepted = await ports.submit()

    async def follow(**of: Any) -> list[Any]:
        return [event async for event in ports.logs.follow_logs(FollowLogsRequest(**of))]

    following = [
        asyncio.create_task(follow(execution_id=accepted.execution_id)),
        asyncio.create_task(follow(job_id=accepted.job_id)),
        asyncio.create_task(follow(job_id=accepted.job_id, tail=10)),
        asyncio.create_task(follow(job_id=accepted.job_id, position=LogPosition(execution_id=accepted.execution_id))),
    ]
    [begun] = await follow(job_id=accepted.job_id, stored_only=True)
    assert (begun.attempt.execution_id, begun.attempt.attempt) == (accepted.execution_id, 1)
    assert not any(task.done() for task in following)
    await ports.jobs.stop_job(StopJobRequest(job_id=accepted.job_id))
    for task in following:
        begun, ended = await asyncio.wait_for(task, 30)
        assert begun.attempt.execution_id == ended.end.execution_id == accepted.execution_id
        assert (ended.end.state, ended.end.job_ended, ended.end.attempt) == ("STOPPED", True, 1)
    for of in ({"execution_id": ids.new_execution_id()}, {"job_id": "nope"}):
        with pytest.raises(NotFound):
            await follow(**of)


async def test_a_follower_that_saw_an_end_goes_on_with_the_next_attempt(ports: Ports) -> None:
    accepted = await ports.submit()
    await ports.jobs.stop_job(StopJobRequest(job_id=accepted.job_id))
    again = RetryJobRequest(job_id=accepted.job_id, execution_id=ids.new_execution_id())
    await ports.jobs.retry_job(again)
    await ports.jobs.stop_job(StopJobRequest(job_id=accepted.job_id))
    position = LogPosition(execution_id=accepted.execution_id, ended=True)
    for of in (FollowLogsRequest(position=position), FollowLogsRequest(tail=1)):
        of.job_id = accepted.job_id
        events = [event async for event in ports.logs.follow_logs(of)]
        assert [event.WhichOneof("event") for event in events] == ["attempt", "end"]
        assert (events[0].attempt.execution_id, events[0].attempt.attempt) == (again.execution_id, 2)


async def test_no_agent_was_ever_there(ports: Ports) -> None:
    assert list(await ports.jobs.list_agents()) == []


async def test_what_the_jobs_of_a_list_wait_with(ports: Ports) -> None:
    made = {accepted.job_id: accepted.execution_id for accepted in [await ports.submit(f"t{i % 2}") for i in range(5)]}
    stopped = await ports.submit()
    await ports.jobs.stop_job(StopJobRequest(job_id=stopped.job_id))
    jobs = (await ports.jobs.list_jobs(ListJobsRequest())).items
    found = await waiting_executions(ports.jobs, jobs)
    assert {job_id: execution.execution_id for job_id, execution in found.items()} == made
