"""What a watchdog tells each agent of those before it: an argument of its process, and what that agent does with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from easyq_runner.domain.lives import USUAL, PastLives

if TYPE_CHECKING:
    from easyq_chassis.metrics import Registry
    from easyq_chassis.metrics.instruments import Labels


class AgentKilled(Exception):
    """An agent was ended by a signal: by the kernel for want of memory, by a fault in native code, by somebody."""


def encode_lives(lives: PastLives) -> str:
    """As one argument."""
    return json.dumps({"ended": dict(lives.ended), "untold": lives.untold})


def decode_lives(text: str) -> PastLives:
    """What `encode_lives` gave."""
    raw = json.loads(text)
    return PastLives(ended=raw["ended"], untold=raw["untold"])


def tell_killed(lives: PastLives, agent_id: str) -> None:
    """Tells the error handlers of the one that was killed. `agent_id` is empty where it never got so far."""
    # Not for the watchdog, which stays small: it imports this module too.
    from easyq_chassis.error_reports import report_error

    if lives.untold:
        report_error(AgentKilled(f"the agent {lives.untold}"), "agent", {"agent": agent_id}, fatal=True)


def watch_restarts(agent_id: str, lives: PastLives, registry: Registry) -> Callable[[], None]:
    """Has the registry count the restarts, on from where the agent before this one was; returns what ends that."""
    counted: dict[Labels, float] = {
        (agent_id, reason): float(lives.ended.get(reason, 0)) for reason in (*USUAL, *lives.ended)
    }
    restarts = registry.counter(
        "easyq.agent.restarts",
        "Agents that their watchdog started again, by how the one before had ended.",
        unit="{restart}",
        labels=("agent", "reason"),
    )
    return restarts.watch(lambda: counted)
