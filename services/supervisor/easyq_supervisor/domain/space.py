"""Whether a disk has room for a system."""

from __future__ import annotations

#: Below this (bytes) a few jobs with much output fill the disk.
LEAST_FREE = 100 * 2**20


def space_warning(folder: str, free: int) -> str:
    """What to say of `free` bytes on the disk of the data folder; empty where that will do."""
    if free >= LEAST_FREE:
        return ""
    return f"warning: only {free // 2**20} MB are free on the disk of {folder}: without room no job can be kept there"
