"""Sessions: an agent comes, beats, goes, or is silent for too long."""

from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.domain import lost, sessions
from easyq_store.domain.decide import End, decide
from easyq_store.domain.lost import Silent
from easyq_store.domain.moves import head, lose, rebind
from easyq_store.domain.reconcile import Directive, Item, Order, reconcile
from easyq_store.domain.records import Agent, Execution, Failure, Head
from easyq_store.domain.sessions import Beat, Hello, Upkeep, beat, first_session, next_session, park, upkeep_of
from easyq_store.domain.states import AgentState, FailureReason, OnLost, Outcome
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.assign import Assignment, assignment, confirm_for, take_back
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import agent_known
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
    upkeep: Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Beaten:
    """What an agent that beat has to do."""

    orders: tuple[Ordered, ...]
    upkeep: Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """An execution that was lost, and its successor's head if that is ready now."""

    execution: Execution
    ready: Head | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """An agent that was declared dead, and what was lost with it by this call."""

    agent: Agent
    lost: tuple[Lost, ...] = ()


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
        orders=await _orders(steps, ctx, agent, inventory, now=now, adopt_all=True),
        upkeep=upkeep_of(agent, now=now),
    )


async def _orders(
    steps: Steps, ctx: Context, agent: Agent, inventory: Sequence[Item], *, now: int, adopt_all: bool = False
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
            execution = directive.execution
            if directive.order is Order.RUN:
                execution = await confirm_for(steps, ctx, agent, execution, now=now)
                if execution is None:
                    continue
            needed = await assignment(steps, ctx, execution, now=now)
        orders.append(Ordered(directive=directive, assignment=needed))
    return tuple(orders)


async def beat_all(ctx: Context, beats: Sequence[tuple[Beat, Sequence[Item]]]) -> list[Beaten | EasyQError | None]:
    """Renews leases; durable on return. For each what its agent has to do, or None if its session is fenced."""
    return await ctx.store.run_all([_beating(ctx, told, inventory) for told, inventory in beats])


def _beating(ctx: Context, told: Beat, inventory: Sequence[Item]) -> Plan[Beaten | None]:
    async def plan(steps: Steps) -> Beaten | None:
        now = ctx.clock.now()
        agent = await steps.change_agent(told.agent_id, lambda old: beat(old, told, now=now) or old)
        if agent is None or agent.session != told.session or agent.state is not AgentState.LIVE:
            return None
        orders = await _orders(steps, ctx, agent, inventory, now=now)
        return Beaten(orders=orders, upkeep=upkeep_of(agent, now=now))

    return plan


async def set_upkeep(ctx: Context, agent_id: str, wish: Upkeep) -> Agent:
    """Cordons, uncordons, drains; durable on return. A repeat is harmless. Errors: NOT_FOUND.

    Nothing is assigned to a cordoned agent that was not confirmed before this returns. With transactions that goes
    without saying. Without them, an assignment is confirmed, by a write of its own, after a look at the agent; until
    then nobody tells the agent of it. So one that was written before this looks is taken back here unless it is
    confirmed, and one that is written later finds the wish.
    """

    async def plan(steps: Steps) -> Agent | None:
        now = ctx.clock.now()
        agent = await steps.change_agent(agent_id, lambda old: sessions.set_upkeep(old, wish, now=now))
        if agent is not None and sessions.takes_nothing_new(agent) and not steps.atomic:
            for held in await steps.held_by(agent_id):
                await take_back(steps, ctx, held, stopping=False, now=now)
        return agent

    return agent_known(await ctx.store.run(plan), agent_id)


async def declare_dead(ctx: Context, agent_id: str) -> Gone:
    """The agent is gone for good: its session is dead, what it held is LOST now, also what would wait for it.

    A repeat is harmless. The agent, should it come back, is told to kill all of that. Errors: NOT_FOUND.
    """

    async def plan(steps: Steps) -> Gone:
        agent = agent_known(await steps.change_agent(agent_id, lost.declare_gone), agent_id)
        return Gone(agent=agent, lost=tuple(await lose_held(steps, ctx, agent)))

    gone = await ctx.store.run(plan)
    _tell(ctx, gone.lost)
    return gone


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
        agent = await steps.change_agent(silent.agent_id, lambda old: lost.declare_dead(old, silent))
        return agent is not None and agent.state is AgentState.DEAD and agent.session == silent.session

    return await ctx.store.run(plan)


async def lose_all(ctx: Context, agent_id: str) -> list[Execution]:
    """Ends what a dead session held as LOST, with what follows; returns those it ended."""

    async def plan(steps: Steps) -> list[Lost]:
        agent = await steps.get_agent(agent_id)
        dead = agent is not None and agent.state is AgentState.DEAD
        return await lose_held(steps, ctx, agent) if agent is not None and dead else []

    found = await ctx.store.run(plan)
    _tell(ctx, found)
    return [each.execution for each in found]


def _tell(ctx: Context, found: Sequence[Lost]) -> None:
    ctx.news.tell(*(e.execution.execution_id for e in found), *(e.execution.job_id for e in found))


async def lose_held(steps: Steps, ctx: Context, agent: Agent) -> list[Lost]:
    """Ends as LOST what an agent holds under its newest, dead session.

    Jobs that wait for their host are left, unless it was declared dead by hand.
    """
    found = [await _lose(steps, ctx, agent, held) for held in await steps.held_by(agent.agent_id)]
    return [each for each in found if each is not None]


async def _lose(steps: Steps, ctx: Context, agent: Agent, held: Execution) -> Lost | None:
    now = ctx.clock.now()
    job = await steps.get_job(held.job_id)
    spec = await steps.get_spec(held.job_id, held.spec_revision)
    if job is None or spec is None:
        return None
    if ctx.policy_of(spec).on_lost is OnLost.WAIT and not agent.declared_dead:
        return None
    policy = ctx.policy_of(job.spec)
    why = "was declared dead" if agent.declared_dead else "was silent for too long"
    failure = Failure(reason=FailureReason.HOST_LOST, message=f"agent {agent.agent_id} {why}")
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
    _, successor = await follow_up(steps, ctx, changed.execution, now=now)
    return Lost(execution=changed.execution, ready=head(successor) if successor is not None else None)
