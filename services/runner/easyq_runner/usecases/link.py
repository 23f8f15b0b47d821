"""Keeps the agent's one stream to the farm: hello, beats, orders, reports, and again after each break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import neighbour
from easyq_runner.ports import (
    AgentClock,
    Beat,
    BeatAnswer,
    Goodbye,
    Health,
    Hello,
    Incoming,
    Link,
    LinkStream,
    Orders,
    Parked,
    ReportAnswers,
    Reports,
    UpkeepNews,
)
from easyq_runner.usecases.agent import Agent
from easyq_runner.usecases.lease import LeaseKeeper
from easyq_runner.usecases.outbox import Outbox
from easyq_runner.usecases.waiting import Changes, first_of

# Seconds.
_WELCOME_WITHIN = 10.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# Share of the lease after which a stream whose beats stay unanswered is left for another.
_PATIENCE = 0.6


class LinkKeeper:
    """`run` goes from dispatcher to dispatcher until it is cancelled."""

    def __init__(
        self,
        link: Link,
        addresses: Sequence[str],
        *,
        agent: Agent,
        outbox: Outbox,
        lease: LeaseKeeper,
        clock: AgentClock,
        hello: Callable[[], Hello],
        changes: Sequence[Changes],
    ) -> None:
        self._link = link
        # Many agents that start together do not all go to the first.
        self._addresses = random.sample(addresses, len(addresses))
        self._agent = agent
        self._outbox = outbox
        self._lease = lease
        self._clock = clock
        self._hello = hello
        # Announced when the agent's health may have changed.
        self._health_changes = changes
        self._stream: LinkStream | None = None
        self._was_welcomed = False
        self._parked = asyncio.Event()
        self._again = Changes()
        self._log = get_logger()
        # Any of them: the agent needs one.
        self._dispatchers = neighbour("dispatcher")
        # Silence after which the farm gives this agent up, by its last word.
        self.lost_after = 0.0
        # The farm has confirmed that the agent is to end, and that it has nothing more of it.
        self.drained = asyncio.Event()
        # The link is up, or down.
        self.changes = Changes()

    @property
    def connected(self) -> bool:
        """Whether a dispatcher has welcomed this agent and the stream is open."""
        return self._stream is not None

    def say_hello_again(self) -> None:
        """What the hello said has changed."""
        self._again.announce()

    async def run(self) -> None:
        """Stays connected."""
        failures = 0
        while True:
            address = self._addresses[0]
            try:
                await self._stay(address)
                failures = 0
                continue
            except EasyQError as error:
                failures = 0 if self._was_welcomed else failures + 1
                if self._was_welcomed:
                    self._log.info("link_broken", dispatcher=address, error=error.message)
                self._dispatchers.failed(f"{address}: {error.message}")
            # The next one, at once where this one had served a while.
            self._addresses = [*self._addresses[1:], address]
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**failures)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    async def park(self, timeout: float) -> None:
        """Says goodbye and waits until the session is parked, `timeout` seconds at most."""
        if self._stream is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._stream.send(Goodbye())
                await self._parked.wait()
        except (EasyQError, TimeoutError) as error:
            self._log.warning("not_parked", error=str(error))
            return
        self._lease.park()
        self._log.info("parked")

    # One stay -----------------------------------------------------------------------------------------------------
    async def _stay(self, address: str) -> None:
        """Returns when another hello is due. Raises EasyQError when the stream breaks."""
        self._was_welcomed = False
        sent_at = self._clock.boot()
        self._lease.unpark(sent_at)
        hello = self._hello()
        stream = await self._link.open(address, hello, _WELCOME_WITHIN)
        try:
            welcome = stream.welcome
            self._was_welcomed = True
            self._dispatchers.answered()
            self._log.info("welcomed", dispatcher=address, session=welcome.session, orders=len(welcome.orders))
            self.lost_after = welcome.lost_after
            # What the farm takes away must go before anything may be started; and what is drained starts nothing.
            self._agent.take_upkeep(welcome.upkeep)
            self._agent.begin_session()
            self._agent.obey(welcome.orders)
            self._lease.begin(sent_at=sent_at, start_within=welcome.start_within, lost_after=welcome.lost_after)
            self._outbox.lose()
            self._set_stream(stream)
            beats = Beats(self._lease, self._clock, self._agent, welcome.beat_every, welcome.start_within)
            await first_of(
                self._again.wait(),
                self._receive(stream, beats),
                beats.run(stream),
                self._report(stream),
                self._tell_health(stream, hello.health, beats),
            )
        finally:
            self._set_stream(None)
            await stream.close()

    def _set_stream(self, stream: LinkStream | None) -> None:
        self._stream = stream
        self.changes.announce()

    async def _receive(self, stream: LinkStream, beats: Beats) -> None:
        while True:
            self._take(await stream.receive(), beats)

    def _take(self, message: Incoming, beats: Beats) -> None:
        if isinstance(message, BeatAnswer):
            was_empty = beats.answered(message.number)
            self._agent.take_upkeep(message.upkeep)
            self._agent.obey(message.orders)
            # An answer that was under way when the wish was taken back must not end the agent; what is told here was
            # judged after it was empty.
            if was_empty and self._agent.draining and self._agent.empty:
                self.drained.set()
        elif isinstance(message, ReportAnswers):
            for answer in message.items:
                self._outbox.answer(answer)
        elif isinstance(message, Orders):
            self._agent.obey(message.items)
        elif isinstance(message, UpkeepNews):
            self._agent.take_upkeep(message.upkeep)
        elif isinstance(message, Parked):
            self._parked.set()

    async def _report(self, stream: LinkStream) -> None:
        while True:
            waiting = self._outbox.take()
            if waiting:
                await stream.send(Reports(items=waiting))
            else:
                await self._outbox.changes.wait()

    async def _tell_health(self, stream: LinkStream, told: Health, beats: Beats) -> None:
        while True:
            health = self._agent.health()
            if health != told:
                await stream.send(health)
                # The store learns it by a beat.
                beats.hasten()
                told = health
            else:
                await first_of(*(changes.wait() for changes in self._health_changes))


class Beats:
    """The beats of one stream."""

    def __init__(
        self,
        lease: LeaseKeeper,
        clock: AgentClock,
        agent: Agent,
        every: float,
        start_within: float,
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._agent = agent
        self._every = every
        self._patience = max(2 * every, _PATIENCE * start_within)
        # When those that were not answered yet were sent, and whether the agent was empty then.
        self._sent: dict[int, tuple[float, bool]] = {}
        self._hurry = asyncio.Event()

    def hasten(self) -> None:
        """There is something new to be told: the next beat goes now."""
        self._hurry.set()

    async def run(self, stream: LinkStream) -> None:
        """Sends them. Raises Unavailable when they stay unanswered."""
        number = 0
        told_empty = False
        while True:
            await first_of(self._until_drained(told_empty), self._hurry.wait(), timeout=self._every)
            self._hurry.clear()
            if self._lease.silence() > self._patience:
                raise Unavailable(f"no beat was answered for {self._lease.silence():.1f} s")
            number += 1
            told_empty = self._agent.draining and self._agent.empty
            self._sent[number] = (self._clock.boot(), self._agent.empty)
            await stream.send(Beat(number=number, inventory=self._agent.inventory()))

    async def _until_drained(self, told: bool) -> None:
        """Returns when the next beat is worth an early sending: the agent may end when it is answered."""
        while told or not (self._agent.draining and self._agent.empty):
            await first_of(self._agent.changes.wait(), self._agent.upkeep_changes.wait())
            told = told and self._agent.draining and self._agent.empty

    def answered(self, number: int) -> bool:
        """The farm has committed this beat, and with it those before. Whether the agent was empty when it was sent."""
        found = self._sent.get(number)
        self._sent = {later: sent for later, sent in self._sent.items() if later > number}
        if found is None:
            return False
        sent_at, was_empty = found
        self._lease.renew(sent_at)
        return was_empty
