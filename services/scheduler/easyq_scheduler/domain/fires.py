"""Many fires in little room: those of a day that has 86,400 of them must not become a list of 86,400."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Fires(Protocol):
    """Consecutive nominal times, ms since the epoch, ascending. A `range` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TimesOfDay:
    """The times of day that fit hours, minutes and seconds (each ascending): all combinations."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def __getitem__(self, index: int) -> int:
        """The `index`-th time, as seconds since midnight."""
        rest, second = divmod(index, len(self.seconds))
        hour, minute = divmod(rest, len(self.minutes))
        return self.hours[hour] * 3600 + self.minutes[minute] * 60 + self.seconds[second]

    def __contains__(self, time: datetime) -> bool:
        return time.hour in self.hours and time.minute in self.minutes and time.second in self.seconds

    def index(self, time: datetime) -> int:
        """The place of the time of day of `time`, which must be one of these."""
        hour, minute = self.hours.index(time.hour), self.minutes.index(time.minute)
        return (hour * len(self.minutes) + minute) * len(self.seconds) + self.seconds.index(time.second)


@dataclass(frozen=True, kw_only=True, slots=True)
class RestOfDay:
    """The fires of one local day from its `first`-th on, where midnight is (or would be) at `midnight_ms`."""

    times: TimesOfDay
    first: int
    midnight_ms: int

    def __len__(self) -> int:
        return len(self.times) - self.first

    def __getitem__(self, index: int, /) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.midnight_ms + self.times[self.first + index] * 1_000
