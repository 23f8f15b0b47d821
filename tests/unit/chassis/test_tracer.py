"""Spans as they are made; how they arrive is tests/integration/chassis/test_span_export.py's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from easyq_chassis.tracing import current
from easyq_chassis.tracing.allowance import Allowance
from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.tracer import OFF, Tracer, new_trace_id, open_tracer
from tests.fakes.spans import Sink, ids

CALLER = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True, state="a=1")
UNSAMPLED = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=False)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_a_child_of_the_caller(sink: Sink) -> None:
    tracer = Tracer("store", sink=sink)
    with tracer.span("work", CALLER, kind=SpanKind.SERVER, attributes={"easyq.task": "t"}) as span:
        assert current.current() == span.context
        current.note(easyq__job="j")
    assert current.current() is None
    [made] = sink.spans
    assert span.context is not None
    assert ids(made) == (CALLER.trace_id, span.context.span_id, CALLER.span_id)
    assert span.context.state == "a=1"
    assert made.name == "work"
    assert made.kind is SpanKind.SERVER
    assert dict(made.attributes or {}) == {"easyq.task": "t", "easyq.job": "j"}
    assert made.status.is_ok
    assert made.resource.attributes["service.name"] == "easyq-store"
    assert (made.end_time or 0) >= (made.start_time or 0) > 0


@pytest.mark.parametrize(("error", "kind"), [(ValueError("no"), "ValueError"), (asyncio.CancelledError(), "cancelled")])
def test_an_error_fails_it(sink: Sink, error: BaseException, kind: str) -> None:
    with pytest.raises(type(error)), Tracer("store", sink=sink).span("work", CALLER):
        raise error
    [made] = sink.spans
    assert not made.status.is_ok
    assert (made.attributes or {})["error.type"] == kind


def test_a_trace_begins_only_where_it_may(sink: Sink) -> None:
    tracer = Tracer("gateway", sink=sink)
    with tracer.span("inner", None) as span:
        assert span.context is None
        assert not span.recording
    assert sink.spans == []
    with tracer.span("edge", None, root=True) as span:
        assert span.context is not None
        assert span.context.sampled
        assert span.recording
    assert [ids(made)[2] for made in sink.spans] == [""]


def test_what_is_not_recorded_goes_on_as_it_came(sink: Sink) -> None:
    for tracer in (OFF, Tracer("store", sink=sink)):
        with tracer.span("work", UNSAMPLED, root=True) as span:
            assert span.context == UNSAMPLED
            assert current.current_text() == UNSAMPLED.text
            assert current.metadata() == (("traceparent", UNSAMPLED.traceparent),)
    with OFF.span("work", CALLER, root=True) as span:
        assert span.context == CALLER
        assert current.metadata() == (("traceparent", CALLER.traceparent), ("tracestate", "a=1"))
    with OFF.span("work", None, root=True) as span:
        assert span.context is None
        assert (current.current_text(), current.metadata()) == ("", None)
    assert sink.spans == []


def test_the_ratio_decides_on_traces_that_begin_here(sink: Sink) -> None:
    half = Tracer("gateway", ratio=0.5, sink=sink)
    traces = [new_trace_id() for _ in range(2_000)]
    taken = [trace for trace in traces if half.samples(trace)]
    assert 800 < len(taken) < 1_200
    # All services decide alike, and one that takes fewer takes some of these.
    fewer = Tracer("store", ratio=0.1, sink=sink)
    assert {trace for trace in traces if fewer.samples(trace)} < set(taken)
    none, every = Tracer("gateway", ratio=0.0, sink=sink), Tracer("gateway", ratio=1.0, sink=sink)
    assert not any(map(none.samples, traces))
    assert all(map(every.samples, traces))
    assert not any(map(OFF.samples, traces))
    with none.span("edge", None, root=True) as span:
        # It has a name, by which logs can be found.
        assert span.context is not None
        assert not span.context.sampled
    with none.span("edge", CALLER, root=True):
        pass
    assert [ids(made)[0] for made in sink.spans] == [CALLER.trace_id]


def test_the_rate_bounds_what_requests_begin(sink: Sink) -> None:
    tracer = Tracer("gateway", rate=0.5, sink=sink)
    began = [tracer.begin("edge", None, root=True) for _ in range(4)]
    # What is left over of five seconds, rounded down.
    assert [span.recording for span in began] == [True, True, False, False]
    # It has a name all the same; and who comes with a trace of his own is not counted.
    assert all(span.context is not None for span in began)
    assert tracer.begin("edge", CALLER, root=True).recording
    none = Tracer("gateway", rate=10, ratio=0.0, sink=sink)
    assert not none.begin("edge", None, root=True).recording


@dataclass(frozen=True)
class _Settings:
    otlp: str = "http://127.0.0.1:9"
    trace_ratio: float = 1.0
    farm: str = "easyq"


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999")]
)
def test_a_wrong_variable_of_opentelemetrys_costs_the_spans_and_nothing_else(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with capture_logs() as lines:
        assert not open_tracer("store", _Settings()).enabled
    assert [(line["event"], line["log_level"]) for line in lines] == [("traces_off", "error")]


def test_an_allowance_fills_again() -> None:
    now = 10.0
    allowance = Allowance(2, now=lambda: now)
    assert [allowance.take() for _ in range(11)] == [True] * 10 + [False]
    now += 0.25
    assert not allowance.take()
    now += 0.25
    assert [allowance.take() for _ in range(2)] == [True, False]
    now += 3600
    assert [allowance.take() for _ in range(11)] == [True] * 10 + [False]
    # Less than one in five seconds is still one.
    assert [Allowance(0.01, now=lambda: now).take() for _ in range(1)] == [True]


def test_spans_of_the_past(sink: Sink) -> None:
    tracer = Tracer("store", sink=sink)
    own = CALLER.at("3" * 16)
    tracer.write("execution", own, parent=CALLER, began=20, ended=10, error="", link=UNSAMPLED)
    tracer.write_child("queue", own, began=1, ended=2)
    first, second = sink.spans
    assert ids(first) == (CALLER.trace_id, own.span_id, CALLER.span_id)
    assert (first.start_time, first.end_time) == (20, 20)
    assert not first.status.is_ok
    assert [f"{link.context.span_id:016x}" for link in first.links] == [UNSAMPLED.span_id]
    assert ids(second)[2] == own.span_id
    assert second.links == ()
    for context in (UNSAMPLED, None):
        tracer.write_child("queue", context, began=1, ended=2)
    tracer.write("execution", UNSAMPLED, parent=None, began=1, ended=2)
    OFF.write("execution", CALLER, parent=None, began=1, ended=2)
    assert len(sink.spans) == 2


def test_one_that_is_not_worth_it(sink: Sink) -> None:
    span = Tracer("gateway", sink=sink).begin("GET", CALLER)
    span.drop()
    span.end()
    assert sink.spans == []


def test_the_work_of_a_task_is_of_the_trace_that_made_it(sink: Sink) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return current.current_text()

    async def main() -> Sequence[str]:
        with current.use(CALLER):
            made = asyncio.create_task(work())
        return [await made, await work()]

    assert asyncio.run(main()) == [CALLER.text, ""]


def test_lines_of_the_log_name_it() -> None:
    def line(**event: Any) -> dict[str, Any]:
        return current.add_trace_id(None, "info", event)

    assert line(event="a") == {"event": "a"}
    with current.use(CALLER):
        assert line(event="a") == {"event": "a", "trace_id": CALLER.trace_id}
        assert line(event="a", trace_id="own") == {"event": "a", "trace_id": "own"}
