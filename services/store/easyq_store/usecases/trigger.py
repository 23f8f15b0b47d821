"""Trigger: runs a job now, by hand."""

from dataclasses import dataclass

from easyq_chassis.errors import AlreadyExists, FailedPrecondition
from easyq_store.domain import recurring
from easyq_store.domain.moves import hasten, head
from easyq_store.domain.records import Execution, Head, Job
from easyq_store.domain.requests import was_made_by, with_request
from easyq_store.domain.states import ExecutionState
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import job_of
from easyq_store.usecases.follow import change_execution, follow_up
from easyq_store.usecases.schedules import stopping
from easyq_store.usecases.series import change_by_open, settle_recurring


@dataclass(frozen=True, kw_only=True, slots=True)
class Triggered:
    """The execution that runs (empty: it waits for what is open), its head if it is ready, and what has to end."""

    job: Job
    execution_id: str = ""
    ready: Head | None = None
    stops: tuple[Execution, ...] = ()


async def trigger_job(ctx: Context, task_id: str, job_id: str, execution_id: str) -> Triggered:
    """Runs a job now.

    A recurring one gets an execution of this id, as far as `overlap` allows. One that waits for its time is due now. A
    repeat with the same id is harmless. Errors: NOT_FOUND, FAILED_PRECONDITION (ILLEGAL_STATE, OVERLAP).
    """
    triggered = await ctx.store.run(lambda steps: _trigger(steps, ctx, task_id, job_id, execution_id))
    ctx.news.tell(job_id, triggered.execution_id, *(e.execution_id for e in triggered.stops))
    return triggered


async def _trigger(steps: Steps, ctx: Context, task_id: str, job_id: str, execution_id: str) -> Triggered:
    now = ctx.clock.now()
    job = await job_of(steps, task_id, job_id)
    if job.schedule is None:
        return await _hasten(steps, ctx, job, execution_id, now=now)
    known = await steps.get_execution(execution_id)
    if known is not None:
        if known.job_id != job_id:
            raise AlreadyExists(f"execution {execution_id} is another job's")
        return Triggered(job=job, execution_id=execution_id, ready=head(known))

    def decide(seen: Job, busy: bool) -> Job:
        waiting = seen.schedule.waiting if seen.schedule is not None else None
        planned = {planned.execution_id for planned in seen.pending}
        if execution_id in planned or (waiting is not None and waiting.execution_id == execution_id):
            return seen
        return recurring.trigger(seen, execution_id, ctx.policy_of(seen.spec), busy=busy, now=now)

    changed = await change_by_open(steps, job_id, decide)
    job, still_open = await settle_recurring(steps, ctx, changed.job or job, now=now)
    made = await steps.get_execution(execution_id)
    return Triggered(
        job=job,
        execution_id=execution_id if made is not None else "",
        ready=head(made) if made is not None else None,
        stops=stopping(still_open),
    )


async def _hasten(steps: Steps, ctx: Context, job: Job, request: str, *, now: int) -> Triggered:
    newest = await steps.newest_execution(job.job_id)
    if newest is not None and newest.state is not ExecutionState.SCHEDULED and was_made_by(job, request):
        if newest.unsettled_since is not None:
            told, _ = await follow_up(steps, ctx, newest, now=now)
            job = told or job
        return Triggered(job=job, execution_id=newest.execution_id, ready=head(newest))
    if newest is None or job.stop_requested_at is not None:
        raise FailedPrecondition(f"job {job.job_id} is {job.state.name}, and can't be run now")
    if newest.state is ExecutionState.SCHEDULED:
        # Before it takes effect, so that no repeat is refused for what it did.
        job = await steps.change_job(job.job_id, lambda old: with_request(old, request)) or job
    spec = await steps.get_spec(job.job_id, newest.spec_revision) or job.spec
    seq = await steps.next_seq()
    changed = await change_execution(
        steps,
        newest.execution_id,
        lambda old: hasten(old, ctx.policy_of(spec), now=now, seq=seq),
        now=now,
    )
    if changed.execution is None or not changed.done:
        raise FailedPrecondition(
            f"job {job.job_id} is {job.state.name}: only one that waits for its time can be run now"
        )
    told, _ = await follow_up(steps, ctx, changed.execution, now=now)
    return Triggered(job=told or job, execution_id=newest.execution_id, ready=head(changed.execution))
