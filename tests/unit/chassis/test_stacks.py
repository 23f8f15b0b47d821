"""SIGUSR2 says what a living process does."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, sys
from easyq_chassis import logs, process

async def inner(secret):
    await asyncio.get_running_loop().create_future()

async def each():
    await inner("cnry0a1b2c3d")
    yield 1

async def works():
    async for _ in each():
        pass

async def waits_for(task):
    await task

async def main(stop):
    tasks = [asyncio.create_task(works(), name=f"worker-{n}") for n in range(7)]
    tasks.append(asyncio.create_task(waits_for(tasks[0]), name="waiter"))
    await asyncio.sleep(0)
    print("up", flush=True)
    while sys.argv[1] == "busy" and not os.path.exists(sys.argv[2]):
        pass
    await stop.wait()

logs.configure("store", level="warning", fmt="json")
process.run(main)
"""


@contextmanager
def running(folder: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM, how, str(folder / "enough")]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_the_stacks_of_a_living_process(tmp_path: Path, how: str) -> None:
    """Also of one whose event loop is stuck; and it goes on."""
    with running(tmp_path, how) as process:
        assert process.stderr is not None
        process.send_signal(signal.SIGUSR2)
        line = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGUSR2)
        json.loads(process.stderr.readline())
        (tmp_path / "enough").touch()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (line["event"], line["tasks"], line["service"]) == ("stacks", 11, "store")
    text = Path(line["path"]).read_text(encoding="utf-8")
    assert text == line["text"]
    assert Path(line["path"]).stat().st_mode & 0o077 == 0
    worker = next(part for part in text.split("\n\n") if part.startswith("Task worker-0"))
    assert "(7 alike)" in worker
    # From the outermost to the one that waits, through the generator.
    places = [row.split()[0] for row in worker.splitlines()[1:]]
    assert places == ["works", "each", "inner", "waits"]
    assert "waits for task worker-0" in text
    assert "Thread MainThread" in text
    assert ("main (<string>" in text.partition("Thread MainThread")[2]) is (how == "busy")
    # No values of variables.
    assert "cnry0a1b2c3d" not in text


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """The next one is taken, as for any temporary file."""
    with running(tmp_path / "none", "idle") as process:
        assert process.stderr is not None
        process.send_signal(signal.SIGUSR2)
        line = json.loads(process.stderr.readline())
        Path(line["path"]).unlink()
        assert "Task worker-0" in line["text"]
