"""Spans of an agent, and what its containers are told."""

import time
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from easyq.v1.spec_pb2 import Pull
from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.tracer import OFF, Tracer
from easyq_runner.domain.labels import labels_of, terms_of
from easyq_runner.domain.records import ExecutionKey, Terms
from easyq_runner.errors import PullFailed
from easyq_runner.usecases.traces import Traces
from tests.fakes.runner_rig import Rig
from tests.fakes.spans import Sink, ids

EXECUTION = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True, state="a=1")
UNSAMPLED = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=False)


@pytest.fixture
def sink(rig: Rig) -> Sink:
    sink = Sink()
    rig.tracer = Tracer("runner", sink=sink)
    return sink


def terms(trace: str) -> Terms:
    return Terms(key=ExecutionKey("id", 3), task_id="t", job_id="j", attempt=1, fence=1, log_limit=1, trace=trace)


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_what_a_container_is_told() -> None:
    traces = Traces(Tracer("runner", sink=Sink()))
    told = traces.environment(terms(EXECUTION.text))
    assert told.keys() == {"TRACEPARENT", "TRACESTATE"}
    version, trace, span, flags = told["TRACEPARENT"].split("-")
    assert (version, trace, flags, told["TRACESTATE"]) == ("00", EXECUTION.trace_id, "01", "a=1")
    assert span != EXECUTION.span_id
    # It follows from the execution and its epoch, so that an agent that comes back knows it.
    assert traces.environment(terms(EXECUTION.text)) == told
    assert traces.environment(terms(UNSAMPLED.text)) == {"TRACEPARENT": UNSAMPLED.traceparent}
    assert traces.environment(terms("")) == {}
    without = Traces().environment(terms(EXECUTION.text))
    assert without == {"TRACEPARENT": EXECUTION.traceparent, "TRACESTATE": "a=1"}


def test_labels_keep_it() -> None:
    for trace in (EXECUTION.text, ""):
        found = terms_of(labels_of(terms(trace), farm="f", agent_id="a", users={}))
        assert found is not None
        assert found.trace == trace


async def test_steps_of_an_execution(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    one = rig.run("echo hi; exit 3", trace=EXECUTION.text, pull=Pull.ALWAYS, envs={"A": "1"})
    await rig.farm.ended(one)
    await rig.tidy()
    assert sink.names() == ["pull", "create", "run", "finish"]
    for span in sink.spans:
        assert ids(span)[::2] == (EXECUTION.trace_id, EXECUTION.span_id)
        assert attributes(span)["easyq.execution"] == one.execution_id
        assert attributes(span)["easyq.agent"] == "agent"
    pull, create, run, finish = sink.spans
    assert attributes(pull)["container.image.name"] == attributes(create)["container.image.name"] == "busybox"
    assert (attributes(run)["process.exit.code"], attributes(run)["error.type"]) == (3, "nonzero_exit")
    assert [span.status.is_ok for span in sink.spans] == [True, True, False, True]
    assert run.status.description == "exit code 3"
    assert attributes(finish)["easyq.answer"] == "ok"


async def test_a_container_knows_the_span_of_its_run(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    one = rig.run("hold", trace=EXECUTION.text)
    await rig.farm.is_running(one)
    environment = rig.engine.container_of(one.execution_id).body["Env"]
    rig.let_go(one)
    await rig.farm.ended(one)
    await rig.until(lambda: "run" in sink.names())
    assert f"TRACEPARENT=00-{EXECUTION.trace_id}-{ids(sink.one('run'))[1]}-01" in environment
    assert "TRACESTATE=a=1" in environment


async def test_the_users_own_word_on_it_holds(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    one = rig.run("hold", trace=EXECUTION.text, envs={"TRACEPARENT": "mine"})
    await rig.farm.is_running(one)
    environment = rig.engine.container_of(one.execution_id).body["Env"]
    assert [text for text in environment if text.startswith("TRACEPARENT")] == ["TRACEPARENT=mine"]
    rig.let_go(one)
    await rig.farm.ended(one)


async def test_an_agent_that_comes_back_ends_the_span(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    one = rig.run("hold", trace=EXECUTION.text)
    await rig.farm.is_running(one)
    came_back = time.time_ns()
    await rig.restart()
    await rig.watched(one)
    rig.let_go(one)
    await rig.farm.ended(one)
    await rig.until(lambda: "run" in sink.names())
    run = sink.over_a_crash("run")
    key = ExecutionKey(one.execution_id, one.epoch)
    own = rig.agent.tools.traces.environment(replace(terms(EXECUTION.text), key=key))
    assert own["TRACEPARENT"].split("-")[2] == ids(run)[1]
    assert 0 < (run.start_time or 0) < came_back < (run.end_time or 0)


async def test_one_that_ended_meanwhile_ran_as_long_as_it_says(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    one = rig.run("hold", trace=EXECUTION.text)
    await rig.farm.is_running(one)
    await rig.crash()
    container = rig.engine.container_of(one.execution_id)
    container.let_go()
    await rig.until(lambda: container.finished_at is not None)
    await rig.start()
    finish = (await rig.farm.ended(one)).finish
    await rig.until(lambda: "run" in sink.names())
    run = sink.over_a_crash("run")
    assert (run.end_time or 0) - (run.start_time or 0) == finish.ran_for.ToNanoseconds()


async def test_the_span_and_the_run_time_tell_one_truth(rig: Rig, sink: Sink) -> None:
    """How long the engine took to start it, and the agent to hear of its end, is no part of either."""
    await rig.ready()
    one = rig.run("sleep 0.5; hold", trace=EXECUTION.text)
    await rig.farm.is_running(one)
    container = rig.engine.container_of(one.execution_id)
    container.let_go()
    finish = (await rig.farm.ended(one)).finish
    await rig.until(lambda: "run" in sink.names())
    run = sink.one("run")
    ms = finish.ran_for.ToMilliseconds()
    assert ms == (container.finished_at or 0) - (container.started_at or 0)
    # The fake's times are whole milliseconds.
    assert (run.end_time or 0) - (run.start_time or 0) == pytest.approx(ms * 1e6, abs=2e6)
    assert (run.end_time or 0) - (container.finished_at or 0) * 1_000_000 == pytest.approx(0, abs=1e6)


def test_an_end_by_a_clock_that_is_another_is_not_believed() -> None:
    began = time.time_ns()
    running = Traces(OFF).running(terms(""), seconds_ago=0.0)
    running.ended()
    for wrong in (None, began / 1e6 - 60_000, began / 1e6 + 60_000):
        running.ended_at(wrong)
        assert began <= running._ended <= time.time_ns()


async def test_an_end_that_was_noted_and_not_told_has_its_span_again(rig: Rig, sink: Sink) -> None:
    """The agent was killed with the span of its run still unsent: the next one has it from the journal."""
    await rig.ready()
    one = rig.run("hold; exit 3", trace=EXECUTION.text)
    await rig.farm.is_running(one)
    rig.farm.go_silent()
    rig.let_go(one)
    await rig.until(lambda: "run" in sink.names())
    before = sink.one("run")
    await rig.crash()
    sink.spans.clear()
    rig.farm.speak_again()
    await rig.start()
    finish = (await rig.farm.ended(one)).finish
    after = sink.one("run")
    assert ids(after) == ids(before)
    assert attributes(after) == attributes(before)
    assert (after.end_time or 0) - (after.start_time or 0) == finish.ran_for.ToNanoseconds()
    assert abs((after.start_time or 0) - (before.start_time or 0)) < 5e9


async def test_a_pull_that_failed(rig: Rig, sink: Sink) -> None:
    rig.engine.failures["pull"].append(PullFailed("the registry said secret things"))
    await rig.ready()
    one = rig.run("echo hi", trace=EXECUTION.text, pull=Pull.ALWAYS, image="registry.example:5000/tool:1")
    await rig.until(lambda: "finish" in sink.names() or "give_back" in sink.names())
    pull = sink.one("pull")
    assert not pull.status.is_ok
    assert attributes(pull)["error.type"] == "pull_failed"
    assert not pull.status.description
    assert "run" not in sink.names()
    assert one.finishes <= 1


async def test_of_nobodys_trace_there_is_nothing(rig: Rig, sink: Sink) -> None:
    await rig.ready()
    await rig.farm.ended(rig.run("echo hi"))
    await rig.farm.ended(rig.run("echo hi", trace=UNSAMPLED.text))
    await rig.tidy()
    assert sink.spans == []
