"""Structured logs: one event per decision, JSON unless a person reads them on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import structlog

from easyq_chassis.redaction import Redactor
from easyq_chassis.tracing.current import add_trace_id

get_logger = structlog.stdlib.get_logger

_REDACTOR = Redactor()


def configure(service: str, *, level: str = "info", fmt: str = "auto") -> None:
    """Sets up logging for the whole process.

    ``level``: debug, info, warning or error. ``fmt``: json, console, or auto (console on a terminal). Every line
    carries the service's name; ``structlog.contextvars`` adds the ids of the task, job, execution or agent at hand.
    Libraries that log by the standard library come out in the same form, from WARNING up.
    """
    console = fmt == "console" or (fmt == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    colours = console and "NO_COLOR" not in os.environ and sys.stderr.isatty()
    # No traceback shows the values of variables.
    plain = structlog.dev.plain_traceback
    to_console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
    renderer: Any = to_console if console else structlog.processors.JSONRenderer()
    # Tracebacks are text before secrets are hidden: errors of drivers name the URL they were given.
    tail: list[Any] = [structlog.processors.format_exc_info, _hide_secrets, renderer]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _name_service(service),
                *tail,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in (f"easyq_{service}", "easyq_chassis"):
        logging.getLogger(package).setLevel(level.upper())


def _hide_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {name: _hidden(value) for name, value in event.items()}


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return _REDACTOR.show("", value)
    if isinstance(value, list | tuple):
        return [_hidden(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _hidden(one) for name, one in value.items()}
    return value


def _name_service(service: str) -> Any:
    def processor(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["service"] = service
        return event

    return processor
