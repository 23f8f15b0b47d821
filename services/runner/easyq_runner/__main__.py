"""`python -m easyq_runner`, and `easyq runner`: the watchdog, whose child is the agent."""

from __future__ import annotations

import os
import signal
import sys


def command(argv: list[str]) -> None:
    """Runs the containers of jobs on one Docker host."""
    # As a program of its own: what the command `easyq` has imported would stay in memory for ever.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "easyq_runner", *argv])  # noqa: S606 - no shell is wanted


def _main() -> None:
    from easyq_runner.watchdog.runner import Runner

    status = Runner(sys.argv[1:]).run()
    sys.stdout.flush()
    if status < 0:  # ends as its agent did
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    # The guard's thread may wait for an engine.
    os._exit(status)


if __name__ == "__main__":
    _main()
