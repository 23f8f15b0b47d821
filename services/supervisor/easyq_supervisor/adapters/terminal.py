"""The terminal that a process was started on."""

from __future__ import annotations

import os


class Terminal:
    """Tells a hang-up from a SIGHUP that somebody sent: after a hang-up the terminal is gone."""

    def __init__(self) -> None:
        self._had_one = _is_there()

    @property
    def gone(self) -> bool:
        """Whether there was one and is none any more."""
        return self._had_one and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
