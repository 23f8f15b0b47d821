"""Programs that hear signals as a terminal's shell lets them, whatever whoever runs the tests ignores.

What a shell starts in the background ignores SIGINT, and under nohup SIGHUP; each program that a test starts would too.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

_PROGRAM = """
import os, signal, sys
for name in ("INT", "HUP"):
    signal.signal(signal.Signals["SIG" + name], signal.SIG_IGN if name == sys.argv[1] else signal.SIG_DFL)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def hears_signals(command: Sequence[str | bytes | Path], *, ignored: str = "") -> list[str | bytes | Path]:
    """The command that runs `command` so, in the same process; `ignored` (INT or HUP) is ignored there."""
    return [sys.executable, "-S", "-c", _PROGRAM, ignored, *command]
