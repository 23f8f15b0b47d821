"""Which trace a client's calls are of."""

import subprocess
import sys

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from easyq.trace import metadata

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    monkeypatch.delenv("TRACESTATE", raising=False)


def test_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metadata() is None
    monkeypatch.setenv("TRACESTATE", "a=1")
    assert metadata() is None
    monkeypatch.setenv("TRACEPARENT", PARENT)
    assert metadata() == (("traceparent", PARENT), ("tracestate", "a=1"))
    monkeypatch.setenv("TRACESTATE", "a=\n")
    assert metadata() == (("traceparent", PARENT),)


@pytest.mark.parametrize("text", ["", "nonsense", f"{PARENT}\n", PARENT.upper(), f" {PARENT}"])
def test_nonsense_is_of_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TRACEPARENT", text)
    assert metadata() is None


def test_the_span_at_hand_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", PARENT)
    monkeypatch.setenv("TRACESTATE", "a=1")
    span = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(span))
    try:
        assert metadata() == (("traceparent", f"00-{'a':0>32}-{'b':0>16}-01"),)
    finally:
        context.detach(token)


def test_opentelemetry_is_not_imported() -> None:
    script = (
        "import sys, easyq.client, easyq.trace; print(easyq.trace.metadata()[0][1]);"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"TRACEPARENT": PARENT}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [PARENT, "[]"]
