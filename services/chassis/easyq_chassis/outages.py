"""Neighbours that are away: one line at the beginning, one a minute with a count while it lasts, one at the end.

Whoever asks a neighbour (an adapter) says of each call whether it was answered, so that an end is told only where the
neighbour has answered, and nothing has failed since. Whatever fails because of it (loops, deliveries) has nothing to
add.

    outage_began   neighbour=redis error=...                      WARNING
    outage_lasts   neighbour=redis seconds=60 attempts=118 ...    WARNING, once a minute
    outage_ended   neighbour=redis seconds=97 attempts=190 ...    INFO
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from easyq_chassis import logs
from easyq_chassis.errors import DeadlineExceeded, Unavailable

#: What a neighbour raises that is away, or too slow to be of use: nothing that a stack trace would explain.
OUTAGES = (Unavailable, DeadlineExceeded)
#: Seconds between two lines about an outage that lasts.
EVERY = 60.0
#: Outages of one neighbour that are told in that time; those that follow are counted with the next line.
MOST_TOLD = 3
#: Seconds from the first call on in which a neighbour may still be starting, as services of a machine do together.
STARTING = 10.0
#: Seconds for which nothing may have failed before it is back: longer than loops wait between two tries, so that what
#: works for some of those who ask, and not for others, is one outage.
SETTLED = 6.0
# Seconds between two looks at what is away.
_LOOK = 2.0


class Neighbour:
    """One that this process asks: how long it has been away, and what was told of that. Safe for threads.

    `began` and `ended`: the events at the beginning and at the end; `settled`: after how many seconds without a failure
    it has come; `starting`: how long it may take to come at first. `now` gives seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        *,
        began: str = "outage_began",
        ended: str = "outage_ended",
        settled: float = SETTLED,
        starting: float = STARTING,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._events = (began, ended)
        self._settled = settled
        self._starting = starting
        self._now = now
        self._lock = threading.Lock()
        self._log = logs.get_logger()
        # When it was asked first, and answered last; None: never.
        self._first: float | None = None
        self._heard: float | None = None
        # Since when it has been away, when it failed last, and when it answered since then.
        self._since: float | None = None
        self._failed = 0.0
        self._again: float | None = None
        self._error = ""
        # Failed attempts of this outage, and those since the last line about it.
        self._attempts = self._unsaid = 0
        # When the last line about this outage came; None: it has had none.
        self._told: float | None = None
        # Beginnings that were told lately, and outages since then of which nothing was told.
        self._beginnings: deque[float] = deque(maxlen=MOST_TOLD)
        self._untold = 0

    @property
    def away(self) -> bool:
        """Whether there is an outage, or one has ended a moment ago."""
        return self._since is not None

    def answered(self) -> None:
        """It did, if only with an error of its own."""
        self._heard = self._now()
        if self._first is None:
            self._first = self._heard
        if self._since is None:
            return
        with self._lock:
            if self._again is None:
                self._again = self._heard
            self._end_if_settled(self._heard)

    def failed(self, error: str, *, asked: float | None = None) -> None:
        """It did not answer, or can't do its work. `asked`: when it was asked, as `now` gives it.

        Where another was answered since then, this is no outage: the asker has to tell of it.
        """
        with self._lock:
            now = self._now()
            if self._first is None:
                self._first = now
            if self._since is None:
                if asked is not None and self._heard is not None and asked < self._heard:
                    return
                self._since, self._told, self._again = now, None, None
                self._attempts = self._unsaid = 0
            self._attempts += 1
            self._unsaid += 1
            self._error, self._failed, self._again = error, now, None
            if self._told is None:
                self._begin(now)

    def tell(self) -> None:
        """Says what is due: that it is still away. To be called every few seconds."""
        with self._lock:
            now = self._now()
            self._end_if_settled(now)
            if self._since is None:
                if self._untold and now - self._beginnings[-1] >= EVERY:
                    self._log.info(self._events[1], neighbour=self.name, error=self._error, outages=self._take_untold())
            elif self._told is None:
                self._begin(now)
            elif self._unsaid and now - self._told >= EVERY:
                self._told = now
                self._warn("outage_lasts", seconds=round(now - self._since), attempts=self._unsaid)
                self._unsaid = 0

    def _begin(self, now: float) -> None:
        assert self._since is not None  # noqa: S101 - for the type checker
        assert self._first is not None  # noqa: S101 - the same
        if now - self._first < self._starting:
            return
        if len(self._beginnings) == MOST_TOLD and now - self._beginnings[0] < EVERY:
            return
        self._beginnings.append(now)
        self._told = now
        self._unsaid = 0
        lasts = round(now - self._since)
        self._warn(self._events[0], seconds=lasts or None, outages=self._take_untold())

    def _end_if_settled(self, now: float) -> None:
        if self._since is None or self._again is None or now - self._failed < self._settled:
            return
        lasted, self._since, self._again = self._again - self._since, None, None
        if self._told is None:
            # One that was starting had no outage: it has come.
            self._untold += bool(self._beginnings)
            return
        # Before the end, since what is held back of it would look like another outage after it.
        logs.tell_held_back()
        told = {"seconds": round(lasted, 1), "attempts": self._attempts, "last_error": self._error}
        self._log.info(self._events[1], neighbour=self.name, **told)

    def _warn(self, event: str, **fields: object) -> None:
        told = {name: value for name, value in fields.items() if value is not None}
        self._log.warning(event, neighbour=self.name, error=self._error, bounded=False, **told)

    def _take_untold(self) -> int | None:
        untold, self._untold = self._untold, 0
        return untold or None


_neighbours: dict[str, Neighbour] = {}


def neighbour(name: str) -> Neighbour:
    """The neighbour of this process that is called so; the same one for all who ask it."""
    return _neighbours.setdefault(name, Neighbour(name))


def watch_over(one: Neighbour) -> None:
    """Has `watch` tell of this one too, which nobody else asks, instead of an earlier one of its name."""
    _neighbours[one.name] = one


def any_away() -> bool:
    """Whether this process waits for a neighbour: lines about it come from here."""
    return any(one.away for one in _neighbours.values())


@contextmanager
def asking(one: Neighbour, *, least: float = 0.0) -> Iterator[None]:
    """Around a call that raises our errors: notes whether the neighbour answered.

    `least`: seconds that a call must have had before its being late says anything of the neighbour.
    """
    asked = time.monotonic()
    try:
        yield
    except DeadlineExceeded as error:
        if time.monotonic() - asked >= least:
            one.failed(error.message, asked=asked)
        raise
    except Unavailable as error:
        one.failed(error.message, asked=asked)
        raise
    except Exception:
        one.answered()
        raise
    else:
        one.answered()


async def watch() -> None:
    """Tells of what goes on being away. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(_LOOK)
        for one in list(_neighbours.values()):
            one.tell()
