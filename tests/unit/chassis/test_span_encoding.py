"""Spans as OTLP's messages: what the library makes of them, in less time."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.encoding import encoded
from easyq_chassis.tracing.tracer import Tracer
from tests.fakes.spans import Sink

PARENT = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True, state="a=1,b=x:y")
OWN = PARENT.at("3" * 16)
ELSEWHERE = TraceContext(trace_id="4" * 32, span_id="f" * 16, sampled=False)
ATTRIBUTES: dict[str, str | int | float | bool] = {
    "easyq.task": "größer\0",
    "easyq.attempt": 3,
    "share": 0.5,
    "late": True,
    "early": False,
    "none": "",
}


def spans() -> list[ReadableSpan]:
    sink = Sink()
    tracer = Tracer("store", farm="blue", sink=sink)
    for kind in SpanKind:
        tracer.write("execution", OWN, parent=PARENT, kind=kind, began=5, ended=7, attributes=ATTRIBUTES)
    tracer.write("root", OWN, parent=None, began=5, ended=2**62, link=ELSEWHERE, error="no such\nimage")
    tracer.write("failed", OWN, parent=PARENT, began=5, ended=5, error="")
    tracer.begin("own", PARENT).end()
    return sink.spans


def test_they_are_the_librarys() -> None:
    made = spans()
    assert encoded(made) == encode_spans(made)
    assert encoded([]) == encode_spans([])


VALUES = st.one_of(st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))


@given(st.dictionaries(st.text(min_size=1), VALUES), st.text())
def test_whatever_the_attributes(attributes: dict[str, str | int | float | bool], name: str) -> None:
    sink = Sink()
    Tracer("store", sink=sink).write(name, OWN, parent=PARENT, began=1, ended=2, attributes=attributes)
    assert encoded(sink.spans) == encode_spans(sink.spans)


def test_what_cannot_be_encoded_is_left_out() -> None:
    span = ReadableSpan(
        "execution",
        context=spans()[0].context,
        resource=Resource.get_empty(),
        attributes={"half": "\ud800", "much": 2**70, "fine": 1},
        start_time=1,
        end_time=2,
        instrumentation_scope=spans()[0].instrumentation_scope,
    )
    (message,) = encoded([span]).resource_spans[0].scope_spans[0].spans
    assert [attribute.key for attribute in message.attributes] == ["fine"]
