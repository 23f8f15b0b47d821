"""One shell in which commands run one after the other, as a reader of the documentation has it."""

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Self


class ShellEnded(AssertionError):
    """The shell has gone, by a syntax error, `exit` or a failure under `set -e`; the message is what it said."""


class Shell:
    """`sh` in `folder`; variables, functions and the working directory stay from one command to the next."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._notes = folder / ".shell"
        self._notes.mkdir()
        self._count = 0
        self._last = 0
        self._process = subprocess.Popen(
            ["sh"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def run(self, text: str, timeout: float) -> tuple[int, str]:
        """Runs it; its exit status, and what it wrote to stdout and stderr, in the order in which it came."""
        self._count += 1
        command, output = self._notes / f"{self._count}.sh", self._notes / f"{self._count}.out"
        command.write_text(text, encoding="utf-8")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # `$?` is that of the command before, as in a terminal.
        line = f'(exit {self._last}); . "{command}" >"{output}" 2>&1 </dev/null; echo "$?"\n'
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise ShellEnded(f"not within {timeout:g} s: {text}\n{self._said(output)}")
        status = self._process.stdout.readline()
        if not status:
            raise ShellEnded(f"the shell ended at: {text}\n{self._said(output)}")
        self._last = int(status)
        return self._last, self._said(output)

    @staticmethod
    def _said(output: Path) -> str:
        return output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # With whatever a command left in the background.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
