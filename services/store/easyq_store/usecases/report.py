"""Report: agents' words on executions. Repeats are harmless; words of those who hold it no more are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from easyq_chassis.errors import EasyQError, FailedPrecondition
from easyq_store.domain.decide import Blame, End, decide, judge
from easyq_store.domain.logs import Piece
from easyq_store.domain.moves import LogSizes, finish, give_back, head, holds, is_repeat, start
from easyq_store.domain.policy import Policy
from easyq_store.domain.records import Execution, Head
from easyq_store.domain.states import ExecutionState
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.append import complete, covers, store_pieces
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import change_execution, follow_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The container runs."""

    container_id: str = ""
    image_digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """It ended so; `tail` are log bytes that were not appended yet."""

    end: End
    sizes: LogSizes
    tail: tuple[Piece, ...] = ()
    container_id: str = ""
    image_digest: str = ""
    ran_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenBack:
    """Start was never sent, and its holder won't."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """One word of an agent on one execution that it holds in this epoch."""

    agent_id: str
    execution_id: str
    epoch: int
    said: Started | Finished | GivenBack


class Verdict(Enum):
    """How a word was taken. Numbers of `easyq_internal.store.v1.ReportResult.Verdict.Kind`."""

    OK = 1
    STALE = 2
    RETRY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What became of a word. `released`: the execution is held by nobody now."""

    verdict: Verdict
    released: bool = False
    ready: Head | None = None
    logs_complete: bool = False
    job_id: str = ""


async def report(ctx: Context, words: Sequence[Word]) -> list[Taken]:
    """Takes words, each on its own; durable on return. What could not be decided is answered RETRY."""
    results = await ctx.store.run_all([_plan(ctx, word) for word in words])
    taken: list[Taken] = []
    for word, result in zip(words, results, strict=True):
        answer = _answered(result)
        taken.append(answer)
        if answer.verdict is Verdict.OK:
            ctx.news.tell(word.execution_id, answer.job_id)
    return taken


def _answered(result: Taken | EasyQError) -> Taken:
    if isinstance(result, FailedPrecondition):
        # The table of transitions doesn't have it: no repeat will change that.
        return Taken(verdict=Verdict.STALE)
    return Taken(verdict=Verdict.RETRY) if isinstance(result, EasyQError) else result


def _plan(ctx: Context, word: Word) -> Plan[Taken]:
    async def plan(steps: Steps) -> Taken:
        now = ctx.clock.now()
        match word.said:
            case Started() as said:
                return await _started(steps, ctx, word, said, now=now)
            case Finished() as said:
                return await _finished(steps, ctx, word, said, now=now)
            case GivenBack():
                return await _given_back(steps, ctx, word, now=now)

    return plan


def _stale(execution: Execution | None) -> Taken:
    return Taken(verdict=Verdict.STALE, released=execution is None or not execution.held)


async def _started(steps: Steps, ctx: Context, word: Word, said: Started, *, now: int) -> Taken:
    def decide_start(old: Execution) -> Execution:
        if not holds(old, word.agent_id, word.epoch):
            return old
        return start(old, now=now, container_id=said.container_id, image_digest=said.image_digest)

    changed = await change_execution(steps, word.execution_id, decide_start, now=now)
    execution = changed.execution
    if execution is None or not _was_his(execution, word):
        return _stale(execution)
    if changed.done:
        await follow_up(steps, ctx, execution, now=now)
    return Taken(verdict=Verdict.OK, released=execution.ended, job_id=execution.job_id)


def _was_his(execution: Execution, word: Word) -> bool:
    """Held by the word's agent in its epoch, or ended by that agent's own report."""
    ended_by_it = execution.ended and execution.outcome is not None
    return (execution.held or ended_by_it) and execution.epoch == word.epoch and execution.agent_id == word.agent_id


async def _finished(steps: Steps, ctx: Context, word: Word, said: Finished, *, now: int) -> Taken:
    execution = await steps.get_execution(word.execution_id)
    if execution is None:
        return _stale(None)
    if not holds(execution, word.agent_id, word.epoch):
        if not is_repeat(execution, word.agent_id, word.epoch, said.end):
            return _stale(execution)
        return await _finished_before(steps, ctx, execution, said, now=now)
    ends = await store_pieces(steps, execution, said.tail, at=now, sizes=said.sizes)
    _, _, blame = judge(said.end)
    job = None if blame is Blame.FINAL else await steps.get_job(execution.job_id)
    policy = Policy() if job is None else ctx.policy_of(job.spec)
    share = ctx.share()

    def decide_finish(old: Execution) -> Execution:
        if not holds(old, word.agent_id, word.epoch):
            return old
        stopping = old.stop_requested_at is not None
        decision = decide(
            old,
            said.end,
            policy,
            revision=job.revision if job else old.spec_revision,
            now=now,
            share=share,
            stop_requested=stopping or (job is not None and job.stop_requested_at is not None),
        )
        return finish(
            old,
            said.end,
            decision,
            now=now,
            sizes=said.sizes,
            container_id=said.container_id,
            image_digest=said.image_digest,
            ran_ms=said.ran_ms,
            logs_complete=covers(ends, said.sizes.stdout, said.sizes.stderr),
        )

    changed = await change_execution(steps, word.execution_id, decide_finish, now=now)
    if changed.execution is None or not changed.done:
        return _stale(changed.execution)
    return await _answer(steps, ctx, changed.execution, now=now)


async def _finished_before(steps: Steps, ctx: Context, execution: Execution, said: Finished, *, now: int) -> Taken:
    await store_pieces(steps, execution, said.tail, at=now)
    execution = await complete(steps, execution) or execution
    return await _answer(steps, ctx, execution, now=now)


async def _given_back(steps: Steps, ctx: Context, word: Word, *, now: int) -> Taken:
    def decide_return(old: Execution) -> Execution:
        return give_back(old, now=now) if holds(old, word.agent_id, word.epoch) else old

    changed = await change_execution(steps, word.execution_id, decide_return, now=now)
    execution = changed.execution
    if execution is None:
        return _stale(None)
    if changed.done:
        return await _answer(steps, ctx, execution, now=now)
    if execution.state is ExecutionState.QUEUED and execution.epoch == word.epoch:
        return Taken(verdict=Verdict.OK, released=True, ready=head(execution), job_id=execution.job_id)
    return _stale(execution)


async def _answer(steps: Steps, ctx: Context, execution: Execution, *, now: int) -> Taken:
    """Does what follows, and tells it: this execution is nobody's now."""
    _, successor = await follow_up(steps, ctx, execution, now=now)
    return Taken(
        verdict=Verdict.OK,
        released=True,
        ready=head(successor or execution),
        logs_complete=execution.logs_complete,
        job_id=execution.job_id,
    )
