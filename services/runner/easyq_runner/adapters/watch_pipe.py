"""What an agent tells its watchdog, as lines of JSON through a pipe that the watchdog made.

The lease travels by this way as well as by its file: the pipe works while a disk is full, the file while nobody reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from easyq_runner.adapters.lease_file import FileLeaseNotes, decode_note, encode_note
from easyq_runner.domain.lease import LeaseNote
from easyq_runner.domain.watch import Ward


class Teller:
    """The agent's end of the pipe; it never waits."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    def tell(self, message: Ward | LeaseNote) -> None:
        """Lost where the watchdog does not read (it is stopped) or is gone: then this process ends, too."""
        line = json.dumps(encode(message)).encode() + b"\n"
        try:
            os.write(self._fd, line)
        except OSError:
            return


class ToldLeaseNotes(FileLeaseNotes):
    """`LeaseNotes` of an agent that has a watchdog."""

    def __init__(self, path: Path, teller: Teller) -> None:
        super().__init__(path)
        self._teller = teller

    def write(self, note: LeaseNote) -> None:
        self._teller.tell(note)
        super().write(note)


class Ear:
    """Puts what comes through the pipe together again."""

    def __init__(self) -> None:
        self._rest = b""

    def hear(self, data: bytes) -> Iterator[Ward | LeaseNote]:
        """The messages that `data` completes. A line that is none is dropped: the pipe had been full."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                yield decode(line)
            except ValueError:
                continue


def encode(message: Ward | LeaseNote) -> dict[str, object]:
    """As an object for JSON."""
    if isinstance(message, LeaseNote):
        return {"note": encode_note(message)}
    return {
        "ward": {
            "farm": message.farm,
            "agent_id": message.agent_id,
            "engine": message.engine,
            "tls": message.tls,
            "lease": message.lease,
            "console": message.console,
        }
    }


def decode(line: bytes) -> Ward | LeaseNote:
    """A line of the pipe. Raises ValueError."""
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("expected an object")
    if "note" in raw:
        return decode_note(raw["note"])
    try:
        ward = raw["ward"]
        ca, cert, key = ward["tls"] or ("", "", "")
        return Ward(
            farm=str(ward["farm"]),
            agent_id=str(ward["agent_id"]),
            engine=str(ward["engine"]),
            tls=(ca, cert, key) if ward["tls"] else None,
            lease=str(ward["lease"]),
            console=bool(ward["console"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no ward: {error!r}") from error
