"""Schedules of recurring jobs: what is due, what becomes of it, pause and resume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError, FailedPrecondition
from easyq_chassis.logs import get_logger
from easyq_store.domain import recurring
from easyq_store.domain.moves import head
from easyq_store.domain.records import Execution, Head, Job
from easyq_store.domain.recurring import FireDecision, fire_id
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import job_of
from easyq_store.usecases.series import change_by_open, settle_at_once, settle_recurring


@dataclass(frozen=True, kw_only=True, slots=True)
class DueSchedules:
    """Jobs whose fires are to be looked at at `now`, and when more are, as in `Due`."""

    items: tuple[Job, ...]
    next_in_ms: int | None
    now: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fired:
    """What decisions came to: executions that are ready now, those that have to end, decisions that held."""

    ready: tuple[Head, ...] = ()
    stops: tuple[Execution, ...] = ()
    recorded: int = 0


async def list_due_schedules(ctx: Context, limit: int) -> DueSchedules:
    """ACTIVE recurring jobs whose next fire is due, or is not planned yet, by due time."""
    now = ctx.clock.now()
    items = await ctx.store.reads.due_schedules(now, limit)
    if len(items) >= limit:
        return DueSchedules(items=tuple(items), next_in_ms=0, now=now)
    following = await ctx.store.reads.next_schedule(now)
    return DueSchedules(items=tuple(items), next_in_ms=None if following is None else following - now, now=now)


async def fire_schedules(ctx: Context, decisions: Sequence[FireDecision]) -> Fired:
    """Records decisions, each on its own; those on jobs that changed meanwhile are left aside."""
    results = await ctx.store.run_all([_firing(ctx, decision) for decision in decisions])
    ready: list[Head] = []
    stops: list[Execution] = []
    recorded = 0
    for decision, result in zip(decisions, results, strict=True):
        if isinstance(result, EasyQError):
            get_logger().warning("fires_not_recorded", job=decision.job_id, error=result.message)
            continue
        ready += result.ready
        stops += result.stops
        recorded += result.recorded
        if result.ready or result.stops:
            ctx.news.tell(decision.job_id, *(e.execution_id for e in result.stops))
    return Fired(ready=tuple(ready), stops=tuple(stops), recorded=recorded)


def _firing(ctx: Context, decision: FireDecision) -> Plan[Fired]:
    async def plan(steps: Steps) -> Fired:
        now = ctx.clock.now()
        changed = await change_by_open(
            steps,
            decision.job_id,
            lambda job, busy: recurring.decide(job, decision, ctx.policy_of(job.spec), busy=busy, now=now),
        )
        if changed.job is None or not changed.done:
            return Fired()
        if changed.job.unsettled_since is None:
            # Nothing but the next look was planned.
            return Fired(recorded=1)
        still_open = await settle_at_once(steps, ctx, changed, now=now)
        if still_open is None:
            _, still_open = await settle_recurring(steps, ctx, changed.job, now=now)
        fires = {fire_id(decision.job_id, fire.nominal) for fire in decision.fires}
        heads = [head(execution) for execution in still_open if execution.execution_id in fires]
        return Fired(ready=tuple(h for h in heads if h is not None), stops=stopping(still_open), recorded=1)

    return plan


def stopping(still_open: Sequence[Execution]) -> tuple[Execution, ...]:
    """Those whose holders have to be told to end them."""
    return tuple(e for e in still_open if e.held and e.stop_requested_at is not None)


async def pause_job(ctx: Context, task_id: str, job_id: str) -> None:
    """Pauses a recurring job; repeats are harmless.

    Errors: NOT_FOUND, FAILED_PRECONDITION (NOT_RECURRING; ILLEGAL_STATE: it has ended, or is stopping).
    """
    await _change(ctx, task_id, job_id, lambda job, now: recurring.pause(job, now=now))


async def resume_job(ctx: Context, task_id: str, job_id: str) -> None:
    """Resumes it; fires that it missed are then decided on as `misfire` says. Repeats and errors as for `pause_job`."""
    await _change(ctx, task_id, job_id, lambda job, now: recurring.resume(job, now=now))


async def _change(ctx: Context, task_id: str, job_id: str, decide: Callable[[Job, int], Job]) -> None:
    async def plan(steps: Steps) -> None:
        now = ctx.clock.now()
        await job_of(steps, task_id, job_id)
        if await steps.change_job(job_id, lambda old: decide(old, now)) is None:
            raise FailedPrecondition(f"job {job_id} is gone")

    await ctx.store.run(plan)
    ctx.news.tell(job_id)
