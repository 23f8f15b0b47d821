"""Agents with connections of their own, each of which a test can cut in either direction, strand, or slow down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.nemesis.proxy import Network
from tests.support import process
from tests.support.farm import SplitFarm
from tests.support.farm.split import RunnerService
from tests.support.farm.up import EASYQ, Engine
from tests.support.netns import NetworkNamespace


class Links(Network):
    """With `namespace`, callers find the proxies on the loopback interface there, and the services behind them here."""

    def __init__(self, namespace: NetworkNamespace | None = None) -> None:
        super().__init__()
        self._namespace = namespace

    async def _listen(self, link: str, port: int) -> str:
        address = await super()._listen(link, port)
        if self._namespace is None:
            return address
        listener = self._namespace.listen()
        self._servers.append(await asyncio.start_server(self._by_link[link][-1].serve, sock=listener))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def strand(self, link: str) -> None:
        """Open connections go on without a peer: nothing passes, and nobody closes them. New ones are whole."""

        async def change() -> None:
            for proxy in self._by_link[link]:
                proxy.up.clear()
                proxy.down.clear()
                proxy.up, proxy.down = asyncio.Event(), asyncio.Event()
                proxy.up.set()
                proxy.down.set()

        self._call(change())


@dataclass(frozen=True, kw_only=True)
class Place:
    """An agent to be: an engine, which several may share, and the pools that the agent joins."""

    label: str
    url: str
    pools: str = "default"


class _Agent(RunnerService):
    namespace: NetworkNamespace | None = None

    def command(self) -> list[str | Path]:
        inside = self.namespace.command if self.namespace else []
        return [*inside, EASYQ, self.name]


class LinkedFarm(SplitFarm):
    """Each agent reaches the store by the link `<label>-store` and a dispatcher by `<label>-dispatcher-<number>`."""

    def __init__(
        self, places: Sequence[Place], *, links: Links, namespace: NetworkNamespace | None = None, **more: Any
    ) -> None:
        self.links = links
        self._namespace = namespace
        super().__init__(places, **more)

    def _runner(self, host: Engine, dispatchers: list[str], store: str) -> RunnerService:
        plain = super()._runner(
            host,
            [self.links.between(name, one) for name, one in zip(self.ways(host.label), dispatchers, strict=False)],
            self.links.between(f"{host.label}-store", store),
        )
        process.remove_folder(plain.folder)
        assert isinstance(host, Place)
        agent = _Agent("runner", settings={**plain.settings, "pools": host.pools}, mark=str(self.folder))
        agent.namespace = self._namespace
        return agent

    def ways(self, label: str) -> list[str]:
        """An agent's links to the dispatchers, in their order."""
        return [f"{label}-dispatcher-{number}" for number in range(len(self.dispatchers))]

    def agent(self, label: str) -> RunnerService:
        [found] = [one for one in self.runners if one.settings["agent_id"] == f"agent-{label}"]
        return found

    def shown(self, label: str) -> dict[str, Any]:
        """The agent as the API shows it."""
        shown: dict[str, Any] = self.rest.get(f"/agents/agent-{label}")
        return shown
