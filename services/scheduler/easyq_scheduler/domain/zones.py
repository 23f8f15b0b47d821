"""Wall-clock time and instants. Instants are whole seconds since the epoch, UTC; wall times are naive datetimes.

A zone's clock is put forward (a gap: wall times that no instant has) and back (a fold: wall times that two instants
have). Two schedulers agree on a job's times where they have the same release of the time zone database.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from easyq_scheduler.domain.schedule import InvalidSchedule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_EPOCH = _EPOCH.replace(tzinfo=None)
_SECOND = timedelta(seconds=1)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")
# Files of the host's database that are no zones of IANA: what this host is set to, and clocks with leap seconds.
_FOREIGN = re.compile(r"(posix|right)/.*|localtime|posixrules|Factory")


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """Raises `InvalidSchedule` for a name that the time zone database doesn't have."""
    if len(name) > 64 or _NAME.fullmatch(name) is None or _FOREIGN.fullmatch(name):
        raise _unknown(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # no such name; no zone; a folder of zones
        raise _unknown(name) from error


def _unknown(name: str) -> InvalidSchedule:
    shown = ascii(name if len(name) <= 64 else f"{name[:64]}...")
    return InvalidSchedule("timeZone", f"is {shown}, which is no time zone of IANA's database, like Europe/London")


def offset_at(zone: ZoneInfo, instant: int) -> int:
    """How many seconds the zone's clock is ahead of UTC."""
    return _seconds((_EPOCH + instant * _SECOND).astimezone(zone).utcoffset())


def wall_at(instant: int, offset: int) -> datetime:
    return _WALL_EPOCH + (instant + offset) * _SECOND


def offsets_around(zone: ZoneInfo, wall: datetime) -> tuple[int, int]:
    """The offsets that this wall time may have, by order in time: they differ in a fold and in a gap.

    In a fold the first is the larger one, in a gap the smaller.
    """
    aware = wall.replace(tzinfo=zone)
    return _seconds(aware.utcoffset()), _seconds(aware.replace(fold=1).utcoffset())


def instants_of(zone: ZoneInfo, wall: datetime) -> tuple[int, ...]:
    """The instants at which the clock shows `wall`, ascending: none in a gap, two in a fold."""
    before, after = offsets_around(zone, wall)
    elapsed = _since_epoch(wall)
    if before == after:
        return (elapsed - before,)
    return (elapsed - before, elapsed - after) if before > after else ()


def change_around(zone: ZoneInfo, wall: datetime) -> tuple[int, datetime]:
    """The instant of the change whose gap or fold `wall` lies in, and what the clock shows from then on."""
    before, after = offsets_around(zone, wall)
    elapsed = _since_epoch(wall)
    # The offset is `before` at `low` and `after` at `high`: the first instant that has `after` lies between.
    low, high = elapsed - max(before, after), elapsed - min(before, after)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == after:
            high = middle
        else:
            low = middle
    return high, wall_at(high, after)


def _since_epoch(wall: datetime) -> int:
    return (wall - _WALL_EPOCH) // _SECOND


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None  # noqa: S101 - a ZoneInfo always knows
    return offset // _SECOND
