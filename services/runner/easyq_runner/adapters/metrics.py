"""Metrics of an agent: its slots, and whether its engine and a dispatcher answer."""

from __future__ import annotations

from collections.abc import Callable

from easyq_chassis.metrics import REGISTRY, Registry
from easyq_runner.assembly import Assembly

_AGENT = ("agent",)


def watch_agent(agent_id: str, slots: int, assembly: Assembly, registry: Registry = REGISTRY) -> Callable[[], None]:
    """Has the registry tell what an agent is at; returns what ends that."""
    own = (agent_id,)
    ends = [
        registry.gauge("easyq.agent.slots", "Executions that it takes at once.", unit="{slot}", labels=_AGENT).watch(
            lambda: {own: float(slots)}
        ),
        registry.gauge("easyq.agent.slots.used", "Executions that it holds.", unit="{slot}", labels=_AGENT).watch(
            lambda: {own: float(len(assembly.agent.inventory()))}
        ),
        registry.gauge("easyq.agent.engine.up", "1 while its Docker Engine answers.", labels=_AGENT).watch(
            lambda: {own: float(assembly.daemon.answering)}
        ),
        registry.gauge("easyq.agent.connected", "1 while a dispatcher takes its beats.", labels=_AGENT).watch(
            lambda: {own: float(assembly.link.connected)}
        ),
    ]

    def end() -> None:
        for one in ends:
            one()

    return end
