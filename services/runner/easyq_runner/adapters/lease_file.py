"""`LeaseNotes` as a small file that is replaced whole, and a folder of marks beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from easyq_runner.domain.lease import LeaseNote


class FileLeaseNotes:
    """The note at `path`. Not synced: it must survive the agent, not the machine, after whose end nothing runs.

    What the watchdog ends is marked in the folder `lost` beside it, by the container's id.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks = path.with_name("lost")

    # The note -----------------------------------------------------------------------------------------------------
    def read(self) -> LeaseNote | None:
        try:
            return decode_note(json.loads(self._path.read_bytes()))
        except (OSError, ValueError):
            return None

    def write(self, note: LeaseNote) -> None:
        text = json.dumps(encode_note(note))
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(text, encoding="ascii")
            fresh.replace(self._path)
        except OSError:
            # A full disk must not make a living agent look lost: the note that is there has room for this one.
            self._overwrite(text)

    def _overwrite(self, text: str) -> None:
        with self._path.open("r+", encoding="ascii") as file:
            file.write(text.ljust(self._path.stat().st_size))

    # Marks --------------------------------------------------------------------------------------------------------
    def was_ended(self, container_id: str) -> bool:
        return bool(container_id) and (self._marks / container_id).exists()

    def mark_ended(self, container_id: str) -> None:
        """It is about to be killed because the lease is lost. Raises OSError."""
        self._marks.mkdir(mode=0o700, exist_ok=True)
        (self._marks / container_id).touch()

    def unmark_ended(self, container_id: str) -> None:
        """It had ended by itself, or is gone."""
        (self._marks / container_id).unlink(missing_ok=True)

    def marked(self) -> set[str]:
        """All containers with a mark."""
        try:
            return {mark.name for mark in self._marks.iterdir()}
        except OSError:
            return set()


def encode_note(note: LeaseNote) -> dict[str, Any]:
    """As an object for JSON."""
    return {
        "boot_id": note.boot_id,
        "renewed_at": note.renewed_at,
        "lost_after": note.lost_after,
        "parked": note.parked,
    }


def decode_note(raw: Any) -> LeaseNote:
    """What `encode_note` gave. Raises ValueError."""
    try:
        return LeaseNote(
            boot_id=str(raw["boot_id"]),
            renewed_at=float(raw["renewed_at"]),
            lost_after=float(raw["lost_after"]),
            parked=bool(raw["parked"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no note of a lease: {error!r}") from error
