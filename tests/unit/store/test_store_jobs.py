"""Submit, put, retry, stop."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.spec_pb2 import Backoff
from easyq_chassis.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from easyq_store.domain.states import ExecutionState, JobState, Trigger
from easyq_store.usecases import retry, stop, submit
from tests.support.store_records import T0
from tests.support.store_world import World, exited

SOON: dict[str, Any] = {"start_in": Duration(seconds=60)}


async def test_a_job_for_now_is_queued_at_once(world: World) -> None:
    execution_id = await world.submit(labels={"a": "1"}, priority=3)
    job, made = world.job(), world.execution(execution_id)
    assert world.states() == "QUEUED QUEUED"
    assert (job.labels, job.image, job.created_at, job.next_run_at) == (("a=1",), "echo:1", T0, T0)
    assert (made.priority, made.queue_seq > 0, made.due_at, made.trigger) == (3, True, T0, Trigger.ENQUEUE)
    assert (job.pending, job.unsettled_since, made.unsettled_since) == ((), None, None)


async def test_a_job_for_later_is_scheduled(world: World) -> None:
    execution_id = await world.submit(**SOON, start_deadline=Duration(seconds=5))
    made = world.execution(execution_id)
    assert world.states() == "SCHEDULED SCHEDULED"
    assert (made.due_at, made.latest_start, made.queue_seq) == (T0 + 60_000, T0 + 65_000, 0)
    assert world.job().next_run_at == T0 + 60_000


async def test_the_answer_has_the_head_if_it_is_ready(world: World) -> None:
    now, later = await submit.submit(world.ctx, [world.new("now"), world.new("later", **SOON)])
    assert isinstance(now, submit.Accepted)
    assert isinstance(later, submit.Accepted)
    assert now.ready is not None
    assert (now.ready.execution_id, now.ready.epoch) == (now.execution_id, 0)
    assert later.ready is None


async def test_submitting_the_same_ids_again_is_harmless(world: World) -> None:
    first = await submit.submit(world.ctx, [world.new(key="k")])
    again = await submit.submit(world.ctx, [world.new(key="k"), world.new(key="k")])
    assert again == first * 2
    assert len(world.attempts()) == 1
    assert await submit.submit(world.ctx, [world.new("other")]) != first


async def test_a_taken_id_is_refused_and_the_others_are_not(world: World) -> None:
    await world.submit()
    results = await submit.submit(
        world.ctx, [world.new("a"), world.new(execution_id="another"), world.new(task="other"), world.new("b")]
    )
    kinds = [type(result) for result in results]
    assert kinds == [submit.Accepted, AlreadyExists, AlreadyExists, submit.Accepted]


async def test_a_known_idempotency_key_gets_the_first_answer(world: World) -> None:
    first = await world.submit("one", key="k", command=["a"])
    await world.put("one", command=["changed"])
    (result,) = await submit.submit(world.ctx, [world.new("two", key="k", command=["b"])])
    assert isinstance(result, submit.Accepted)
    assert (result.job_id, result.execution_id) == ("one", first)
    assert result.replayed_spec == world.new(command=["a"]).spec
    assert "two" not in world.store.tables.jobs
    assert await world.submit("three", key="k", task="other") != first


async def test_what_was_asked_for_with_a_key_outlives_newer_specs(world: World) -> None:
    await world.submit("one", key="k", asked=b"first")
    await world.put("one", asked=b"second", command=["changed"])
    assert world.job("one").asked == b"second"
    (result,) = await submit.submit(world.ctx, [world.new("two", key="k", asked=b"first")])
    assert isinstance(result, submit.Accepted)
    assert (result.job_id, result.replayed_asked) == ("one", b"first")
    await world.submit("old", key="old")
    (result,) = await submit.submit(world.ctx, [world.new("newer", key="old", asked=b"first")])
    assert isinstance(result, submit.Accepted)
    assert (result.job_id, result.replayed_asked) == ("old", None)


@pytest.mark.parametrize("spec", [{}, {"cron": "@hourly"}], ids=["plain", "recurring"])
async def test_what_was_submitted_is_found_and_nothing_is_made(world: World, spec: dict[str, Any]) -> None:
    first = await world.submit("one", key="k", asked=b"first", **spec)
    before = world.store.tables.copy()
    by_ids = await submit.find_submitted(world.ctx, world.new("one"))
    assert (by_ids.job_id, by_ids.execution_id, by_ids.replayed_spec) == ("one", first, None)
    by_key = await submit.find_submitted(world.ctx, world.new("", key="k"))
    assert (by_key.job_id, by_key.execution_id, by_key.replayed_asked) == ("one", first, b"first")
    assert by_key.replayed_spec == world.new(**spec).spec
    # Its id is somebody's, and its key is that of another job.
    await world.submit("two")
    assert (await submit.find_submitted(world.ctx, world.new("two", execution_id="x", key="k"))).job_id == "one"
    before = world.store.tables.copy()
    for unknown in (
        world.new("three"),
        world.new("three", key="other"),
        world.new("three", key="k", task="other"),
        world.new("one", execution_id="x"),
        world.new("one", task="other"),
    ):
        with pytest.raises(NotFound):
            await submit.find_submitted(world.ctx, unknown)
    assert world.store.tables == before


async def test_put_creates(world: World) -> None:
    made = await world.put()
    assert made.created
    assert made.ready is not None
    assert world.states() == "QUEUED QUEUED"
    assert (world.job().pending, world.job().unsettled_since) == ((), None)


async def test_put_of_the_same_spec_changes_nothing(world: World) -> None:
    await world.put()
    before = world.store.tables.copy()
    again = await world.put(execution_id="unused")
    assert not again.created
    assert world.store.tables == before


async def test_put_of_what_was_asked_for_before_changes_nothing_whatever_it_comes_to_now(world: World) -> None:
    await world.hello()
    await world.put(asked=b"asked", retries=1)
    await world.run(world.attempts()[0].execution_id)
    await world.say(world.attempts()[0].execution_id, exited(0))
    before = world.store.tables.copy()
    shown = world.job().spec
    for asked, only_same in ((b"asked", False), (b"asked", True), (shown, False), (shown, True)):
        again = await world.put(asked=asked, retries=2, execution_id="unused", only_same=only_same)
        assert (again.created, again.ready) == (False, None)
        assert world.store.tables == before
    with pytest.raises(Aborted):
        await world.put(asked=b"asked", retries=2, revision=5)
    await world.put(asked=b"other", retries=2, execution_id="second")
    assert world.job().revision == 2
    assert world.states() == "QUEUED SUCCEEDED QUEUED"


async def test_put_of_only_the_same_changes_nothing(world: World) -> None:
    with pytest.raises(NotFound):
        await world.put(asked=b"asked", only_same=True)
    await world.put(asked=b"asked")
    await world.put("old")
    before = world.store.tables.copy()
    for job_id, asked in (("job", b"other"), ("job", b""), ("old", b""), ("old", b"asked")):
        with pytest.raises(NotFound):
            await world.put(job_id, asked=asked, only_same=True)
    with pytest.raises(NotFound):
        await world.put(asked=b"asked", task="other", only_same=True)
    with pytest.raises(Aborted):
        await world.put(asked=b"asked", revision=2, only_same=True)
    assert world.store.tables == before


async def test_put_reaches_what_waits(world: World) -> None:
    execution_id = await world.submit(priority=1)
    await world.put(priority=2, image="echo:2", labels={"a": "1"}, **SOON)
    job, made = world.job(), world.execution(execution_id)
    assert (job.revision, job.image, job.labels) == (2, "echo:2", ("a=1",))
    assert (made.spec_revision, made.priority, made.due_at, made.epoch) == (2, 2, T0 + 60_000, 1)
    assert world.states() == "SCHEDULED SCHEDULED"
    back = await world.put(priority=5)
    assert back.ready is not None
    assert (back.ready.execution_id, back.ready.priority) == (execution_id, 5)
    assert world.states() == "QUEUED QUEUED"
    assert await world.ctx.store.reads.get_spec("job", 1) == world.new(priority=1).spec


async def test_put_leaves_a_running_one_its_own_spec(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(command=["old"])
    await world.run(execution_id)
    assert (await world.put(command=["new"])).ready is None
    assert world.execution(execution_id).spec_revision == 1
    assert world.states() == "RUNNING RUNNING"


async def test_a_retry_runs_the_newer_spec(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(command=["old"], retries=1)
    await world.run(execution_id)
    await world.put(command=["new"], retries=1, priority=4)
    await world.say(execution_id, exited(1))
    second = world.attempts()[1]
    assert (second.spec_revision, second.priority) == (2, 4)


async def test_put_makes_an_ended_job_run_again(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await world.say(execution_id, exited(0))
    await stop_is_refused(world)
    again = await world.put(command=["again"], execution_id="second")
    assert not again.created
    assert again.ready is not None
    assert again.ready.execution_id == "second"
    assert world.states() == "QUEUED SUCCEEDED QUEUED"
    second = world.execution("second")
    assert (second.attempt, second.fence, second.trigger, second.spec_revision) == (2, 2, Trigger.ENQUEUE, 2)


async def stop_is_refused(world: World) -> None:
    with pytest.raises(FailedPrecondition, match="ended already: SUCCEEDED"):
        await stop.stop_job(world.ctx, "mail", "job")


async def test_put_revives_a_stopped_job(world: World) -> None:
    await world.submit()
    await stop.stop_job(world.ctx, "", "job")
    await world.put(command=["again"], execution_id="second")
    assert world.states() == "QUEUED STOPPED QUEUED"
    assert world.job().stop_requested_at is None


async def test_put_refuses_what_is_not_its_own(world: World) -> None:
    await world.put()
    with pytest.raises(FailedPrecondition) as other_task:
        await world.put(task="other", command=["x"])
    assert other_task.value.reason == "JOB_EXISTS"
    with pytest.raises(Aborted) as other_revision:
        await world.put(revision=2, command=["x"])
    assert other_revision.value.reason == "REVISION_MISMATCH"
    with pytest.raises(Aborted) as absent:
        await world.put("unknown", revision=1)
    assert absent.value.reason == "REVISION_MISMATCH"
    await world.put(revision=1, command=["x"])
    assert world.job().revision == 2


async def test_put_is_refused_while_it_is_stopping(world: World) -> None:
    await world.hello()
    await world.run(await world.submit())
    await stop.stop_job(world.ctx, "", "job")
    with pytest.raises(FailedPrecondition, match="stopping"):
        await world.put(command=["x"])


async def test_retrying_an_ended_job(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=1, backoff=Backoff(min=Duration()))
    await world.run(execution_id)
    await world.say(execution_id, exited(1))
    second = world.attempts()[1].execution_id
    await world.run(second)
    await world.say(second, exited(1))
    assert world.states() == "FAILED FAILED FAILED"
    first = await retry.retry_job(world.ctx, "mail", "job", "third")
    again = await retry.retry_job(world.ctx, "", "job", "third")
    assert first.ready is not None
    assert first.ready == again.ready
    third = world.execution("third")
    assert (third.attempt, third.trigger, third.retries_used) == (3, Trigger.MANUAL, 0)
    assert world.states() == "QUEUED FAILED FAILED QUEUED"
    assert world.job().attempts == 3


async def test_only_an_ended_job_can_be_retried(world: World) -> None:
    await world.submit()
    with pytest.raises(FailedPrecondition, match="is QUEUED"):
        await retry.retry_job(world.ctx, "", "job", "second")
    with pytest.raises(NotFound):
        await retry.retry_job(world.ctx, "", "nobody", "second")
    with pytest.raises(NotFound):
        await retry.retry_job(world.ctx, "other", "job", "second")
    assert len(world.attempts()) == 1


async def test_a_job_past_its_expiration_is_not_retried(world: World) -> None:
    await world.submit(expiration=Timestamp(seconds=T0 // 1000 + 60))
    await stop.stop_job(world.ctx, "", "job")
    world.machine.pass_(61)
    with pytest.raises(FailedPrecondition, match="expiration"):
        await retry.retry_job(world.ctx, "", "job", "second")


@pytest.mark.parametrize("fields", [{}, SOON], ids=["queued", "scheduled"])
async def test_stopping_what_waits_is_final(world: World, fields: dict[str, Any]) -> None:
    execution_id = await world.submit(**fields)
    stopped = await stop.stop_job(world.ctx, "mail", "job", execution_id)
    assert stopped.held == ()
    assert world.states() == "STOPPED STOPPED"
    assert world.job().unsettled_since is None
    again = await stop.stop_job(world.ctx, "mail", "job")
    assert (again.held, again.job.state) == ((), JobState.STOPPED)


async def test_stopping_what_is_held_takes_until_its_end(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=5)
    epoch = await world.run(execution_id)
    for _ in range(2):
        stopped = await stop.stop_job(world.ctx, "mail", "job")
        assert [(e.execution_id, e.epoch, e.agent_id) for e in stopped.held] == [(execution_id, epoch, "host-a")]
    assert await world.beat("host-a", (execution_id, epoch)) == [("STOP", execution_id, epoch)]
    await world.say(execution_id, exited(143))
    assert world.states() == "STOPPED FAILED"


async def test_a_stop_between_attempts(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=5)
    await world.run(execution_id)
    await world.say(execution_id, exited(1))
    assert world.states() == "RETRYING FAILED SCHEDULED"
    await stop.stop_job(world.ctx, "", "job")
    assert world.states() == "STOPPED FAILED STOPPED"


async def test_a_program_that_succeeds_while_it_is_being_stopped_has_succeeded(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await stop.stop_job(world.ctx, "", "job")
    await world.say(execution_id, exited(0))
    assert world.states() == "SUCCEEDED SUCCEEDED"


async def test_stopping_needs_the_right_names(world: World) -> None:
    execution_id = await world.submit()
    other = await world.submit("other")
    with pytest.raises(NotFound) as no_job:
        await stop.stop_job(world.ctx, "wrong", "job")
    assert no_job.value.reason == "JOB_NOT_FOUND"
    with pytest.raises(NotFound) as no_execution:
        await stop.stop_job(world.ctx, "", "job", other)
    assert no_execution.value.reason == "EXECUTION_NOT_FOUND"
    assert world.execution(execution_id).state is ExecutionState.QUEUED
