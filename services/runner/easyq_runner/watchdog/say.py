"""The watchdog's lines in the log, in the form of the agent's."""

from __future__ import annotations

import json
import os
import sys
import time


class Speaker:
    """`console` is set as soon as the agent has told in which form it logs."""

    def __init__(self) -> None:
        self.console = sys.stderr.isatty()

    def say(self, level: str, event: str, **fields: object) -> None:
        """Writes one line to stderr: an event that happened, with what belongs to it."""
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1_000_000):06}Z"
        if self.console:
            clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1_000):03}"
            line = f"{clock} [{level:<7}] {event:<20} " + " ".join(f"{name}={value}" for name, value in fields.items())
        else:
            line = json.dumps({**fields, "event": event, "level": level, "timestamp": at, "service": "runner"})
        try:
            os.write(2, line.encode() + b"\n")
        except OSError:
            return  # nobody listens any more; the work goes on
