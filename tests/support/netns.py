"""A network namespace of a test's own, whose loopback interface the kernel may slow down."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.missing import PREFIX

_CLONE_NEWNET = 0x40000000
_SBIN = "/usr/sbin:/sbin"


class NoNamespace(Exception):
    """This machine gives none: why."""


class NetworkNamespace:
    """Made by `with`. It has a loopback interface and nothing else: what is to be reached there listens by `listen`.

    Raises NoNamespace where iproute2 is missing or the kernel refuses.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Self:
        self._run("ip", "netns", "add", self.name)
        # Of ordinary size, so that delay and loss meet single packets and not 64 KiB at once.
        self._run("ip", "-n", self.name, "link", "set", "lo", "mtu", "1500", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(NoNamespace):
            self._run("ip", "netns", "del", self.name)

    @property
    def command(self) -> list[str | Path]:
        """What to put before a command that is to run in it."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def listen(self) -> socket.socket:
        """A socket on a free port of its loopback interface, served by this process."""
        made: list[socket.socket | OSError] = []

        def inside() -> None:
            # Of this thread alone; the socket stays where it was made.
            try:
                _enter(Path("/run/netns", self.name))
                made.append(socket.create_server(("127.0.0.1", 0)))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=inside, name=f"in {self.name}")
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise NoNamespace(f"no socket in a network namespace: {made[0]}") from made[0]
        return made[0]

    @contextlib.contextmanager
    def shaped(self, *discipline: str) -> Iterator[None]:
        """Every packet there goes through this queueing discipline (`netem delay 200ms`), in both directions.

        Raises NoNamespace with the kernel's word where it has not got that one.
        """
        self._run("tc", "-n", self.name, "qdisc", "add", "dev", "lo", "root", *discipline)
        try:
            yield
        finally:
            self._run("tc", "-n", self.name, "qdisc", "del", "dev", "lo", "root")

    @staticmethod
    def _run(program: str, *arguments: str) -> None:
        found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
        if found is None:
            raise NoNamespace(f"{PREFIX}{program} (apt-get install iproute2)")
        done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())
            raise NoNamespace(f"`{program} {' '.join(arguments)}` says: {said}")


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
