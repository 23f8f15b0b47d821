"""Sessions: an agent comes, beats, goes, or is silent for too long."""

from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.domain.decide import End, decide
from easyq_store.domain.lost import Silent, declare_dead
from easyq_store.domain.moves import lose, rebind
from easyq_store.domain.reconcile import Directive, Item, Order, reconcile
from easyq_store.domain.records import Agent, Execution, Failure
from easyq_store.domain.sessions import Beat, Hello, beat, first_session, next_session, park
from easyq_store.domain.states import AgentState, FailureReason, OnLost, Outcome
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.assign import Assignment, assignment
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import change_execution, follow_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordered:
    """A directive, with what the agent needs for it (all but KILL)."""

    directive: Directive
    assignment: Assignment | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A new session, and what its agent has to do."""

    session: int
    orders: tuple[Ordered, ...]


async def open_session(ctx: Context, hello: Hello, inventory: Sequence[Item]) -> Opened:
    """Opens the agent's next session and puts what it holds under it.

    If the session before was dead, what it held is lost first, and what the host still has of it is to be killed.
    Errors: FAILED_PRECONDITION (the agent's name is bound to another daemon).
    """
    return await ctx.store.run(lambda steps: _open(steps, ctx, hello, inventory))


async def _open(steps: Steps, ctx: Context, hello: Hello, inventory: Sequence[Item]) -> Opened:
    now = ctx.clock.now()
    known = await steps.get_agent(hello.agent_id)
    if known is not None and known.state is AgentState.DEAD:
        await lose_held(steps, ctx, known)
    agent: Agent | None = first_session(hello, now=now)
    if known is not None or not await steps.insert_agent(first_session(hello, now=now)):
        agent = await steps.change_agent(hello.agent_id, lambda old: next_session(old, hello, now=now))
    if agent is None:
        raise Unavailable(f"agent {hello.agent_id} can't be stored")
    return Opened(
        session=agent.session,
        orders=await _orders(steps, agent, inventory, now=now, adopt_all=True),
    )


async def _orders(
    steps: Steps, agent: Agent, inventory: Sequence[Item], *, now: int, adopt_all: bool = False
) -> tuple[Ordered, ...]:
    held: list[Execution] = []
    for found in await steps.held_by(agent.agent_id):
        execution: Execution | None = found
        if found.session < agent.session:
            execution = await steps.change_execution(
                found.execution_id, lambda old: rebind(old, agent.agent_id, agent.session)
            )
        if execution is not None and execution.held and execution.agent_id == agent.agent_id:
            held.append(execution)
    orders: list[Ordered] = []
    for directive in reconcile(inventory, held, adopt_all=adopt_all):
        needed = None
        if directive.execution is not None and directive.order is not Order.KILL:
            needed = await assignment(steps, directive.execution, now=now)
        orders.append(Ordered(directive=directive, assignment=needed))
    return tuple(orders)


async def beat_all(
    ctx: Context, beats: Sequence[tuple[Beat, Sequence[Item]]]
) -> list[tuple[Ordered, ...] | EasyQError | None]:
    """Renews leases; durable on return. For each what its agent has to do, or None if its session is fenced."""
    return await ctx.store.run_all([_beating(ctx, told, inventory) for told, inventory in beats])


def _beating(ctx: Context, told: Beat, inventory: Sequence[Item]) -> Plan[tuple[Ordered, ...] | None]:
    async def plan(steps: Steps) -> tuple[Ordered, ...] | None:
        now = ctx.clock.now()
        agent = await steps.change_agent(told.agent_id, lambda old: beat(old, told, now=now) or old)
        if agent is None or agent.session != told.session or agent.state is not AgentState.LIVE:
            return None
        return await _orders(steps, agent, inventory, now=now)

    return plan


async def park_session(ctx: Context, agent_id: str, session: int) -> None:
    """The agent stops cleanly: its lease stands still, its containers stay. Harmless for another session."""
    await ctx.store.run(lambda steps: steps.change_agent(agent_id, lambda old: park(old, session)))


async def raise_generation(ctx: Context, from_: int) -> tuple[int, bool]:
    """Raises the generation if it is `from_`; returns the one that holds, and whether this call raised it."""

    async def plan(steps: Steps) -> tuple[int, bool]:
        raised = await steps.raise_generation(from_)
        return await steps.generation(), raised

    return await ctx.store.run(plan)


async def bury(ctx: Context, silent: Silent) -> bool:
    """Declares a session dead if it has not beaten since; whether it is dead now."""

    async def plan(steps: Steps) -> bool:
        agent = await steps.change_agent(silent.agent_id, lambda old: declare_dead(old, silent))
        return agent is not None and agent.state is AgentState.DEAD and agent.session == silent.session

    return await ctx.store.run(plan)


async def lose_all(ctx: Context, agent_id: str) -> list[Execution]:
    """Ends what a dead session held as LOST, with what follows; returns those it ended."""

    async def plan(steps: Steps) -> list[Execution]:
        agent = await steps.get_agent(agent_id)
        dead = agent is not None and agent.state is AgentState.DEAD
        return await lose_held(steps, ctx, agent) if agent is not None and dead else []

    lost = await ctx.store.run(plan)
    ctx.news.tell(*(e.execution_id for e in lost), *(e.job_id for e in lost))
    return lost


async def lose_held(steps: Steps, ctx: Context, agent: Agent) -> list[Execution]:
    """Ends as LOST what an agent holds under its newest, dead session; jobs that wait for their host are left."""
    lost: list[Execution] = []
    for held in await steps.held_by(agent.agent_id):
        execution = await _lose(steps, ctx, agent, held)
        if execution is not None:
            lost.append(execution)
    return lost


async def _lose(steps: Steps, ctx: Context, agent: Agent, held: Execution) -> Execution | None:
    now = ctx.clock.now()
    job = await steps.get_job(held.job_id)
    spec = await steps.get_spec(held.job_id, held.spec_revision)
    if job is None or spec is None or ctx.policy_of(spec).on_lost is OnLost.WAIT:
        return None
    policy = ctx.policy_of(job.spec)
    failure = Failure(reason=FailureReason.HOST_LOST, message=f"agent {agent.agent_id} was silent for too long")
    end = End(outcome=Outcome.LOST, failure=failure)
    share = ctx.share()

    def decide_loss(old: Execution) -> Execution:
        # One that came under a newer session, or was given to somebody else, is not lost.
        if not old.held or old.agent_id != agent.agent_id or old.session > agent.session:
            return old
        stopping = old.stop_requested_at is not None or job.stop_requested_at is not None
        decision = decide(old, end, policy, revision=job.revision, now=now, share=share, stop_requested=stopping)
        return lose(old, decision, now=now)

    changed = await change_execution(steps, held.execution_id, decide_loss, now=now)
    if changed.execution is None or not changed.done:
        return None
    await follow_up(steps, ctx, changed.execution, now=now)
    return changed.execution
