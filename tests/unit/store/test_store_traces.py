"""Where executions stand in traces, over their whole lives."""

from dataclasses import replace
from typing import Any

import pytest

from easyq.v1.spec_pb2 import Backoff, Overlap
from easyq_chassis.tracing.context import NO_SPAN, TraceContext, derived_trace, parse
from easyq_chassis.tracing.tracer import Tracer
from easyq_store.convert import farm
from easyq_store.domain.changes import Note
from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState, FailureReason, Outcome
from easyq_store.domain.tracing import begun_by, of_fire, passed_on, recorded, spot
from easyq_store.usecases import assign, retry, submit, trigger
from easyq_store.usecases.traces import TracedStore
from tests.fakes.spans import Sink, ids
from tests.support.store_records import T0, execution
from tests.support.store_world import World, ended, exited

CALLER = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True, state="a=1")
OTHER = TraceContext(trace_id="3" * 32, span_id="4" * 16, sampled=True)
MS = 1_000_000
AGAIN = "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def traced(world: World, sink: Sink) -> World:
    """A store that writes spans."""
    world.ctx = replace(world.ctx, traces=TracedStore(Tracer("store", sink=sink), lambda: world.machine.wall * MS))
    return world


def tell(world: World, *notes: Note) -> None:
    """These changes are durable."""
    traces = world.ctx.traces
    assert isinstance(traces, TracedStore)
    traces.take(notes)


async def end(world: World, execution_id: str, said: object = None) -> Execution:
    await world.run(execution_id)
    await world.say(execution_id, said or exited(0))  # type: ignore[arg-type]
    return world.execution(execution_id)


# Where they stand ---------------------------------------------------------------------------------------------------
def test_below_the_request() -> None:
    one, other = execution("job-1-1", trace=CALLER.text), execution("job-1-2", trace=CALLER.text)
    found, further = spot(one), spot(other)
    assert found is not None
    assert further is not None
    assert (found.parent, found.link) == (CALLER, None)
    assert found.context == CALLER.at(found.context.span_id)
    assert found.context.span_id not in {CALLER.span_id, further.context.span_id}


@pytest.mark.parametrize("text", ["", "nonsense", replace(CALLER, sampled=False).text])
def test_nowhere(text: str) -> None:
    one = execution(trace=text)
    assert spot(one) is None
    assert passed_on(one) == text


def test_a_fire_begins_a_trace() -> None:
    text = of_fire("some-execution", CALLER.text)
    made = execution("some-execution", trace=text)
    # It was not decided that it is recorded.
    assert spot(made) is None
    first = recorded(made)
    retried = execution("its-successor", trace=first.trace)
    assert [begun_by(one) for one in (first, retried)] == [derived_trace("some-execution"), ""]
    found, further = spot(first), spot(retried)
    assert found is not None
    assert further is not None
    assert (found.parent, found.link) == (None, replace(CALLER, state=""))
    assert found.context.trace_id == further.context.trace_id != CALLER.trace_id
    assert found.context.span_id != further.context.span_id
    assert found.context.sampled
    assert passed_on(first) == passed_on(made) == CALLER.traceparent


def test_a_fire_of_a_job_that_nobody_traced() -> None:
    made = execution("some-execution", trace=of_fire("some-execution", ""))
    found = spot(recorded(made))
    assert found is not None
    assert (found.parent, found.link) == (None, None)
    for one in (made, recorded(made)):
        assert passed_on(one) == ""
        assert parse(one.trace) is None
        assert NO_SPAN in one.trace


def test_who_begins_no_trace() -> None:
    for text in ("", "nonsense", CALLER.text, of_fire("another", CALLER.text)):
        assert begun_by(execution("some-execution", trace=text)) == ""


# Who hands it on ----------------------------------------------------------------------------------------------------
async def test_attempts_share_it(world: World) -> None:
    await world.hello()
    await world.submit(trace=CALLER.text, retries=1, backoff=Backoff())
    await end(world, world.attempts()[0].execution_id, exited(1))
    assert [one.trace for one in world.attempts()] == [CALLER.text] * 2
    # So does one that is asked for by hand.
    await world.submit("other", trace=CALLER.text)
    await end(world, world.attempts("other")[0].execution_id, exited(1))
    await retry.retry_job(world.ctx, "mail", "other", AGAIN)
    assert [one.trace for one in world.attempts("other")] == [CALLER.text] * 2
    assert world.job().trace == CALLER.text


async def test_a_newer_spec_is_of_its_own_request(world: World) -> None:
    await world.hello()
    await world.put(trace=CALLER.text)
    await end(world, world.attempts()[0].execution_id)
    # Nothing is changed by the same spec.
    await world.put(trace=OTHER.text)
    assert world.job().trace == CALLER.text
    await world.put(image="echo:2", trace=OTHER.text, execution_id=AGAIN)
    assert [one.trace for one in world.attempts()] == [CALLER.text, OTHER.text]
    assert world.job().trace == OTHER.text


async def test_fires_and_runs_by_hand_have_their_own(world: World) -> None:
    await world.hello()
    await world.submit(trace=CALLER.text, cron="* * * * *", overlap=Overlap.ALLOW, retries=1, backoff=Backoff())
    await world.fire(60, 120)
    first, second = world.attempts()
    await end(world, first.execution_id, exited(1))
    await trigger.trigger_job(world.ctx, "mail", "job", AGAIN)
    by_id = {one.execution_id: one.trace for one in world.attempts()}
    assert by_id[AGAIN] == of_fire(AGAIN, CALLER.text)
    assert by_id[first.execution_id] == of_fire(first.execution_id, CALLER.text)
    assert by_id[second.execution_id] == of_fire(second.execution_id, CALLER.text)
    [again] = [id_ for id_ in by_id if id_ not in {AGAIN, first.execution_id, second.execution_id}]
    assert by_id[again] == by_id[first.execution_id]


async def test_of_the_fires_of_a_second_no_more_are_recorded_than_may_be(world: World, sink: Sink) -> None:
    """Whole, or not at all: further attempts are what their first is."""
    world.ctx = replace(world.ctx, traces=TracedStore(Tracer("store", sink=sink, rate=0.4), lambda: 0))
    await world.hello()
    await world.submit(cron="* * * * *", overlap=Overlap.ALLOW, retries=1, backoff=Backoff())
    await world.fire(60, 120, 180)
    fires = world.attempts()
    for one in fires:
        await end(world, one.execution_id, exited(1))
    # Five seconds' worth, each with its further attempt.
    places = [spot(one) for one in world.attempts()]
    assert len(places) == 6
    found = [place.context.trace_id for place in places if place is not None]
    assert len(found) == 4
    assert set(found) <= {derived_trace(one.execution_id) for one in fires}


async def test_what_the_agent_is_told(traced: World) -> None:
    await traced.hello()
    for job_id, trace in (("sampled", CALLER.text), ("not", replace(CALLER, sampled=False).text), ("none", "")):
        execution_id = await traced.submit(job_id, trace=trace)
        assigned = await traced.assign(execution_id)
        assert isinstance(assigned, assign.Assignment)
        told = farm.assignment(assigned).trace
        found = spot(traced.execution(execution_id))
        assert told == (found.context.text if found is not None else trace)
    # So it is by a hello.
    [order] = [one for one in await traced.hello() if one[1] == traced.attempts("sampled")[0].execution_id]
    assert order[0] == "RUN"


async def test_without_a_tracer_the_callers_context_goes_on(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(trace=CALLER.text)
    assigned = await world.assign(execution_id)
    assert isinstance(assigned, assign.Assignment)
    assert assigned.trace == CALLER.text


# Spans --------------------------------------------------------------------------------------------------------------
async def test_submit(traced: World, sink: Sink) -> None:
    new = [traced.new("a", trace=CALLER.text), traced.new("b"), traced.new("a", task="other", trace=OTHER.text)]
    await submit.submit(traced.ctx, new)
    good, bad = sink.spans
    assert [span.name for span in (good, bad)] == ["submit"] * 2
    assert ids(good)[::2] == (CALLER.trace_id, CALLER.span_id)
    assert dict(good.attributes or {}) == {"easyq.task": "mail", "easyq.job": "a", "easyq.batch_size": 3}
    assert good.status.is_ok
    assert ids(bad)[::2] == (OTHER.trace_id, OTHER.span_id)
    assert (bad.attributes or {})["error.type"] == "AlreadyExists"
    assert not bad.status.is_ok


def moved(before: Execution, **fields: Any) -> tuple[Execution, Execution]:
    return before, replace(before, **fields)


async def test_waits_and_the_whole(traced: World, sink: Sink) -> None:
    planned = execution(
        state=ExecutionState.SCHEDULED, queued_at=None, due_at=T0 + 5, trace=CALLER.text, image="echo:1"
    )
    queued = moved(planned, state=ExecutionState.QUEUED, queued_at=T0 + 10)
    assigned = moved(
        queued[1], state=ExecutionState.ASSIGNED, assigned_at=T0 + 30, agent_id="host", pool="gpu", epoch=1
    )
    running = moved(assigned[1], state=ExecutionState.RUNNING, started_at=T0 + 40)
    finished = moved(running[1], state=ExecutionState.SUCCEEDED, finished_at=T0 + 90, exit_code=0)
    tell(traced, (None, planned), queued, assigned)
    tell(traced, running, finished, (finished[1], replace(finished[1], logs_complete=True)), (finished[1], None))
    assert sink.names() == ["schedule", "queue", "execution"]
    times = [((span.start_time or 0) // MS - T0, (span.end_time or 0) // MS - T0) for span in sink.spans]
    assert times == [(0, 10), (10, 30), (0, 90)]
    own = spot(planned)
    assert own is not None
    assert ids(sink.one("execution")) == (CALLER.trace_id, own.context.span_id, CALLER.span_id)
    for name in ("schedule", "queue"):
        assert ids(sink.one(name))[::2] == (CALLER.trace_id, own.context.span_id)
    assert (sink.one("queue").attributes or {})["easyq.pool"] == "gpu"
    assert dict(sink.one("execution").attributes or {}) == {
        "easyq.task": "mail",
        "easyq.job": "job-1",
        "easyq.execution": "job-1-1",
        "easyq.attempt": 1,
        "easyq.trigger": "enqueue",
        "easyq.state": "SUCCEEDED",
        "easyq.agent": "host",
        "easyq.pool": "gpu",
        "easyq.epoch": 1,
        "container.image.name": "echo:1",
        "process.exit.code": 0,
    }
    assert sink.one("execution").status.is_ok


async def test_how_it_failed(traced: World, sink: Sink) -> None:
    await traced.hello()
    lost = await traced.submit(trace=CALLER.text)
    await traced.run(lost)
    before = traced.execution(lost)
    await traced.say(lost, ended(Outcome.TIMED_OUT))
    tell(traced, (before, traced.execution(lost)))
    span = sink.one("execution")
    assert not span.status.is_ok
    assert (span.attributes or {})["error.type"] == "timeout"
    failure = traced.execution(lost).failure
    assert failure is None or failure.reason is FailureReason.TIMEOUT


async def test_one_that_nobody_ran(traced: World, sink: Sink) -> None:
    execution_id = await traced.submit(trace=CALLER.text, expiration=None)
    waiting = traced.execution(execution_id)
    tell(traced, moved(waiting, state=ExecutionState.EXPIRED, finished_at=T0 + 7))
    span = sink.one("execution")
    assert "easyq.agent" not in (span.attributes or {})
    assert (span.attributes or {})["error.type"] == "expired"


def test_of_nobodys_trace_there_is_nothing(sink: Sink) -> None:
    traces = TracedStore(Tracer("store", sink=sink), lambda: 0)
    for text in ("", replace(CALLER, sampled=False).text):
        traces.take([moved(execution(trace=text), state=ExecutionState.ASSIGNED, assigned_at=T0)])
    assert sink.spans == []


def test_a_clock_that_is_ahead_of_the_wall(sink: Sink) -> None:
    """The wall clock was set back by 40 ms since: other services' spans are by that."""
    traces = TracedStore(Tracer("store", sink=sink), lambda: 0, ahead_ms=lambda: 40)
    queued = execution(trace=CALLER.text, queued_at=T0)
    traces.take([moved(queued, state=ExecutionState.ASSIGNED, assigned_at=T0 + 30)])
    traces.take([moved(queued, state=ExecutionState.EXPIRED, finished_at=T0 + 50)])
    times = [((span.start_time or 0) // MS - T0, (span.end_time or 0) // MS - T0) for span in sink.spans]
    assert times == [(-40, -10), (-40, 10)]
