"""Faults that are the whole host's: when it takes no work for them, and when it may be tried again.

What can be looked at is looked at: a disk is full until it has room again. What can't (a disk of another machine, a
lack of memory) is tried by a job after a pause, which doubles while the tries fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from easyq_runner.domain.sizes import size_words


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """Free bytes of the file system that a folder of this machine lies on."""

    folder: str
    free: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A fault that can't be looked at. Times are seconds by one clock."""

    cause: str
    until: float
    pause: float


def full_disk(disks: Iterable[Disk], *, least: int) -> str:
    """What is full, in words; empty if nothing is. `least` are the bytes that have to be free."""
    for disk in disks:
        if disk.free < least:
            return f"disk full: {size_words(disk.free)} free at {disk.folder}, at least {size_words(least)} are needed"
    return ""


def troubled(before: Trouble | None, cause: str, *, now: float, first: float, longest: float) -> Trouble:
    """The trouble after one more failure for `cause`; pauses go from `first` to `longest`.

    What fails while the host is not tried belongs to the failure before; what fails soon after is the next try.
    """
    if before is not None and now < before.until:
        return before
    again = before is not None and now < before.until + before.pause
    pause = min(longest, before.pause * 2) if before is not None and again else first
    return Trouble(cause=cause, until=now + pause, pause=pause)
