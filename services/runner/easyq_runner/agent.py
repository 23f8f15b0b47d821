"""The agent's process, as the watchdog starts it: `python -m easyq_runner.agent FD PID LIVES ARGUMENTS`.

FD is the pipe by which it tells the watchdog what to guard, PID the watchdog, LIVES how agents before it ended.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from easyq_runner.adapters.parent import die_with
from easyq_runner.adapters.past_lives import decode_lives
from easyq_runner.adapters.watch_pipe import Teller
from easyq_runner.domain.lives import PastLives


def run(fd: int, lives: PastLives, argv: list[str]) -> None:
    """Runs until it is told to stop."""
    # They take half a second, in which the watchdog may die.
    from easyq_chassis import error_reports, logs, process
    from easyq_chassis.settings import load
    from easyq_runner.app import serve
    from easyq_runner.config import RunnerSettings

    settings = load(RunnerSettings, argv, prog="easyq runner")
    logs.configure("runner", level=settings.log_level, fmt=settings.log_format)
    error_reports.configure("runner", settings)
    process.run(partial(serve, settings, Teller(fd), lives))


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    die_with(int(sys.argv[2]))
    run(int(sys.argv[1]), decode_lives(sys.argv[3]), sys.argv[4:])
