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
from easyq_store.domain.projection import project
from easyq_store.domain.records import Agent, Execution, Head, HeldHead
from easyq_store.domain.sessions import takes_nothing_new
from easyq_store.domain.states import ExecutionState, Stream
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import change_execution, follow_up
from easyq_store.usecases.settle import settle_execution


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """All that an agent needs to run an execution. Times are milliseconds that remain."""

    execution: Execution
    spec: bytes
    start_within_ms: int | None
    stdout_offset: int = 0
    stderr_offset: int = 0
    # The execution's span, for the agent's.
    trace: str = ""


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
        # As `follow_up` does, but it is confirmed only if no stop came first, and nobody took it back.
        job = await steps.change_job(execution.job_id, lambda old: project(old, execution, now=now))
        if job is not None and job.stop_requested_at is None:
            confirmed = await settle_execution(steps, execution)
            if confirmed is not None and _is_his(confirmed, execution):
                spec = job.spec if job.revision == execution.spec_revision else None
                return await assignment(steps, ctx, confirmed, now=now, spec=spec)
            moved = await _moved(steps, claim)
    await take_back(steps, ctx, execution, stopping=moved is None, now=now)
    stands = await steps.get_execution(execution.execution_id)
    if moved is not Refusal.STALE_GENERATION and stands is not None and _is_told(stands, execution):
        # Its agent was told of it meanwhile, by a hello or a beat: it is held, and must go on counting in its places.
        return await assignment(steps, ctx, stands, now=now)
    return Refused(refusal=moved or Refusal.NOT_QUEUED)


def _is_his(execution: Execution, claimed: Execution) -> bool:
    """Whether the assignment stands, and is confirmed."""
    same = (execution.epoch, execution.session) == (claimed.epoch, claimed.session)
    return same and execution.held and not is_unconfirmed(execution)


def _is_told(execution: Execution, claimed: Execution) -> bool:
    """Whether the assignment stands, in whatever session of its agent, and somebody has confirmed it."""
    same = (execution.epoch, execution.agent_id) == (claimed.epoch, claimed.agent_id)
    return same and execution.held and not is_unconfirmed(execution)


async def _moved(steps: Steps, claim: Claim) -> Refusal | None:
    if await steps.generation() != claim.generation:
        return Refusal.STALE_GENERATION
    agent = await steps.get_agent(claim.agent_id)
    if agent is None or not may_take(agent, claim):
        return Refusal.STALE_SESSION
    return Refusal.CORDONED if takes_nothing_new(agent) else None


def is_unconfirmed(execution: Execution) -> bool:
    """Whether it was assigned by a plan that has still to look whether it may be: its agent does not know of it yet.

    So only then may the assignment be taken back. Whoever tells the agent (as a directive) confirms it first.
    """
    return execution.state is ExecutionState.ASSIGNED and execution.unsettled_since is not None


async def take_back(steps: Steps, ctx: Context, seen: Execution, *, stopping: bool, now: int) -> None:
    """Takes an assignment back that nobody has confirmed, with what follows; any other is left alone."""

    def decide(old: Execution) -> Execution:
        same = (old.epoch, old.agent_id, old.session) == (seen.epoch, seen.agent_id, seen.session)
        if not same or not is_unconfirmed(old):
            return old
        returned = give_back(old, now=now)
        return request_stop(returned, now=now) if stopping else returned

    changed = await change_execution(steps, seen.execution_id, decide, now=now)
    if changed.execution is not None and changed.done:
        await follow_up(steps, ctx, changed.execution, now=now)


async def confirm_for(steps: Steps, ctx: Context, agent: Agent, execution: Execution, *, now: int) -> Execution | None:
    """Confirms an assignment that its agent is to be told of; None if it may not be told yet, or not at all.

    To a cordoned agent nothing is confirmed: what was assigned beside the wish is taken back by who assigned it, or
    by the sweep.
    """
    if not is_unconfirmed(execution):
        return execution
    if takes_nothing_new(agent):
        return None
    await follow_up(steps, ctx, execution, now=now)
    confirmed = await steps.get_execution(execution.execution_id)
    same = confirmed is not None and (confirmed.epoch, confirmed.agent_id) == (execution.epoch, agent.agent_id)
    return confirmed if same and confirmed is not None and confirmed.held and not is_unconfirmed(confirmed) else None


async def take_back_from_cordoned(steps: Steps, ctx: Context, execution: Execution, *, now: int) -> bool:
    """For the sweep: takes back what a crash left assigned, but not confirmed, to an agent that takes nothing new."""
    if not is_unconfirmed(execution):
        return False
    agent = await steps.get_agent(execution.agent_id)
    if agent is None or not takes_nothing_new(agent):
        return False
    await take_back(steps, ctx, execution, stopping=False, now=now)
    return True


async def assignment(
    steps: Steps, ctx: Context, execution: Execution, *, now: int, spec: bytes | None = None
) -> Assignment:
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
        trace=ctx.traces.of(execution),
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
