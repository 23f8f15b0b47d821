"""An oracle for recurring jobs: every minute of ten years, one after the other. It knows of no cron library.

Each real minute's wall time is computed from the zone's offset. Arrays hold one byte a minute, so that a look at all
5,258,880 of them is one operation on bytes or on a long integer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(2010, 1, 1, tzinfo=UTC)
END = datetime(2020, 1, 1, tzinfo=UTC)
FIRST_MINUTE, END_MINUTE = ((moment - EPOCH) // timedelta(minutes=1) for moment in (FIRST, END))
DAY_ZERO = EPOCH.toordinal()
QUARTER = 15  # minutes; no clock of these zones and years changes within a quarter of an hour


@dataclass(frozen=True)
class Case:
    """An expression, and by hand what it means."""

    expression: str
    minutes: Collection[int]
    hours: Collection[int]
    day: Callable[[date], bool]

    @property
    def is_pace(self) -> bool:
        return set(self.hours) == set(range(24))

    def matches(self, wall: int) -> bool:
        """`wall`: minutes since 1970 began on the wall's calendar."""
        return (
            wall % 60 in self.minutes
            and wall // 60 % 24 in self.hours
            and self.day(date.fromordinal(719163 + wall // 1440))
        )


class Minutes:
    """What the clocks of a zone show in each minute."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        walls = [minute + self._offset(minute) for minute in range(FIRST_MINUTE, END_MINUTE, QUARTER)]
        for minute in range(FIRST_MINUTE, END_MINUTE, QUARTER * 97):  # that premise again, in a sample
            assert self._offset(minute) == self._offset(minute + QUARTER - 1)
        self._hours = b"".join(bytes([wall // 60 % 24]) * QUARTER for wall in walls)
        by_quarter = {start: bytes(range(start, start + QUARTER)) for start in range(0, 60, QUARTER)}
        self._minutes = b"".join(by_quarter[wall % 60] for wall in walls)
        self._days = [(day, len(list(same))) for day, same in groupby(wall // 1440 for wall in walls)]
        # Changes: the real minute from which the wall reads differently, what it reads and what it would have read.
        self.changes = [
            (FIRST_MINUTE + (index + 1) * QUARTER, wall, before + QUARTER)
            for index, (before, wall) in enumerate(pairwise(walls))
            if wall != before + QUARTER
        ]
        fresh = bytearray(b"\1" * (END_MINUTE - FIRST_MINUTE))
        for real, reads, expected in self.changes:
            if reads < expected:  # put back: what it reads now it has read before
                start = real - FIRST_MINUTE
                fresh[start : start + expected - reads] = bytes(expected - reads)
        self._fresh = bytes(fresh)

    def fires(self, case: Case) -> list[int]:
        """The real minutes (since the epoch) in which a job with this expression fires."""
        days = {day: bytes([case.day(date.fromordinal(DAY_ZERO + day))]) for day, _ in self._days}
        masks = [
            self._minutes.translate(_table(case.minutes)),
            self._hours.translate(_table(case.hours)),
            b"".join(days[day] * (quarters * QUARTER) for day, quarters in self._days),
        ]
        if not case.is_pace:
            masks.append(self._fresh)
        hits = -1
        for mask in masks:
            hits &= int.from_bytes(mask, "big")
        found = {FIRST_MINUTE + hit.start() for hit in re.finditer(b"\1", hits.to_bytes(len(self._hours), "big"))}
        if not case.is_pace:
            for real, reads, expected in self.changes:
                if any(case.matches(skipped) for skipped in range(expected, reads)):
                    found.add(real)
        return sorted(found)

    def _offset(self, minute: int) -> int:
        offset = (EPOCH + timedelta(minutes=minute)).astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset // timedelta(minutes=1)


def _table(values: Collection[int]) -> bytes:
    return bytes(value in values for value in range(256))
