"""The scheduler's start, which may come before the store's."""

from __future__ import annotations

import asyncio
import random

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_scheduler.ports import TimeStore

log = get_logger()


class StoreWait:
    """Waits for a store that is not there yet. One that stays away is an outage (`easyq_chassis.outages`).

    `address` is said in the log; `pause` are the most seconds between two looks.
    """

    def __init__(self, *, store: TimeStore, address: str, clock: Clock, pause: float) -> None:
        self._store = store
        self._address = address
        self._clock = clock
        self._pause = pause

    async def until_there(self) -> None:
        """Returns once the store answers, if only with an error of its own."""
        began, waits = self._clock.monotonic(), False
        while await self._is_away():
            if not waits:
                log.info("waits_for_store", store=self._address)
                waits = True
            await asyncio.sleep(self._pause * (0.5 + random.random() / 2))  # noqa: S311 - spreading load, not a secret
        if waits:
            log.info("store_is_there", store=self._address, seconds=round(self._clock.monotonic() - began, 1))

    async def _is_away(self) -> bool:
        try:
            await self._store.list_due(1)
        except OUTAGES:
            return True
        except EasyQError:
            return False
        return False
