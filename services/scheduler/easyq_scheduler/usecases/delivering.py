"""Sends notifications: what is due is claimed, sent beside each other within bounds, and its result recorded.

A claim is a lease: whoever dies between sending and recording leaves the delivery to the next, which sends it again
under the same id. So each is sent at least once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError
from easyq_chassis.faults import point
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics import REGISTRY
from easyq_internal.store.v1.delivery_store_pb2 import ClaimedDelivery
from easyq_scheduler import convert_notices as convert
from easyq_scheduler.domain.hook import Answer
from easyq_scheduler.domain.tries import Tries
from easyq_scheduler.ports import Deliveries, Sender

log = get_logger()

# Seconds between two tries to record a result; the later ones come more rarely.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


_ATTEMPTS = REGISTRY.histogram(
    "easyq.notification.attempt.duration",
    "How long attempts to notify took, by their outcome: delivered, failed (tried again), refused (for good).",
    labels=("channel", "outcome"),
)
_GIVEN_UP = REGISTRY.counter(
    "easyq.notifications.given_up",
    "Notifications that nobody took, and that are not tried again.",
    unit="{notification}",
    labels=("channel",),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Deliveries under way at once, in all, of one lane (a host, or e-mail) and of one site (hosts below one domain);
    seconds that a claim holds.
    """

    workers: int
    per_lane: int
    per_site: int
    lease: float


class DeliveryRound:
    """Claims what there is room for, and hands it to tasks of its own: a slow receiver holds up its lane only."""

    def __init__(
        self,
        *,
        store: Deliveries,
        senders: Mapping[str, Sender],
        tries: Tries,
        bounds: Bounds,
        share: Callable[[], float],
        longest: float,
        room: Callable[[], None],
    ) -> None:
        """`senders` by the name of the target's field; `room` is called whenever one has ended."""
        self._store = store
        self._senders = senders
        self._tries = tries
        self._bounds = bounds
        self._share = share
        self._longest = longest
        self._room = room
        self._lanes: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run_once(self) -> float:
        """One page of claims; seconds until the next round. Raises Unavailable while the store is away."""
        free = self._bounds.workers - len(self._tasks)
        if free <= 0:
            return self._longest
        claims = await self._store.claim(
            limit=free,
            lease=self._bounds.lease,
            per_lane=self._bounds.per_lane,
            per_site=self._bounds.per_site,
            under_way=+self._lanes,
        )
        until = time.monotonic() + self._bounds.lease
        for item in claims.items:
            self._lanes[item.lane] += 1
            task = asyncio.create_task(self._deliver(item, until), name=f"deliver:{item.delivery_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        next_in = convert.seconds_until(claims)
        # While there is more than room for, the end of one that is under way brings the next round.
        return min(self._longest, next_in) if next_in or not self._tasks else self._longest

    async def close(self, grace: float) -> None:
        """Lets those under way come to their end within `grace` seconds; the rest is left to the next scheduler."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, item: ClaimedDelivery, until: float) -> None:
        try:
            answer = await self._answer(item)
            await point("scheduler.after_send")
            await self._record(item, answer, until)
        finally:
            self._lanes[item.lane] -= 1
            self._room()

    async def _answer(self, item: ClaimedDelivery) -> Answer:
        began = time.perf_counter()
        answer = await self._sent(item)
        outcome = "delivered" if answer.delivered else "refused" if answer.final else "failed"
        _ATTEMPTS.record(time.perf_counter() - began, item.WhichOneof("target") or "", outcome)
        return answer

    async def _sent(self, item: ClaimedDelivery) -> Answer:
        sender = self._senders.get(item.WhichOneof("target") or "")
        if sender is None:
            return Answer(error="this version doesn't know how to send it", final=True)
        try:
            return await sender.send(item)
        except Exception as error:
            log.error("delivery_broke", delivery=item.delivery_id, error=type(error).__name__, exc_info=error)
            return Answer(error=f"EasyQ failed to send it: {type(error).__name__}")

    async def _record(self, item: ClaimedDelivery, answer: Answer, until: float) -> None:
        wait = None
        if not (answer.delivered or answer.final):
            age = item.age.ToMilliseconds() / 1000
            wait = self._tries.wait(item.tries, age, self._share(), answer.wait)
        if not answer.delivered and wait is None:
            _GIVEN_UP.add(1, item.WhichOneof("target") or "")
        told = log.info if answer.delivered else log.warning
        told(
            "delivered" if answer.delivered else "not_delivered",
            delivery=item.delivery_id,
            job=item.execution.job_id,
            lane=item.lane,
            attempt=item.attempt,
            code=answer.code or None,
            error=answer.error or None,
            retry_in=None if wait is None else round(wait, 1),
        )
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._store.record(convert.result(item, answer, wait))
                return
            except EasyQError as error:
                if time.monotonic() + pause > until:
                    # Whoever claims it next sends it again.
                    log.warning("delivery_not_recorded", delivery=item.delivery_id, error=error.message)
                    return
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
