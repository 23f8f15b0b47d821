"""Notifications of a job's end: which there are, and what becomes of each. Pure."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from easyq_store.domain.projection import state_of
from easyq_store.domain.records import Delivery, Execution
from easyq_store.domain.states import WITH_OUTPUT, DeliveryState, ExecutionState, JobState, NoticeChannel, NoticeEvent

# Names the ids of deliveries, so that whoever completes what a crash left comes to the same ids.
_DELIVERIES = uuid.UUID("0d0b3e8a-7a52-4c7b-8a39-2d6a1f7e9b54")
# Most of a sentence about a failure that is kept.
_MOST_ERROR = 500
# What shows output waits for the rest of its execution's output: so long at most, and so long between two looks.
LOG_PATIENCE_MS = 10_000
LOG_LOOK_MS = 500

_SAYS = {
    JobState.SUCCEEDED: NoticeEvent.SUCCEEDS,
    JobState.FAILED: NoticeEvent.FAILS,
    JobState.TIMED_OUT: NoticeEvent.FAILS,
    JobState.EXPIRED: NoticeEvent.FAILS,
}
# How an execution failed that another attempt may follow.
_FAILED = frozenset({ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.LOST})


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A receiver that a spec names for an event; fields as in `Delivery`. `name` tells it from the spec's others."""

    event: NoticeEvent
    channel: NoticeChannel
    name: str
    value: bytes
    lane: str
    # It is told of each execution that fails, those that are retried as well.
    each: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """How one attempt went. `retry_in` counts where it was not taken; None: it is given up."""

    delivered: bool
    response_code: int | None = None
    error: str = ""
    retry_in: int | None = None


def is_end(execution: Execution) -> bool:
    """Whether a job ended with this execution: no further attempt follows."""
    return execution.ended and execution.next is None


def is_failed_attempt(execution: Execution) -> bool:
    """Whether it failed, and another attempt follows."""
    return execution.next is not None and execution.state in _FAILED


def outcome_of(execution: Execution, *, job_stopped: bool) -> JobState:
    """How the job ended with it. One that was asked to stop, and did not succeed, was STOPPED."""
    return state_of(execution, stop_requested=job_stopped or execution.stop_requested_at is not None)


def deliveries_of(execution: Execution, outcome: JobState, targets: Iterable[Target], *, now: int) -> list[Delivery]:
    """What is to be sent for this end; of a failed attempt (RETRYING), to who is told of each."""
    if outcome is JobState.RETRYING:
        return [_delivery(execution, outcome, target, now=now) for target in targets if target.each]
    return [_delivery(execution, outcome, target, now=now) for target in _addressed(outcome, targets)]


def _addressed(outcome: JobState, targets: Iterable[Target]) -> Iterator[Target]:
    """The targets of an outcome: those of its own event first; an address gets one e-mail."""
    addresses: set[str] = set()
    wanted = [target for target in targets if target.event in {_SAYS.get(outcome), NoticeEvent.FINISHES}]
    for target in sorted(wanted, key=lambda target: target.event):
        if target.channel is NoticeChannel.EMAIL:
            if target.name in addresses:
                continue
            addresses.add(target.name)
        yield target


def _delivery(execution: Execution, outcome: JobState, target: Target, *, now: int) -> Delivery:
    made_of = f"{execution.execution_id}:{target.channel.value}:{target.event.value}:{target.name}"
    return Delivery(
        delivery_id=str(uuid.uuid5(_DELIVERIES, made_of)),
        execution_id=execution.execution_id,
        job_id=execution.job_id,
        task_id=execution.task_id,
        event=target.event,
        channel=target.channel,
        target=target.value,
        lane=target.lane,
        outcome=outcome,
        created_at=now if execution.finished_at is None else execution.finished_at,
        armed_at=now,
        next_at=now,
    )


def claim(delivery: Delivery, *, now: int, lease: int) -> Delivery:
    """The delivery as somebody's until the lease ends; the same one where it is not due."""
    if delivery.next_at is None or delivery.next_at > now:
        return delivery
    return replace(
        delivery,
        attempts=delivery.attempts + 1,
        tries=delivery.tries + 1,
        next_at=now + lease,
        claimed_until=now + lease,
        last_attempt_at=now,
    )


def waits_for_output(delivery: Delivery, execution: Execution, *, now: int) -> bool:
    """Whether one that shows output is still to wait, since some of that may be on its way."""
    shows = delivery.channel in WITH_OUTPUT
    return shows and not execution.logs_complete and _ran(execution) and now < delivery.created_at + LOG_PATIENCE_MS


def _ran(execution: Execution) -> bool:
    return execution.outcome is not None and execution.started_at is not None


def postpone(delivery: Delivery, *, now: int, by: int) -> Delivery:
    """The delivery looked at again later, without an attempt; the same one where it is not due."""
    if delivery.next_at is None or delivery.next_at > now:
        return delivery
    return replace(delivery, next_at=now + by)


def record(delivery: Delivery, attempt: int, sent: Sent, *, now: int) -> Delivery:
    """The delivery with what became of an attempt; the same one where that tells nothing new.

    That it was taken counts whenever it is told. A failure counts only as long as no later attempt has begun.
    """
    if delivery.state is DeliveryState.DELIVERED:
        return delivery
    if sent.delivered:
        return replace(
            delivery,
            state=DeliveryState.DELIVERED,
            next_at=None,
            claimed_until=None,
            delivered_at=now,
            response_code=sent.response_code,
            error="",
        )
    if delivery.attempts != attempt or delivery.claimed_until is None:
        return delivery
    gives_up = sent.retry_in is None
    return replace(
        delivery,
        state=DeliveryState.FAILED if gives_up else DeliveryState.PENDING,
        next_at=None if sent.retry_in is None else now + sent.retry_in,
        claimed_until=None,
        response_code=sent.response_code,
        error=sent.error[:_MOST_ERROR],
    )


def resend(delivery: Delivery, *, now: int) -> Delivery:
    """The delivery to be sent now, its tries counted anew; the same one while somebody sends it."""
    if delivery.claimed_until is not None and delivery.claimed_until > now:
        return delivery
    return replace(
        delivery, state=DeliveryState.PENDING, armed_at=now, tries=0, next_at=now, claimed_until=None, delivered_at=None
    )
