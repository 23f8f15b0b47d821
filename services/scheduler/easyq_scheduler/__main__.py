"""`python -m easyq_scheduler`, and `easyq scheduler`."""

from __future__ import annotations

import sys
from functools import partial

from easyq_chassis import logs, process
from easyq_chassis.settings import load
from easyq_scheduler.app import serve
from easyq_scheduler.config import SchedulerSettings


def command(argv: list[str]) -> None:
    """Fires jobs that have a time, and expires what has waited too long."""
    settings = load(SchedulerSettings, argv, prog="easyq scheduler")
    logs.configure("scheduler", level=settings.log_level, fmt=settings.log_format)
    process.run(partial(serve, settings))


if __name__ == "__main__":
    command(sys.argv[1:])
