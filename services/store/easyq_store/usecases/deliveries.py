"""Deliveries of notifications: who may send which, what became of it, lists, sending again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from easyq_chassis.errors import EasyQError, NotFound
from easyq_store.domain import notices, tokens
from easyq_store.domain.notices import LOG_LOOK_MS, Sent
from easyq_store.domain.records import Delivery, DueDelivery, Execution
from easyq_store.domain.sites import Sites
from easyq_store.domain.states import NoticeChannel, Stream
from easyq_store.ports import Place, Plan, Reads, Steps
from easyq_store.usecases import look
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import job_of
from easyq_store.usecases.look import ExecutionView

# Of each stream, for e-mails.
MOST_TAIL = 8 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """How much of what is due somebody can send. `lease` in ms; `under_way` by lane."""

    limit: int
    lease: int
    per_lane: int
    # Of hosts below one domain, or in one network. 0: no bound.
    per_site: int = 0
    under_way: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A delivery that is the caller's to send, with what is told of the execution. `age` in ms since it was armed."""

    delivery: Delivery
    age: int
    execution: ExecutionView
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What was claimed, and the milliseconds until more may be due; None: nothing is planned."""

    items: tuple[Claimed, ...]
    next_in_ms: int | None


async def claim(ctx: Context, wish: Wish) -> Claims:
    """Takes deliveries that are due for the time of the lease. Nobody else gets them meanwhile.

    Errors: that of the first one, where none could be taken (`Unavailable`: the database takes no writes).
    """
    now = ctx.clock.now()
    reads = ctx.store.reads
    full = {lane for lane, count in wish.under_way.items() if count >= wish.per_lane}
    sites = Sites(wish.per_site, wish.under_way)
    found = await reads.due_deliveries(now, wish.per_lane, wish.limit, full=full, sites=sites)
    chosen = _within(found, wish)
    results = await ctx.store.run_all([_claiming(ctx, due.delivery_id, wish.lease) for due in chosen])
    failed = [error for error in results if isinstance(error, EasyQError)]
    if failed and len(failed) == len(results):
        raise failed[0]
    mine = [pair for pair in results if not isinstance(pair, EasyQError) and pair is not None]
    items = [await _told(ctx, delivery, execution) for delivery, execution in mine]
    if len(found) > len(chosen) or len(found) >= wish.limit:
        return Claims(items=tuple(items), next_in_ms=0)
    following = await reads.next_delivery(now)
    return Claims(items=tuple(items), next_in_ms=None if following is None else following - now)


def _within(found: Sequence[DueDelivery], wish: Wish) -> list[DueDelivery]:
    """As many of each lane as there is room for."""
    room = dict(wish.under_way)
    chosen = []
    for due in found:
        if room.get(due.lane, 0) < wish.per_lane:
            room[due.lane] = room.get(due.lane, 0) + 1
            chosen.append(due)
    return chosen


def _claiming(ctx: Context, delivery_id: str, lease: int) -> Plan[tuple[Delivery, Execution] | None]:
    async def plan(steps: Steps) -> tuple[Delivery, Execution] | None:
        now = ctx.clock.now()
        seen = await steps.get_delivery(delivery_id)
        if seen is None:
            return None
        execution = await steps.get_execution(seen.execution_id)
        if execution is None:
            # It was made while its execution was being deleted.
            await steps.delete_delivery(delivery_id)
            return None
        taken = False

        def decide(old: Delivery) -> Delivery:
            nonlocal taken
            taken = False
            if notices.waits_for_output(old, execution, now=now):
                return notices.postpone(old, now=now, by=LOG_LOOK_MS)
            new = notices.claim(old, now=now, lease=lease)
            taken = new is not old
            return new

        delivery = await steps.change_delivery(delivery_id, decide)
        return (delivery, execution) if taken and delivery is not None else None

    return plan


async def _told(ctx: Context, delivery: Delivery, execution: Execution) -> Claimed:
    reads = ctx.store.reads
    age = max(0, (delivery.last_attempt_at or delivery.armed_at) - delivery.armed_at)
    (view,) = await look.execution_views(reads, [execution])
    if delivery.channel is not NoticeChannel.EMAIL:
        return Claimed(delivery=delivery, age=age, execution=view)
    return Claimed(
        delivery=delivery,
        age=age,
        execution=view,
        stdout_tail=await _tail(reads, execution.execution_id, Stream.STDOUT),
        stderr_tail=await _tail(reads, execution.execution_id, Stream.STDERR),
    )


async def _tail(reads: Reads, execution_id: str, stream: Stream) -> bytes:
    """The last bytes of a stream."""
    end = await reads.log_end(execution_id, stream)
    begin = max(0, end - MOST_TAIL)
    tail, at = b"", begin
    while at < end and (chunks := await reads.read_chunks(execution_id, stream, at, MOST_TAIL)):
        for chunk in chunks:
            if chunk.end > at:
                tail += chunk.data[max(0, at - chunk.offset) :]
                at = chunk.end
        if not tail:
            break
    return tail[-MOST_TAIL:]


async def record(ctx: Context, delivery_id: str, attempt: int, sent: Sent) -> None:
    """Records what became of an attempt; durable on return. One that is gone by now is nobody's business."""

    async def plan(steps: Steps) -> None:
        now = ctx.clock.now()
        await steps.change_delivery(delivery_id, lambda old: notices.record(old, attempt, sent, now=now))

    await ctx.store.run(plan)


async def list_deliveries(ctx: Context, task_id: str, job_id: str, token: str, size: int) -> tuple[list[Delivery], str]:
    """A page of a job's deliveries, newest first, and the next page's token. Errors: NOT_FOUND, INVALID_ARGUMENT."""
    await job_of(ctx.store.reads, task_id, job_id)
    filters = ("deliveries", job_id)
    place = tokens.decode(token, filters, (int, str))
    after = Place(created_at=int(place[0]), id=str(place[1])) if place else None
    found = await ctx.store.reads.deliveries_of(job_id, after, size + 1)
    if len(found) <= size:
        return found, ""
    last = found[size - 1]
    return found[:size], tokens.encode(filters, [last.created_at, last.delivery_id])


async def resend(ctx: Context, task_id: str, job_id: str, delivery_id: str) -> Delivery:
    """Has a delivery sent again. Errors: NOT_FOUND (JOB_NOT_FOUND, DELIVERY_NOT_FOUND)."""

    async def plan(steps: Steps) -> Delivery:
        now = ctx.clock.now()
        await job_of(steps, task_id, job_id)
        known = await steps.get_delivery(delivery_id)
        if known is not None and known.job_id == job_id:
            changed = await steps.change_delivery(delivery_id, lambda old: notices.resend(old, now=now))
            if changed is not None:
                return changed
        raise NotFound(f"there is no delivery {delivery_id} of job {job_id}", reason="DELIVERY_NOT_FOUND")

    return await ctx.store.run(plan)
