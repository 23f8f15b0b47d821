"""`python -m easyq_scheduler`, and `easyq scheduler`."""

from __future__ import annotations

import sys
from functools import partial

from easyq_chassis import error_reports, logs, process
from easyq_chassis.settings import load
from easyq_scheduler.app import serve
from easyq_scheduler.config import SchedulerSettings


def main(argv: list[str]) -> None:
    """Runs the scheduler with the settings of the environment and of `argv`."""
    settings = load(SchedulerSettings, argv, prog="easyq scheduler")
    logs.configure("scheduler", level=settings.log_level, fmt=settings.log_format)
    error_reports.configure("scheduler", settings)
    process.run(partial(serve, settings))


command = process.service_command("scheduler", main)

if __name__ == "__main__":
    main(sys.argv[1:])
