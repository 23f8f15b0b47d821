"""Starting processes that never outlive their parent.

The kernel is asked to kill the child when the parent ends, however that ends. The wish is made in the child before it
becomes what it shall be, by a few lines of Python: a function run between fork and exec is not safe in a process with
threads, and `setpriv` is not on every machine.
"""

from __future__ import annotations

import os
import signal
import sys

# prctl's PR_SET_PDEATHSIG.
_SET_DEATH_SIGNAL = 1

# The parent may have died before the wish was made: then the child has another parent by now.
_PROGRAM = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_SET_DEATH_SIGNAL}, {int(signal.SIGKILL)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def guarded(argv: tuple[str, ...]) -> list[str]:
    """The command that becomes `argv` (its program by full path) and dies with this process.

    It has to be started by the main thread: the kernel watches the thread, not the process.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid()), *argv]
