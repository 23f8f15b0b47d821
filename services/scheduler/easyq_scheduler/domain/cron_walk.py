"""Where the matches of a cron expression lie on the line of time: clock changes.

croniter walks over naive wall times only, so its own rules for zones, hashes and macros don't count. Instants are whole
seconds since the epoch, UTC. A walk keeps a position while it is asked: one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]

from easyq_scheduler.domain import zones
from easyq_scheduler.domain.cron_fields import LAST, Fields
from easyq_scheduler.domain.fires import Fires, RestOfDay, TimesOfDay

# The rarest match, a fifth Monday in February, comes after up to 40 years.
SEARCH_YEARS = 45
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CronWalk:
    walks: tuple[croniter, ...]  # a wall time that one of them has is a match
    times: TimesOfDay

    def after(self, zone: ZoneInfo, instant: int) -> int | None:
        """The next fire after `instant`; None where it is too far away to have been looked for."""
        return self._next_of_pace(zone, instant) if len(self.times.hours) == 24 else self._next_of_times(zone, instant)

    def rest_of_day(self, zone: ZoneInfo, first: int) -> Fires:
        """`first`, a fire, and those after it on its day; it alone where the clock changes on the rest of that day.

        No zone's clock ever changed twice within a day and back to what it was, so both ends of it tell.
        """
        offset = zones.offset_at(zone, first)
        wall = zones.wall_at(first, offset)
        midnight = first - (wall.hour * 3_600 + wall.minute * 60 + wall.second)
        if wall not in self.times or zones.offset_at(zone, midnight + 86_399) != offset:
            return range(first * 1_000, first * 1_000 + 1)
        return RestOfDay(times=self.times, first=self.times.index(wall), midnight_ms=midnight * 1_000)

    def _next_of_times(self, zone: ZoneInfo, after: int) -> int | None:
        """The first instant of the first match whose first instant is after `after`."""
        wall = zones.wall_at(after, zones.offset_at(zone, after))
        instants = zones.instants_of(zone, wall)
        if len(instants) == 2 and after >= instants[1]:  # within a fold's second pass, where all matches have fired
            change, _ = zones.change_around(zone, wall)
            wall = zones.wall_at(change, zones.offset_at(zone, change - 1)) - _SECOND
        while (found := self._walk(wall)) is not None:
            instants = zones.instants_of(zone, found)
            instant = instants[0] if instants else zones.change_around(zone, found)[0]
            if instant > after:
                return instant
            wall = found
        return None

    def _next_of_pace(self, zone: ZoneInfo, after: int) -> int | None:
        """The first instant after `after` at which the clock shows a match."""
        wall = zones.wall_at(after, zones.offset_at(zone, after))
        found = self._first_shown(zone, wall, after)
        instants = zones.instants_of(zone, wall)
        if len(instants) == 2 and after < instants[1]:
            # Within a fold's first pass: the second one shows again what is not after `wall`.
            change, shown = zones.change_around(zone, wall)
            if found is None or found >= change:
                again = self._first_shown(zone, shown - _SECOND, change - 1)
                found = min((instant for instant in (found, again) if instant is not None), default=None)
        return found

    def _first_shown(self, zone: ZoneInfo, wall: datetime, after: int) -> int | None:
        while (found := self._walk(wall)) is not None:
            instants = [instant for instant in zones.instants_of(zone, found) if instant > after]
            if instants:
                return instants[0]
            wall = found if zones.instants_of(zone, found) else zones.change_around(zone, found)[1] - _SECOND
        return None

    def _walk(self, wall: datetime) -> datetime | None:
        """The first match after `wall`."""
        found = []
        for walk in self.walks:
            try:
                found.append(walk.get_next(datetime, start_time=wall))
            except CroniterBadDateError:
                continue
        return min(found, default=None)


def walk_of(fields: Fields) -> CronWalk:
    times = TimesOfDay(hours=fields.hours, minutes=fields.minutes, seconds=fields.seconds)
    return CronWalk(walks=tuple(_croniter(text) for text in _alternatives(fields)), times=times)


def _alternatives(fields: Fields) -> list[str]:
    """Plain expressions for croniter, which together match what the fields do: for one kind of day each."""
    month = _listed(fields.months, 12)
    days = [*map(str, fields.days or ()), *["l"] * fields.last_day]
    nth = [f"l{day}" if n == LAST else f"{day}#{n}" for day, n in fields.nth_weekdays]
    kinds = []
    if fields.days is None and fields.weekdays is None:
        kinds.append(f"* {month} *")
    if fields.days is not None:
        kinds.append(f"{','.join(days)} {month} *")
    if fields.weekdays:
        kinds.append(f"* {month} {_listed(fields.weekdays, 7)}")
    if nth and fields.weekdays is not None:
        kinds.append(f"* {month} {','.join(nth)}")
    time = f"{_listed(fields.minutes, 60)} {_listed(fields.hours, 24)}"
    seconds = f" {_listed(fields.seconds, 60)}" if fields.subminute else ""
    return [f"{time} {kind}{seconds}" for kind in kinds]


def _listed(values: tuple[int, ...], size: int) -> str:
    return "*" if len(values) == size else ",".join(map(str, values))


@lru_cache(maxsize=4096)
def _croniter(expression: str) -> croniter:
    return croniter(expression, start_time=0.0, max_years_between_matches=SEARCH_YEARS)
