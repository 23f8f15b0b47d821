"""This process's stdout and stderr, which may be closed, full, or read by nobody.

All but click's own texts goes straight to the descriptors: what a failed write leaves in a buffer would fail once more
when the interpreter ends, and change its exit status.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from easyq.cli.plain import plain, sentence_of

if TYPE_CHECKING:
    from easyq.v1.log_service_pb2 import LogChunk

#: EasyQ itself failed, as docker's 125.
OWN_FAILURE = 125
#: As a shell shows a program that wrote into a closed pipe.
BROKEN_PIPE = 141

_STDOUT, _STDERR = 1, 2
_NAMES = ("stdin", "stdout", "stderr")

# Those of them that were closed when this process began.
_occupied: list[int] = []


class OutputGone(Exception):
    """The output can't be written any more. The message says why, `exit_code` is what to exit with."""

    def __init__(self, message: str, *, exit_code: int = OWN_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StdOutput:
    """Where a container's output goes."""

    def __init__(self, *, only_stderr: bool) -> None:
        self._only_stderr = only_stderr

    def write(self, chunk: LogChunk) -> None:
        """Writes all bytes. Raises OutputGone."""
        from easyq.v1.log_service_pb2 import LogStream

        to_stderr = self._only_stderr or chunk.stream == LogStream.STDERR
        _write(_STDERR if to_stderr else _STDOUT, chunk.data)


def print_line(text: str, *, end: str = "\n") -> None:
    """A line of our own for stdout. Raises OutputGone."""
    _write(_STDOUT, f"{text}{end}".encode(errors="backslashreplace"))


def say(text: str) -> None:
    """A line for a person, on stderr; dropped where that can't be written. Safe for terminals, whoever wrote it."""
    with suppress(OutputGone):
        _write(_STDERR, f"easyq: {sentence_of(text)}\n".encode(errors="backslashreplace"))


def progress(text: str) -> None:
    """Replaces the line that tells how far something is; for terminals only. Ends with an empty text."""
    with suppress(OutputGone):
        _write(_STDERR, f"\r{plain(text)}\x1b[K".encode(errors="backslashreplace"))


def stdout_is_terminal() -> bool:
    """Whether a person sees what is printed."""
    return os.isatty(_STDOUT)


def columns() -> int:
    """Width of the terminal that stdout is."""
    try:
        found = os.get_terminal_size(_STDOUT).columns
    except OSError:
        found = 0
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isascii() and text.isdecimal() and int(text) else found or 80


def is_terminal() -> bool:
    """Whether a person sees what is said."""
    return os.isatty(_STDERR)


def occupy_closed() -> None:
    """Opens what is closed of stdin, stdout and stderr, so that no connection gets their numbers and a command's output
    for its content. Reading or writing them fails as before, also by the names of `sys`, which Python leaves out."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number else os.O_WRONLY)  # gets the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
            _occupied.append(number)


def silence_closed() -> None:
    """Lets what was closed be read as empty and be written for nobody, as servers have it, which go on for long."""
    for number in _occupied:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, number)
        os.close(nowhere)
    _occupied.clear()


def words_of(error: OSError) -> str:
    """Why reading or writing failed."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)


def failed_in_echo(error: OSError) -> bool:
    """Whether it was click's echo that failed, which is not the command's fault."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "click.utils"


def drop_output() -> None:
    """Leads both nowhere, with whatever is left in buffers."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (_STDOUT, _STDERR):
        os.dup2(nowhere, number)


def _write(number: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:
            select.select([], [number], [])  # whoever shares the other end has made it non-blocking
        except BrokenPipeError as error:
            raise OutputGone("nobody reads the output any more", exit_code=BROKEN_PIPE) from error
        except OSError as error:
            raise OutputGone(f"could not write to {_NAMES[number]}: {words_of(error)}") from error
