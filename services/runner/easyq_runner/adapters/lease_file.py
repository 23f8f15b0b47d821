"""`LeaseNotes` as a small file that is replaced whole."""

from __future__ import annotations

import json
from pathlib import Path

from easyq_runner.domain.lease import LeaseNote


class FileLeaseNotes:
    """The note at `path`. Not synced: it must survive the agent, not the machine, after whose end nothing runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> LeaseNote | None:
        try:
            raw = json.loads(self._path.read_bytes())
            return LeaseNote(
                boot_id=str(raw["boot_id"]),
                renewed_at=float(raw["renewed_at"]),
                lost_after=float(raw["lost_after"]),
                parked=bool(raw["parked"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, note: LeaseNote) -> None:
        fresh = self._path.with_suffix(".new")
        fields = {
            "boot_id": note.boot_id,
            "renewed_at": note.renewed_at,
            "lost_after": note.lost_after,
            "parked": note.parked,
        }
        fresh.write_text(json.dumps(fields), encoding="ascii")
        fresh.replace(self._path)
