"""Reports to Sentry, or what speaks its protocol.

A client of its own, which patches nothing and finds out nothing by itself: no integrations, no breadcrumbs, no
arguments of the process, no variables, no requests. An event has what its report has.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from sentry_sdk import Client
from sentry_sdk.transport import HttpTransport

from easyq_chassis.error_reports.handlers import Surroundings
from easyq_chassis.error_reports.report import Frame, Raised, Report
from easyq_chassis.error_reports.texts import one_line

# Seconds for one report, from name to answer, all tries of the library's included.
_PATIENCE = 15.0
_MOST_VALUE = 20_000


class NotSent(Exception):
    """Sentry did not take it."""


class _Transport(HttpTransport):
    """The library's own, which also says what became of an event."""

    TIMEOUT = 10
    lost = ""

    def on_dropped_event(self, reason: str) -> None:
        self.lost = reason


class SentryHandler:
    """Sends each report as one event, and returns once it was taken."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._client: Any = Client(
            dsn=around.sentry_dsn,
            release=f"easyq-server@{around.version}",
            environment=around.environment,
            transport=_Transport,
            transport_queue_size=10,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            attach_stacktrace=False,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            send_client_reports=False,
            enable_backpressure_handling=False,
            max_breadcrumbs=0,
            max_value_length=_MOST_VALUE,
            spotlight=False,
            debug=False,
        )

    def handle(self, report: Report) -> None:
        """Raises `NotSent` where it was not taken: Sentry is away, refuses it, or wants fewer."""
        transport = self._client.transport
        transport.lost = ""
        self._client.capture_event(event_of(report, self._around))
        began = time.monotonic()
        self._client.flush(timeout=_PATIENCE)
        if transport.lost:
            raise NotSent(f"Sentry did not take it: {transport.lost}")
        if time.monotonic() - began >= _PATIENCE:
            raise NotSent(f"Sentry did not take it within {_PATIENCE:g} s")

    def close(self) -> None:
        """Ends the library's thread."""
        self._client.close(timeout=0.5)


def event_of(report: Report, around: Surroundings) -> dict[str, Any]:
    """The report as an event of Sentry's."""
    event: dict[str, Any] = {
        "event_id": report.report_id,
        "timestamp": datetime.fromtimestamp(report.at_ms / 1000, UTC),
        "platform": "python",
        "level": "fatal" if report.fatal else "error",
        "logger": f"easyq.{around.service}",
        "transaction": report.place,
        "fingerprint": list(report.fingerprint),
        "tags": {
            "service": around.service,
            "farm": around.farm,
            "kind": report.kind.value,
            **{name: one_line(value) for name, value in report.tags.items()},
        },
        "extra": {**report.facts, **report.output},
    }
    if report.left_out:
        event["extra"]["leftOut"] = report.left_out
    if report.raised:
        event["exception"] = {"values": [_exception(one) for one in report.raised]}
    else:
        event["message"] = report.title
    return event


def _exception(one: Raised) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": one.kind,
        "module": one.module,
        "value": one.text,
        "mechanism": {"type": "easyq", "handled": True},
    }
    if one.frames:
        value["stacktrace"] = {"frames": [_frame(frame) for frame in one.frames]}
    return value


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "module": frame.module,
        "filename": f"{frame.module.replace('.', '/')}.py",
        "function": frame.function,
        "lineno": frame.line,
        "in_app": frame.ours,
    }
