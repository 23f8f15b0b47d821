"""`python -m easyq_runner`, and `easyq runner`."""

from __future__ import annotations

import sys
from functools import partial

from easyq_chassis import logs, process
from easyq_chassis.settings import load
from easyq_runner.app import serve
from easyq_runner.config import RunnerSettings


def command(argv: list[str]) -> None:
    """Runs the containers of jobs on one Docker host."""
    settings = load(RunnerSettings, argv, prog="easyq runner")
    logs.configure("runner", level=settings.log_level, fmt=settings.log_format)
    process.run(partial(serve, settings))


if __name__ == "__main__":
    command(sys.argv[1:])
