"""The one place that writes to stderr: a line of its source each, aligned, coloured on a terminal."""

from __future__ import annotations

import sys
from typing import BinaryIO

#: Under which the supervisor itself speaks.
OWN = "easyq"
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
    """Writes whole lines, so that those of several sources never mix."""

    def __init__(self, target: BinaryIO | None = None, *, colours: bool | None = None) -> None:
        self._target = target or sys.stderr.buffer
        self._colours = sys.stderr.isatty() if colours is None else colours
        self._gone = False

    def line(self, source: str, text: bytes) -> None:
        """Writes one line of a source. Where nobody reads stderr any more it is dropped: the system goes on."""
        self._write(self._prefix(source) + text.rstrip(b"\r\n") + b"\n")

    def say(self, text: str) -> None:
        """Writes the supervisor's own words."""
        for one in text.splitlines():
            self.line(OWN, one.encode())

    def murmur(self, text: str) -> None:
        """Writes a line of the supervisor's that few need: dimmed on a terminal."""
        self.line(OWN, (f"\x1b[2m{text}\x1b[0m" if self._colours else text).encode())

    def raw(self, text: str) -> None:
        """Writes a line as it stands, for people who copy it."""
        self._write(text.encode() + b"\n")

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
        colour = _COLOURS.get(source.partition("-")[0]) if self._colours else None
        return (f"\x1b[{colour}m{label}\x1b[0m" if colour else label).encode()
