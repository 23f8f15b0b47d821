"""The agents that a watchdog has started one after the other, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

#: Reason of an end with a status: the agent itself has said why.
ERROR = "error"
#: Reasons that are shown before they happen, so that a first one is seen as an increase.
USUAL = (ERROR, "SIGKILL")


@dataclass(frozen=True, kw_only=True, slots=True)
class PastLives:
    """What an agent is told of those before it. `ended` counts ends that nobody had asked for, by reason: `error`, or
    the signal's name."""

    ended: Mapping[str, int] = field(default_factory=dict)
    #: How the last one was killed of which nobody could tell yet; empty: there is none.
    untold: str = ""

    def after(self, reason: str, *, how: str) -> PastLives:
        """After one more end; `how` it was killed is empty where it has told its end itself."""
        ended = {**self.ended, reason: self.ended.get(reason, 0) + 1}
        return PastLives(ended=ended, untold=how or self.untold)

    def told(self) -> PastLives:
        """Once an agent lives that tells them."""
        return replace(self, untold="")
