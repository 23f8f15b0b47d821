"""Assign: gives QUEUED executions to sessions; Fence: makes assignments under way fail."""

from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError
from easyq_store.domain.moves import (
    Claim,
    Refusal,
    assign,
    expire,
    fence,
    give_back,
    head,
    held_head,
    may_take,
    request_stop,
)
from easyq_store.domain.records import Execution, Head, HeldHead
from easyq_store.domain.states import Stream
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import change_execution, follow_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """All that an agent needs to run an execution. Times are milliseconds that remain."""

    execution: Execution
    spec: bytes
    start_within_ms: int | None
    stdout_offset: int = 0
    stderr_offset: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Why not; with STALE_EPOCH the execution as it stands."""

    refusal: Refusal
    ready: Head | None = None


async def assign_all(ctx: Context, claims: Sequence[Claim]) -> list[Assignment | Refused | EasyQError]:
    """Answers each claim on its own; what was assigned is durable on return."""
    results = await ctx.store.run_all([_assignment(ctx, claim) for claim in claims])
    for claim, result in zip(claims, results, strict=True):
        if isinstance(result, Refused) and result.refusal is Refusal.EXPIRED:
            ctx.news.tell(claim.execution_id)
    return results


def _assignment(ctx: Context, claim: Claim) -> Plan[Assignment | Refused]:
    async def plan(steps: Steps) -> Assignment | Refused:
        now = ctx.clock.now()
        moved = await _moved(steps, claim)
        if moved is not None:
            return Refused(refusal=moved)
        refusal: Refusal | None = None

        def decide(old: Execution) -> Execution:
            nonlocal refusal
            answer = assign(old, claim, now=now)
            refusal = answer if isinstance(answer, Refusal) else None
            if isinstance(answer, Execution):
                return answer
            return expire(old, now=now) if answer is Refusal.EXPIRED else old

        changed = await change_execution(steps, claim.execution_id, decide, now=now)
        execution = changed.execution
        if execution is None:
            return Refused(refusal=Refusal.NOT_QUEUED)
        if refusal is not None:
            if changed.done:
                await follow_up(steps, ctx, execution, now=now)
            return Refused(refusal=refusal, ready=head(execution))
        return await _confirm(steps, ctx, claim, execution, now=now)

    return plan


async def _confirm(steps: Steps, ctx: Context, claim: Claim, execution: Execution, *, now: int) -> Assignment | Refused:
    """Looks once more at what fences the claim; takes the assignment, which nobody has seen yet, back if it moved."""
    moved = None if steps.atomic else await _moved(steps, claim)
    if moved is None:
        job, _ = await follow_up(steps, ctx, execution, now=now)
        if job is not None and job.stop_requested_at is None:
            spec = job.spec if job.revision == execution.spec_revision else None
            return await assignment(steps, execution, now=now, spec=spec)

    def take_back(old: Execution) -> Execution:
        if old.epoch != execution.epoch or not old.held:
            return old
        returned = give_back(old, now=now)
        return request_stop(returned, now=now) if moved is None else returned

    changed = await change_execution(steps, execution.execution_id, take_back, now=now)
    if changed.execution is not None:
        await follow_up(steps, ctx, changed.execution, now=now)
    return Refused(refusal=moved or Refusal.NOT_QUEUED)


async def _moved(steps: Steps, claim: Claim) -> Refusal | None:
    if await steps.generation() != claim.generation:
        return Refusal.STALE_GENERATION
    if not may_take(await steps.get_agent(claim.agent_id), claim):
        return Refusal.STALE_SESSION
    return None


async def assignment(steps: Steps, execution: Execution, *, now: int, spec: bytes | None = None) -> Assignment:
    """What the holder of an execution needs to run it, or to go on with it."""
    if spec is None:
        spec = await steps.get_spec(execution.job_id, execution.spec_revision) or b""
    latest = execution.latest_start
    started = execution.started_at is not None
    return Assignment(
        execution=execution,
        spec=spec,
        start_within_ms=None if latest is None else max(0, latest - now),
        stdout_offset=await steps.log_end(execution.execution_id, Stream.STDOUT) if started else 0,
        stderr_offset=await steps.log_end(execution.execution_id, Stream.STDERR) if started else 0,
    )


async def fence_all(ctx: Context, execution_ids: Sequence[str]) -> list[Head | HeldHead | EasyQError | None]:
    """Raises the epoch of those that are QUEUED. Returns for each its head, or who holds it, or None."""
    return await ctx.store.run_all([_fencing(execution_id) for execution_id in execution_ids])


def _fencing(execution_id: str) -> Plan[Head | HeldHead | None]:
    async def plan(steps: Steps) -> Head | HeldHead | None:
        execution = await steps.change_execution(execution_id, fence)
        if execution is None:
            return None
        return head(execution) or held_head(execution)

    return plan
