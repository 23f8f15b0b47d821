"""Agents of a test's own, in a pool of its own, which it may drain, kill and break."""

import os
import signal
from pathlib import Path
from typing import Any

from tests.e2e.rules import RulesText
from tests.support.farm import SplitFarm
from tests.support.farm.split import RunnerService
from tests.support.farm.up import Engine
from tests.support.process import alive
from tests.support.waiting import wait_until

_POOL = '[[pool]]\nname = "{0}"\npattern = "{0}.*"\n{1}\n'


class Agent(RunnerService):
    """One `easyq runner` with its watchdog."""

    @property
    def agent_id(self) -> str:
        return self.settings["agent_id"]

    def wait_exit(self, timeout: float = 30) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill_both(self) -> None:
        """SIGKILL to the watchdog and the agent, as when a host loses its power; containers stay."""
        pids = [self.pid, self.agent_pid]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), message="they are dead")
        self.wait_exit()


class Agents:
    """`agents.start(host)` gives a connected agent of the pool `name`, which serves the tasks whose names begin so."""

    def __init__(self, farm: SplitFarm, rules: RulesText, name: str) -> None:
        self.farm = farm
        self.name = name
        self.rules = rules
        self._all: list[Agent] = []
        self.rule()

    def rule(self, more: str = "", *, pool: str = "") -> None:
        """Writes the rules: the pool with what `pool` says of it, and `more`."""
        self.rules.write(_POOL.format(self.name, pool) + more)

    def start(self, host: Engine, *, wait: bool = True, **settings: Any) -> Agent:
        agent_id = f"{self.name}-{len(self._all)}"
        common = self.farm.runners[0].settings
        agent = Agent(
            "runner",
            settings={
                **{name: common[name] for name in ("dispatchers", "store", "allowed_mounts")},
                "docker_host": host.url,
                "data": str(Path(self.farm.folder) / f"agent-{agent_id}"),
                "agent_id": agent_id,
                "slots": "2",
                "pools": self.name,
                **{name: str(value) for name, value in settings.items()},
            },
            mark=str(self.farm.folder),
        )
        self._all.append(agent)
        agent.start()
        if wait:
            wait_until(lambda: self.shown(agent)["healthy"], 30, message=f"{agent_id} is healthy")
        return agent

    def shown(self, agent: Agent) -> Any:
        """What the API tells of it."""
        return self.farm.rest.get(f"/agents/{agent.agent_id}")

    def close(self) -> None:
        """Parks all of them side by side: to say goodbye takes time, and one that only vanished would be missed."""
        for agent in self._all:
            if agent.running:
                agent.thaw()
                os.kill(agent.pid, signal.SIGTERM)
        for agent in self._all:
            agent.close()
