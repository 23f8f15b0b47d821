"""Ctrl-C while there is nothing that it could stop. Imports next to nothing, since it is there for slow imports."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: What ends a command from outside.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process, with 130; unless it was ignored already.

    A KeyboardInterrupt would not do: it shows where it struck, and is lost in callbacks of C code.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def as_usual() -> None:
    """Gives Ctrl-C back to commands that deal with it by themselves."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def heard() -> list[signal.Signals]:
    """Those of `ENDING` that end this process: nohup(1) has SIGHUP ignored."""
    return [one for one in ENDING if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


@contextmanager
def leaving_with(words: Callable[[], None]) -> Iterator[None]:
    """Meanwhile each of `ENDING` ends the process after `words`, with 128 plus its number."""

    def leave(number: int, frame: FrameType | None) -> None:
        words()
        _leave(number, frame)

    previous = {number: signal.signal(number, leave) for number in heard()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
