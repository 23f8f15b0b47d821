"""Time: what is due becomes ready, what waited too long expires. Both over an index, by the store's clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from easyq_store.domain.moves import expire, fire, head
from easyq_store.domain.records import DueHead, Execution, Head
from easyq_store.domain.states import ExecutionState
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import change_execution, follow_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """What is due, and the milliseconds until more is: 0 while there is more than was listed, None if nothing is."""

    items: tuple[DueHead, ...]
    next_in_ms: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiry:
    """How many expired, and the milliseconds until more may."""

    expired: int
    next_in_ms: int | None


async def list_due(ctx: Context, limit: int) -> Due:
    """SCHEDULED executions whose time has come, by due time."""
    now = ctx.clock.now()
    items = await ctx.store.reads.due(now, limit)
    if len(items) >= limit:
        return Due(items=tuple(items), next_in_ms=0)
    following = await ctx.store.reads.next_due(now)
    return Due(items=tuple(items), next_in_ms=None if following is None else following - now)


async def fire_all(ctx: Context, items: Sequence[tuple[str, int]]) -> list[Head]:
    """Makes (execution id, epoch) QUEUED; those that changed meanwhile are left alone. Returns those ready now."""
    results = await ctx.store.run_all([_firing(ctx, id_, epoch) for id_, epoch in items])
    fired = [result for result in results if isinstance(result, Execution)]
    ctx.news.tell(*(e.execution_id for e in fired), *(e.job_id for e in fired))
    return [ready for ready in map(head, fired) if ready is not None]


def _firing(ctx: Context, execution_id: str, epoch: int) -> Plan[Execution | None]:
    async def plan(steps: Steps) -> Execution | None:
        now = ctx.clock.now()
        seq = await steps.next_seq()
        return await _change(steps, ctx, execution_id, lambda old: fire(old, epoch=epoch, now=now, seq=seq), now=now)

    return plan


async def expire_waiting(ctx: Context, limit: int) -> Expiry:
    """Ends SCHEDULED and QUEUED executions whose last moment to start has passed, up to `limit`."""
    now = ctx.clock.now()
    ids = await ctx.store.reads.expired(now, limit)
    results = await ctx.store.run_all([_expiring(ctx, id_) for id_ in ids])
    gone = [e for e in results if isinstance(e, Execution) and e.state is ExecutionState.EXPIRED]
    ctx.news.tell(*(e.execution_id for e in gone), *(e.job_id for e in gone))
    if len(ids) >= limit:
        return Expiry(expired=len(gone), next_in_ms=0)
    following = await ctx.store.reads.next_expiry(now - 1)
    return Expiry(
        expired=len(gone),
        next_in_ms=None if following is None else following - now + 1,
    )


def _expiring(ctx: Context, execution_id: str) -> Plan[Execution | None]:
    async def plan(steps: Steps) -> Execution | None:
        now = ctx.clock.now()
        return await _change(steps, ctx, execution_id, lambda old: expire(old, now=now), now=now)

    return plan


async def _change(
    steps: Steps, ctx: Context, execution_id: str, decide: Callable[[Execution], Execution], *, now: int
) -> Execution | None:
    """Changes an execution with what follows; returns it if this call changed it."""
    changed = await change_execution(steps, execution_id, decide, now=now)
    if changed.execution is None or not changed.done:
        return None
    await follow_up(steps, ctx, changed.execution, now=now)
    return changed.execution
