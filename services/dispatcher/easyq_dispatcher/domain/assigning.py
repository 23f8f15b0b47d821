"""What follows the store's answer to an Assign."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from easyq_dispatcher.domain.records import Head, Taking


class Verdict(Enum):
    """How the store took an Assign; UNANSWERED: not known."""

    ASSIGNED = "assigned"
    NOT_QUEUED = "not_queued"
    EXPIRED = "expired"
    STALE_EPOCH = "stale_epoch"
    STALE_SESSION = "stale_session"
    STALE_GENERATION = "stale_generation"
    CORDONED = "cordoned"
    UNANSWERED = "unanswered"


class Step(Enum):
    """What to do with a taking."""

    # The store holds it: keep its places and send it to the agent.
    RUN = "run"
    # It is nobody's any more: leave its places.
    DROP = "drop"
    # Leave its places and queue the head again, as the store has it now.
    REQUEUE = "requeue"
    # The same, and the agent has to say hello again.
    REQUEUE_AND_CLOSE = "requeue_and_close"
    # The same, and the agent is given nothing more.
    REQUEUE_AND_CORDON = "requeue_and_cordon"
    # Its places belong to a filling that is void: only look for the one that holds.
    DOUBT = "doubt"
    # Whether the store holds it is not known: fence it first.
    FENCE = "fence"


_STEPS = {
    Verdict.ASSIGNED: Step.RUN,
    Verdict.NOT_QUEUED: Step.DROP,
    Verdict.EXPIRED: Step.DROP,
    Verdict.STALE_SESSION: Step.REQUEUE_AND_CLOSE,
    Verdict.STALE_GENERATION: Step.DOUBT,
    Verdict.CORDONED: Step.REQUEUE_AND_CORDON,
    Verdict.UNANSWERED: Step.FENCE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Consequence:
    """The step, and the head to queue again where there is one."""

    step: Step
    head: Head | None = None


def consequence(taking: Taking, verdict: Verdict, ready: Head | None) -> Consequence:
    """What follows `verdict` on `taking`; `ready` is the execution as the store has it, where it told.

    A STALE_EPOCH without that is a head that the store no longer has ready, so that it is dropped: the feeder brings
    it if that was wrong.
    """
    if verdict is Verdict.STALE_EPOCH:
        return Consequence(step=Step.REQUEUE, head=ready) if ready else Consequence(step=Step.DROP)
    step = _STEPS[verdict]
    again = step in {Step.REQUEUE_AND_CLOSE, Step.REQUEUE_AND_CORDON}
    return Consequence(step=step, head=taking.head if again else None)
