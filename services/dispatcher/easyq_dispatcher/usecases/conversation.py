"""One agent's stream, from hello to goodbye (DESIGN part 5, steps 3 to 6 and 12 to 15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import structlog

from easyq_chassis.errors import Aborted, EasyQError, FailedPrecondition, FieldProblem, InvalidArgument, Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.domain.agents import PROTOCOL, Agent, Hello, hello_problems, protocol_problem
from easyq_dispatcher.domain.matching import DEFAULT_POOL
from easyq_dispatcher.messages import (
    Acknowledged,
    Beat,
    Farewell,
    Goodbye,
    HealthChange,
    Incoming,
    Outgoing,
    Reports,
    Welcome,
    Wish,
)
from easyq_dispatcher.ports import Beat as StoreBeat
from easyq_dispatcher.ports import FarmStore
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_dispatcher.usecases.roster import AgentLink, Roster
from easyq_dispatcher.usecases.rulebook import Rulebook
from easyq_internal.store.v1.records_pb2 import Upkeep

log = get_logger()

# Messages of one agent that may be on their way to the store at once; beyond it the stream's own flow control holds.
_MOST_UNDER_WAY = 32


class Conversations:
    """Talks with agents. It relays between them and the store, and tells index and matcher what follows."""

    def __init__(
        self,
        *,
        store: FarmStore,
        roster: Roster,
        ledger: Ledger,
        rules: Rulebook,
        beat_every_ms: int,
        lease_ms: int,
        park_patience: float,
    ) -> None:
        self._store = store
        self._roster = roster
        self._ledger = ledger
        self._rules = rules
        self._beat_every_ms = beat_every_ms
        self._lease_ms = lease_ms
        self._park_patience = park_patience
        self._heard: set[asyncio.Task[None]] = set()

    def wish(self, agent_id: str, upkeep: Upkeep) -> None:
        """An operator's wish about an agent, which is told if it is connected here and nothing newer is known."""
        if link := self._roster.news(agent_id, upkeep):
            log.info("agent_upkeep", agent=agent_id, cordoned=upkeep.cordoned, draining=upkeep.draining)
            link.outbox.put(Wish(upkeep=upkeep))

    async def talk(self, incoming: AsyncIterator[Incoming]) -> AsyncIterator[Outgoing]:
        """Answers one agent's stream until either end closes it.

        Raises InvalidArgument (no valid hello), FailedPrecondition (protocol, or the agent's name belongs to another
        daemon), Unavailable (store away), Aborted (fenced).
        """
        link, welcome = await self._greet(await self._first(incoming))
        listener = asyncio.create_task(self._listen(link, incoming), name=f"agent:{link.agent.agent_id}")
        try:
            yield welcome
            async with aclosing(link.outbox.messages()) as messages:
                async for message in messages:
                    yield message
        finally:
            self._roster.remove(link)
            listener.cancel()
            log.info("agent_gone", agent=link.agent.agent_id, session=link.agent.session)

    @staticmethod
    async def _first(incoming: AsyncIterator[Incoming]) -> Hello:
        first = await anext(incoming, None)
        if not isinstance(first, Hello):
            raise InvalidArgument("the first message has to be a hello")
        problems = hello_problems(first)
        if problems:
            raise InvalidArgument(
                "the hello is wrong: " + "; ".join(f"{name}: {text}" for name, text in problems),
                fields=[FieldProblem(field=f"hello.{name}", message=text) for name, text in problems],
            )
        if problem := protocol_problem(first):
            raise FailedPrecondition(problem, reason="NOT_SUPPORTED")
        return first

    async def _greet(self, hello: Hello) -> tuple[AgentLink, Welcome]:
        pools = hello.pools or (DEFAULT_POOL,)
        lost_after_ms = self._rules.matching.lost_after_ms(pools)
        session = await self._store.open_session(hello, pools=pools, lost_after_ms=lost_after_ms)
        link = AgentLink(Agent.from_hello(hello, session=session.number, pools=pools), session.upkeep)
        self._roster.add(link)
        log.info("agent_here", agent=hello.agent_id, session=session.number, pools=pools, slots=hello.slots)
        for name in pools:
            if name not in self._rules.matching.pool_by_name:
                log.warning("agent_pool_unknown", agent=hello.agent_id, pool=name)
        welcome = Welcome(
            session=session.number,
            protocol=PROTOCOL,
            beat_every_ms=self._beat_every_ms,
            lease_ms=self._lease_ms,
            lost_after_ms=lost_after_ms,
            directives=session.directives,
            upkeep=link.upkeep,
        )
        return link, welcome

    async def _listen(self, link: AgentLink, incoming: AsyncIterator[Incoming]) -> None:
        """Hears the agent until it ends its side. What it said goes to the store even if it is gone by then."""
        structlog.contextvars.bind_contextvars(agent=link.agent.agent_id)
        room = asyncio.Semaphore(_MOST_UNDER_WAY)
        try:
            while (message := await self._next(incoming)) is not None:
                await room.acquire()
                task = asyncio.create_task(self._hear_safely(link, message), name=f"heard:{link.agent.agent_id}")
                self._heard.add(task)
                task.add_done_callback(self._heard.discard)
                task.add_done_callback(lambda _: room.release())
            for _ in range(_MOST_UNDER_WAY):
                await room.acquire()
        except EasyQError as error:
            link.outbox.close(error)
        except TimeoutError:
            # It starts nothing now, so that it must be given nothing. Nobody closes the stream of a process that is
            # stopped, or of a host that is gone.
            log.warning("agent_silent", session=link.agent.session)
            link.outbox.close(Unavailable(f"nothing was heard for {self._lease_ms / 1000:g} s"))
        finally:
            self._roster.remove(link)
            link.outbox.close()

    async def _next(self, incoming: AsyncIterator[Incoming]) -> Incoming | None:
        """None at the end. Raises TimeoutError where the agent says nothing for as long as its lease."""
        async with asyncio.timeout(self._lease_ms / 1000):
            return await anext(incoming, None)

    async def _hear_safely(self, link: AgentLink, message: Incoming) -> None:
        try:
            await self._hear(link, message)
        except EasyQError as error:
            link.outbox.close(error)

    async def _hear(self, link: AgentLink, message: Incoming) -> None:
        match message:
            case Beat():
                await self._beat(link, message)
            case Reports():
                await self._report(link, message)
            case HealthChange():
                log.info("agent_health", healthy=message.healthy, message=message.message)
                self._roster.update(link, link.agent.with_health(healthy=message.healthy, message=message.message))
            case Goodbye():
                await self._park(link)
            case Hello():
                raise InvalidArgument("a hello is only the first message of a stream")

    async def _beat(self, link: AgentLink, beat: Beat) -> None:
        agent = link.agent.with_inventory(beat.inventory)
        self._roster.update(link, agent)
        try:
            answer = await self._store.beat(
                StoreBeat(
                    agent_id=agent.agent_id,
                    session=agent.session,
                    inventory=beat.inventory,
                    healthy=agent.healthy and not agent.leaving,
                    message=agent.message,
                    slots=agent.slots,
                )
            )
        except EasyQError as error:
            # No acknowledgement: the agent's lease runs on from the last one, and its next beat comes soon.
            tell = log.debug if isinstance(error, OUTAGES) else log.warning
            tell("beat_unanswered", number=beat.number, error=error.message)
            return
        if answer.fenced:
            raise Aborted("the session is not the agent's newest, or has ended: say hello again")
        self._roster.heard(agent.agent_id, agent.session, answer.upkeep)
        link.outbox.put(Acknowledged(number=beat.number, directives=answer.directives, upkeep=link.upkeep))

    async def _report(self, link: AgentLink, reports: Reports) -> None:
        answers = await self._store.report(link.agent.agent_id, link.agent.session, reports.items)
        link.outbox.results([answer.result for answer in answers])
        released = [answer.released for answer in answers if answer.released]
        self._ledger.omens(answer.omen for answer in answers if answer.omen)
        self._ledger.released(released)
        self._ledger.ready(answer.ready for answer in answers if answer.ready)
        if released:
            self._roster.freed(link, len(released))

    async def _park(self, link: AgentLink) -> None:
        """Takes nothing more for it, lets what is under way reach it, and lets its lease stand still."""
        self._roster.update(link, link.agent.goodbye())
        with suppress(TimeoutError):
            async with asyncio.timeout(self._park_patience):
                await link.quiet.wait()
        await self._store.park_session(link.agent.agent_id, link.agent.session)
        log.info("agent_parked", session=link.agent.session)
        link.outbox.put(Farewell())
        link.outbox.close()
