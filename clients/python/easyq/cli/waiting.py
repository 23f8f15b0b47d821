"""`easyq wait`: until jobs have ended."""

from __future__ import annotations

import sys
import time

import click

from easyq.cli import completions, exits
from easyq.cli.frame import Server, duration, fail, named, tell, with_server


@click.command(short_help="Wait until jobs have ended, and exit as they did.")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, callback=named, shell_complete=completions.open_jobs)
@click.option("--timeout", metavar="DURATION", callback=duration, help="Wait no longer than this: exits with 3 then.")
@with_server
def wait(*, server: Server, jobs: tuple[str, ...], timeout: int | None) -> None:
    """Wait until jobs have ended, and print each with its state.

    One job: exits as `easyq run` does, with the container's exit code, 124 to 127 or 143. Several: 0 if all of them
    succeeded, else 1.
    """
    with server.calling() as client:
        from easyq.cli.job_views import job_state
        from easyq.cli.outcome import exit_code
        from easyq.errors import DeadlineExceeded
        from easyq.result import result_of

        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        codes = []
        for name in jobs:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = client.wait(name, timeout=left)
            except DeadlineExceeded as error:
                if deadline is None or time.monotonic() < deadline:
                    raise
                fail(error.message, exits.UNREACHABLE)
            tell(f"{job.job_id}  {job_state(job).text}")
            codes.append(exit_code(result_of(job), None))
    sys.exit(codes[0] if len(codes) == 1 else exits.FAILED if any(codes) else exits.OK)
