"""What a process does at its end: no look through all its objects, which takes longer than all the rest of a stop."""

import subprocess
import sys

import pytest

TOLD_AT_THE_END = "import atexit, gc, sys; atexit.register(lambda: print('left out:', gc.get_freeze_count() > 0)); "
SERVICE = "from easyq_chassis import process; process.run(lambda stop: main()); "
COMMAND = "sys.argv = ['easyq', '--version']; from easyq.cli import main; main()"


@pytest.mark.parametrize("ends", [f"exec('async def main(): pass'); {SERVICE}", COMMAND], ids=["service", "command"])
def test_garbage_is_left_where_it_lies(ends: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TOLD_AT_THE_END + ends], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.endswith("left out: True\n")
