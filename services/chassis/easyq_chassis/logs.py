"""Structured logs: one event per decision, JSON unless a person reads them on a terminal.

What EasyQ itself logs goes straight to stderr, without the standard library's records: one line takes a few
microseconds. Libraries that log by the standard library come out in the same form, from WARNING up.

Lines from WARNING up are bounded (`easyq_chassis.log_bounds`): what goes wrong again and again is told some times, then
once a minute with `suppressed`, the number of lines like it that were left out. What a line may say of
this: `burst=1` is for an outage that is met again and again, of which the first line says all; `bounded=False` for a
decision of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import datetime
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from easyq_chassis.log_bounds import RateBound, kind_of
from easyq_chassis.redaction import Redactor
from easyq_chassis.tracing.current import add_trace_id

get_logger = structlog.stdlib.get_logger

_REDACTOR = Redactor()
_BOUNDED = frozenset({"warning", "error", "critical"})
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# What a person looks for first in a line, and the width of an event's column.
_IDS = ("task", "job", "execution", "agent")
_WIDTH = 20
# Seconds between two looks for lines that were held back and are followed by none.
_LOOK = 5.0
# Seconds after which a line that was held back says how old it is: its reader looks for what happens now.
_LATE = 1.0


class _Output:
    """Where lines go. Nobody who logs ever fails because nobody reads."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def line(self, text: str) -> None:
        try:
            # One call, so that lines of several threads never mix.
            self._target.write(text + "\n")
            self._target.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg = line


class _Bounds:
    """The processor that holds lines back, and what tells of those that it held back."""

    def __init__(self, service: str, bound: RateBound, output: _Output, tail: list[Any]) -> None:
        self.service = service
        self.tail = tail
        self._bound = bound
        self._output = output

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        bounded, burst = event.pop("bounded", True), event.pop("burst", None)
        if bounded and (burst is not None or event.get("level") in _BOUNDED):
            held = self._bound.admit(*kind_of(event), (time.monotonic(), dict(event)), burst)
            if held is None:
                raise structlog.DropEvent
            if held:
                event["suppressed"] = held
        return event

    def tell(self, *, all_of_them: bool = False) -> None:
        """Writes the lines that are overdue; `late` says how many seconds ago they happened."""
        now = time.monotonic()
        for (at, event), held in self._bound.overdue(all_of_them=all_of_them):
            line: Any = {**event, "suppressed": held} if held else event
            if now - at >= _LATE:
                line["late"] = round(now - at)
            for processor in self.tail:
                line = processor(None, str(event.get("level", "")), line)
            self._output.line(line)


class _ForeignHandler(logging.Handler):
    """Takes what libraries log by the standard library through the same processors."""

    def __init__(self, head: list[Any], bounds: _Bounds, output: _Output) -> None:
        super().__init__()
        self._head = head
        self._bounds = bounds
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: Any = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            level = record.levelname.lower()
            for processor in (*self._head, self._bounds, *self._bounds.tail):
                event = processor(None, level, event)
            self._output.line(event)
        except structlog.DropEvent:
            return
        except Exception:  # noqa: BLE001 - as the standard library does: who logs never fails
            self.handleError(record)


_bounds: _Bounds | None = None


def configure(service: str, *, level: str = "info", fmt: str = "auto") -> None:
    """Sets up logging for the whole process.

    ``level``: debug, info, warning or error. ``fmt``: json, console, or auto (console on a terminal). Every line
    carries the service's name; ``structlog.contextvars`` adds the ids of the task, job, execution or agent at hand.
    """
    global _bounds  # noqa: PLW0603 - logging is the process's, as structlog's own configuration is
    console = fmt == "console" or (fmt == "auto" and sys.stderr.isatty())
    head: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_service(service),
        # Tracebacks are text before secrets are hidden: errors of drivers name the URL they were given.
        structlog.processors.format_exc_info,
    ]
    output = _Output(sys.stderr)
    bounds = _Bounds(service, RateBound(), output, [_hide_secrets, _to_console() if console else _to_json])
    structlog.configure(
        processors=[*head, bounds, *bounds.tail],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ForeignHandler(head, bounds, output)]
    root.setLevel(max(logging.WARNING, _LEVELS[level]))
    if _bounds is None:
        atexit.register(tell_held_back)
    _bounds = bounds


def service_name() -> str:
    """The name of the service that this process is; empty before `configure`."""
    return "" if _bounds is None else _bounds.service


def tell_held_back() -> None:
    """Tells now of all lines that were held back: what they are about is over."""
    if _bounds is not None:
        _bounds.tell(all_of_them=True)


async def tell_overdue() -> None:
    """Tells of lines that were held back, also where none like them follows. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(_LOOK)
        if _bounds is not None:
            _bounds.tell()


def _to_console() -> Any:
    # `easyq up` asks for colours where it is on a terminal: its services write into pipes.
    colours = "NO_COLOR" not in os.environ and (sys.stderr.isatty() or "FORCE_COLOR" in os.environ)
    # No traceback shows the values of variables.
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback, sort_keys=False, pad_event_to=_WIDTH
    )
    return lambda logger, method, event: renderer(logger, method, for_people(event))


def for_people(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a line on a terminal says, in its order: what happened, to what, and the rest. The time is the local one.

    Whose line it is, is known there; text of several lines stands below it.
    """
    rest = {name: value for name, value in event.items() if name not in {"service", *_IDS}}
    told: dict[str, Any] = {name: rest.pop(name) for name in ("event", "level") if name in rest}
    if isinstance(at := rest.pop("timestamp", None), str):
        told["timestamp"] = datetime.datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    if isinstance(text := rest.get("text"), str) and "\n" in text:
        told["stack"] = rest.pop("text")
    return {**told, **{name: event[name] for name in _IDS if name in event}, **rest}


def _to_json(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=repr).decode()
    except TypeError:
        # Lone surrogates, numbers beyond 64 bits, keys that are no text.
        return json.dumps({str(name): value for name, value in event.items()}, default=repr)


def _hide_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for name, value in event.items():
        if type(value) is str:
            # Only a URL in it can hold a secret.
            if "://" in value:
                event[name] = _REDACTOR.show("", value)
        elif value is not None and type(value) not in {int, float, bool}:
            event[name] = _hidden(value)
    return event


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
