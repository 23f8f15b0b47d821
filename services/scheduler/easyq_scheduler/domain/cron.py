"""When a recurring job fires: pure functions of a schedule and an instant (ms since the epoch, UTC).

An expression is one of

- five or six fields, as `cron_fields` has them;
- ``@yearly``, ``@annually``, ``@monthly``, ``@weekly``, ``@daily``, ``@midnight``, ``@hourly``: fixed, not hashed;
- ``@every 1h30m``: the anchor and every multiple of the period after it, whatever clocks on walls show.

Clock changes: a job fires once per match of the wall clock.

- Where the hour is restricted, a time of day is meant: in the autumn fold it fires at the first of the two instants; in
  the spring gap it fires at the gap's end, and all the times that lie in one gap fire there as one.
- Where every hour fits (``*``, ``0-23``, ``*/1``), a pace is meant: it fires at each instant at which the clock shows a
  match. So a fold, which has its wall times twice, fires twice, and a gap adds nothing.

Parsed expressions are cached, and a cached one keeps a position while it is asked: one thread at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from easyq.durations import parse_duration
from easyq_scheduler.domain import zones
from easyq_scheduler.domain.admission import LATEST_MS, TEN_YEARS_MS
from easyq_scheduler.domain.cron_fields import LONGEST, parse_fields, uses_hash
from easyq_scheduler.domain.cron_walk import SEARCH_YEARS, CronWalk, walk_of
from easyq_scheduler.domain.fires import Fires
from easyq_scheduler.domain.schedule import InvalidSchedule, Schedule

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_PRINTABLE = re.compile(r"[\x20-\x7e\t]*")
_EVERY = re.compile(r"@every[ \t]+(?P<period>.+)", re.IGNORECASE)
_EARLIEST_S = -2_208_988_800  # 1900: an instant before it counts as it
_LAST_SEARCHED_S = LATEST_MS // 1_000 - (SEARCH_YEARS + 1) * 366 * 86_400


def validate(schedule: Schedule) -> None:
    """Raises `InvalidSchedule` where the schedule can't be evaluated, or would never fire."""
    _parsed(schedule)
    zones.load_zone(schedule.zone)


def next_fire(schedule: Schedule, after_ms: int) -> int | None:
    """The smallest nominal time strictly after `after_ms`; None where the calendar (year 9999) ends before it.

    Raises `InvalidSchedule` as `validate` does: a stored schedule's zone may have left the database since.
    """
    parsed = _parsed(schedule)
    zone = zones.load_zone(schedule.zone)
    if isinstance(parsed, _Every):
        following = parsed.after(schedule.anchor_ms, after_ms)
        return following if following <= LATEST_MS else None
    after = max(after_ms // 1_000, _EARLIEST_S)
    if after > _LAST_SEARCHED_S:
        return None
    found = parsed.after(zone, after)
    return None if found is None else found * 1_000


def next_fires(schedule: Schedule, after_ms: int) -> Fires:
    """The next fire, and those that follow without any in between: to the end of its local day, or at a fixed pace.

    Empty where there is none. The same times as `next_fire` gives one by one, for the price of a single one.
    """
    first = next_fire(schedule, after_ms)
    if first is None:
        return range(0)
    parsed = _parsed(schedule)
    if isinstance(parsed, _Every):
        return range(first, LATEST_MS + 1, parsed.period_ms)
    return parsed.rest_of_day(zones.load_zone(schedule.zone), first // 1_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Every:
    period_ms: int

    def after(self, anchor_ms: int, after_ms: int) -> int:
        return anchor_ms + max(0, (after_ms - anchor_ms) // self.period_ms + 1) * self.period_ms


def _parsed(schedule: Schedule) -> CronWalk | _Every:
    expression = schedule.expression
    if len(expression) > LONGEST:
        raise InvalidSchedule("cron", f"is longer than {LONGEST} characters")
    return _parse(expression, schedule.job_id if uses_hash(expression) else "")


@lru_cache(maxsize=4096)
def _parse(expression: str, job_id: str) -> CronWalk | _Every:
    if _PRINTABLE.fullmatch(expression) is None:
        raise InvalidSchedule("cron", "holds something else than the letters, digits and signs of a cron expression")
    expression = expression.strip()
    if match := _EVERY.fullmatch(expression):
        return _Every(period_ms=_period(match["period"]))
    if expression.startswith("@"):
        if expression.lower() not in _MACROS:
            raise InvalidSchedule("cron", f"is none of @every, {', '.join(_MACROS)}")
        expression = _MACROS[expression.lower()]
    return walk_of(parse_fields(expression, job_id))


def _period(text: str) -> int:
    try:
        period = parse_duration(text)
    except ValueError as error:
        raise InvalidSchedule("cron", f"has a period that {error}") from error
    if not 1_000 <= period <= TEN_YEARS_MS:
        raise InvalidSchedule("cron", "has a period that is not between a second and ten years")
    return period
