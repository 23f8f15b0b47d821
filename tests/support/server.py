"""What all test servers have in common: a folder, a process, start, stop, kill, restart."""

import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import process
from tests.support.waiting import wait_until


class Server:
    """One real server as a child process; subclasses say how it is started and when it is ready."""

    name = "server"
    start_timeout = 30.0
    death_signal = signal.SIGKILL

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or process.make_folder(self.name[:4])
        self.log_path = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    # For subclasses ------------------------------------------------------------------------------------------
    def command(self) -> list[str | Path]:
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        return None

    def ready(self) -> bool:
        """Whether it answers; an OSError or AssertionError counts as no."""
        raise NotImplementedError

    # For tests -----------------------------------------------------------------------------------------------
    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return process.tail(self.log_path, 100_000)

    def start(self, *, wait: bool = True) -> Self:
        """Starts it where it does not run, on the same port and data as before."""
        if not self.running:
            self._process = process.spawn(
                self.command(), log=self.log_path, env=self.environment(), death_signal=self.death_signal
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def up() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended at its start:\n{process.tail(self.log_path)}")
            return self.ready()

        try:
            wait_until(up, self.start_timeout, interval=0.05, message=f"{self.name} answers")
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{process.tail(self.log_path)}") from error

    def stop(self, sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        """Ends it with `sig`, and with SIGKILL where that takes longer than `timeout` seconds."""
        if self._process is not None:
            process.end(self._process, sig, timeout)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def restart(self, sig: signal.Signals = signal.SIGTERM) -> Self:
        self.stop(sig)
        return self.start()

    def freeze(self) -> None:
        """Stops the process's clock: connections stay open, nothing answers."""
        process.freeze(self.pid, self.start_timeout)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, sig: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(sig)

    def close(self) -> None:
        """Ends it and removes its data."""
        try:
            if self.running:
                self.thaw()
                self.stop(timeout=10)
        finally:
            process.remove_folder(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
