"""The one place that writes to stderr: lines for people, each with its source before it, or one JSON object each."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
from typing import BinaryIO

#: Under which the supervisor itself speaks to people, and the service that its own events are of.
OWN, SERVICE = "easyq", "up"
_WIDTH = 10
_COLOURS = {
    OWN: "1",
    "gateway": "36",
    "scheduler": "35",
    "dispatcher": "33",
    "store": "32",
    "runner": "34",
    "redis": "31",
    "engine": "90",
}


class Console:
    """Writes whole lines, so that those of several sources never mix.

    `form`: console (for people), json (for programs), or auto: console on a terminal.
    """

    def __init__(self, target: BinaryIO | None = None, *, form: str = "auto", colours: bool | None = None) -> None:
        self._target = target or sys.stderr.buffer
        is_terminal = sys.stderr.isatty()
        self.form = ("console" if is_terminal else "json") if form == "auto" else form
        usual = self.form == "console" and is_terminal and "NO_COLOR" not in os.environ
        self.colours = usual if colours is None else colours
        self._gone = False

    def line(self, source: str, text: bytes) -> None:
        """Writes one line of a source. Where nobody reads stderr any more it is dropped: the system goes on."""
        text = text.rstrip(b"\r\n")
        if self.form == "console":
            self._write(self._prefix(source) + text + b"\n")
        elif text.startswith(b"{") and text.endswith(b"}"):
            self._write(text + b"\n")
        else:
            # What is no event of a service: an interpreter's last words, what Redis says.
            self._tell(
                "output", "info" if source == "redis" else "warning", service=source, text=text.decode(errors="replace")
            )

    def say(self, text: str, *, event: str = "note", level: str = "info") -> None:
        """Writes the supervisor's own words; for programs as the message of an event."""
        if self.form == "json":
            self._tell(event, level, service=SERVICE, message=text)
            return
        for one in text.splitlines():
            self.line(OWN, one.encode())

    def murmur(self, text: str, *, event: str = "note") -> None:
        """Writes a line of the supervisor's that few need: dimmed on a terminal."""
        self.say(f"\x1b[2m{text}\x1b[0m" if self.colours else text, event=event)

    def offer(self, words: str, command: str) -> None:
        """A command that people may copy: it stands in a line of its own."""
        if self.form == "json":
            self._tell("first_job", "info", service=SERVICE, message=words, command=command)
            return
        self.say(words)
        self._write(command.encode() + b"\n")

    def fail(self, text: str) -> None:
        """Why there is no start: as every command says it, or as an event."""
        if self.form == "json":
            self._tell("cannot_start", "error", service=SERVICE, message=text)
        else:
            self._write(f"easyq: {text}\n".encode())

    def take_logs(self) -> None:
        """From now on what libraries log (asyncio, of a process that somebody else has waited for) is said here too."""
        logging.getLogger().addHandler(_Logs(self))

    def _tell(self, event: str, level: str, *, service: str, **fields: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        told = {**fields, "event": event, "level": level, "timestamp": now, "service": service}
        self._write(json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n")

    def _write(self, line: bytes) -> None:
        if self._gone:
            return
        try:
            self._target.write(line)
            self._target.flush()
        except (BrokenPipeError, ValueError):
            self._gone = True
        except OSError:
            return  # a full disk may have room again; a terminal that hung up is asked in vain

    def _prefix(self, source: str) -> bytes:
        label = f"{source:<{_WIDTH}} | "
        colour = _COLOURS.get(source.partition("-")[0]) if self.colours else None
        return (f"\x1b[{colour}m{label}\x1b[0m" if colour else label).encode()


class _Logs(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.say(self.format(record), level=record.levelname.lower())
