"""Where spans go that nobody sends."""

from opentelemetry.sdk.trace import ReadableSpan

from easyq_chassis.tracing.export import SpanSink


class Sink(SpanSink):
    """Keeps them."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def take(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def one(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.spans if span.name == name]
        return span

    def over_a_crash(self, name: str) -> ReadableSpan:
        """The same; it may have come twice, under one id, where the kill met its end."""
        [span] = {ids(span): span for span in self.spans if span.name == name}.values()
        return span


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span, parent (empty: none)."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent
