"""The agents whose streams this dispatcher holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from easyq_chassis.errors import Aborted, Unavailable
from easyq_dispatcher.domain.agents import Agent
from easyq_dispatcher.domain.records import Seat
from easyq_dispatcher.messages import is_cordoned
from easyq_dispatcher.usecases.outbox import Outbox
from easyq_internal.store.v1.records_pb2 import Upkeep


class AgentLink:
    """One stream: the agent as last heard of, and what is to be sent to it. `quiet` is set while no assign for it is
    under way; `upkeep` is the newest wish about it that is known."""

    def __init__(self, agent: Agent, upkeep: Upkeep | None = None) -> None:
        self.agent = agent.with_cordon(is_cordoned(upkeep))
        self.upkeep = upkeep
        self.outbox = Outbox()
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._assigning = 0

    def count_assigns(self, change: int) -> None:
        """So many more (or fewer) assigns are under way for it."""
        self._assigning += change
        if self._assigning:
            self.quiet.clear()
        else:
            self.quiet.set()


class Roster:
    """Links by agent. `wake` is called when an agent may have become free for work."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._links: dict[str, AgentLink] = {}
        # The news of agents, here or not: one that says hello at this moment may have been welcomed with an older word.
        self._news: dict[str, Upkeep] = {}
        self._wake = wake

    def add(self, link: AgentLink) -> None:
        """Takes a link in; an older one of the same agent ends."""
        old = self._links.get(link.agent.agent_id)
        self._links[link.agent.agent_id] = link
        if news := self._news.get(link.agent.agent_id):
            self._heed(link, news)
        if old:
            old.outbox.close(Aborted("another stream of the same agent is newer"))
        self._wake()

    def remove(self, link: AgentLink) -> None:
        """Forgets a link, unless a newer one has taken its place."""
        if self._links.get(link.agent.agent_id) is link:
            del self._links[link.agent.agent_id]

    def get(self, agent_id: str, session: int | None = None) -> AgentLink | None:
        """The agent's link; with `session` only if it is of that one."""
        link = self._links.get(agent_id)
        return link if link and session in {None, link.agent.session} else None

    def links(self) -> list[AgentLink]:
        """All links, by agent."""
        return [self._links[name] for name in sorted(self._links)]

    def update(self, link: AgentLink, agent: Agent) -> None:
        """Replaces what is known of an agent; one that takes work again is matched at once."""
        takes_again = agent.takes_work and not link.agent.takes_work
        link.agent = agent
        if takes_again:
            self._wake()

    def news(self, agent_id: str, upkeep: Upkeep) -> AgentLink | None:
        """An operator's wish that was just recorded. The agent's link, if it is here and knew nothing newer."""
        known = self._news.get(agent_id)
        if known is None or upkeep.version >= known.version:
            self._news[agent_id] = upkeep
        link = self.get(agent_id)
        return link if link and self._heed(link, upkeep) else None

    def heard(self, agent_id: str, session: int, upkeep: Upkeep | None) -> None:
        """What the store said of the wish, with an answer to the agent in that session; maybe older than the news."""
        if link := self.get(agent_id, session):
            self._heed(link, upkeep)

    def cordon(self, agent_id: str, session: int) -> None:
        """The store refused it work, because it is cordoned; the wish itself comes with news or a beat."""
        if link := self.get(agent_id, session):
            self.update(link, link.agent.with_cordon(True))

    def _heed(self, link: AgentLink, upkeep: Upkeep | None) -> bool:
        """Obeys a wish, unless a newer one is known."""
        if _version(upkeep) < _version(link.upkeep):
            return False
        link.upkeep = upkeep
        self.update(link, link.agent.with_cordon(is_cordoned(upkeep)))
        return True

    def seats(self) -> list[Seat]:
        """Agents that take work and have room as far as known, those with the most room first."""
        open_links = [link for link in self._links.values() if link.agent.takes_work and link.agent.room > 0]
        open_links.sort(key=lambda link: -link.agent.room)
        return [link.agent.seat() for link in open_links]

    def set_rooms(self, seats: Iterable[Seat], rooms: Iterable[int]) -> None:
        """The index told how much room is left at each seat."""
        for seat, room in zip(seats, rooms, strict=True):
            if link := self.get(seat.agent_id, seat.session):
                link.agent = link.agent.with_room(room)

    def freed(self, link: AgentLink, slots: int) -> None:
        """Slots of an agent fell free."""
        link.agent = link.agent.with_room(link.agent.room + slots)
        self._wake()

    def assume_room(self) -> None:
        """Lets the index look at every agent again: places may have been freed by others."""
        for link in self._links.values():
            link.agent = link.agent.with_room(link.agent.slots)

    def dismiss(self) -> None:
        """This dispatcher stops: agents shall look for another one."""
        for link in self._links.values():
            link.outbox.close(Unavailable("this dispatcher stops"))


def _version(upkeep: Upkeep | None) -> int:
    return upkeep.version if upkeep is not None else 0
