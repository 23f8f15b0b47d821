"""SIGTERM and SIGINT: the first has a process finish in order, the second ends it at once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import asyncio, os, signal, sys
from easyq_chassis import logs, process

async def finishes(stop):
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    print("up", flush=True)
    await stop.wait()
    await asyncio.sleep(0.05)
    print("finished", flush=True)

async def is_stuck(stop):
    print("up", flush=True)
    while True:
        pass

logs.configure("store", level="error", fmt="json")
process.run(locals()[sys.argv[1]])
"""


@contextmanager
def running(how: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def test_a_signal_that_comes_while_another_is_being_taken_counts_once() -> None:
    """uvloop's own handlers are called twice for it, which would be the end at once."""
    with running("finishes") as process:
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=20)[0] == "finished\n"
        assert process.returncode == 0


def test_the_second_ends_it_at_once_also_where_the_event_loop_is_stuck() -> None:
    with running("is_stuck") as process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130
