"""`ImageNotes` as a small file that is replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from easyq_runner.domain.image_cache import CachedImage


class FileImageNotes:
    """The notes at `path`. Not synced: an image that is forgotten by a power cut stays."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, CachedImage]:
        try:
            raw = json.loads(self._path.read_bytes())
            return {
                str(one["id"]): CachedImage(
                    image_id=str(one["id"]),
                    references=frozenset(map(str, one["references"])),
                    last_used=int(one["last_used"]),
                    size=int(one["size"]),
                )
                for one in raw["images"]
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, cache: Mapping[str, CachedImage]) -> None:
        images = [
            {
                "id": one.image_id,
                "references": sorted(one.references),
                "last_used": one.last_used,
                "size": one.size,
            }
            for one in cache.values()
        ]
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"images": images}, indent=1), encoding="utf-8")
        fresh.replace(self._path)
