"""Submit: makes jobs. Repeating the same ids, or the same idempotency key, is harmless."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from easyq_chassis.errors import AlreadyExists, EasyQError, NotFound
from easyq_store.domain.moves import head
from easyq_store.domain.planning import first_plan, make
from easyq_store.domain.records import Head, Job, Needs, Planned, evolve
from easyq_store.domain.recurring import begin
from easyq_store.domain.states import JobState
from easyq_store.domain.timing import Timing
from easyq_store.ports import Inserted, Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import settle_job
from easyq_store.usecases.insert import insert_planned


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """One new job; its ids were made at the edge."""

    task_id: str
    job_id: str
    execution_id: str
    # Serialized, deterministic.
    spec: bytes
    idempotency_key: str = ""
    # The same as the client sent it, without any default; None: not told.
    asked: bytes | None = None
    # What the records carry of the spec.
    image: str = ""
    labels: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    priority: int = 0
    timing: Timing = field(default_factory=Timing)
    needs: Needs | None = None
    # It has a schedule, and no first execution.
    recurs: bool = False
    # Of the request: `TraceContext.text`.
    trace: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The ids that hold, the stored spec if the idempotency key was known, and the head if it is ready now.

    `replayed_asked` is what was asked for with that spec, if it was told. `unplanned` is a recurring job (then without
    an execution) whose fires nobody has looked at yet.
    """

    job_id: str
    execution_id: str
    replayed_spec: bytes | None = None
    replayed_asked: bytes | None = None
    ready: Head | None = None
    unplanned: Job | None = None


async def submit(ctx: Context, jobs: Sequence[NewJob]) -> list[Accepted | EasyQError]:
    """Stores new jobs, each accepted or refused (ALREADY_EXISTS, JOB_EXISTS) on its own; durable on return."""
    began = ctx.traces.now()
    results = await ctx.store.run_all([_submission(ctx, new) for new in jobs])
    ctx.traces.submitted(jobs, results, began=began)
    return results


async def find_submitted(ctx: Context, new: NewJob) -> Accepted:
    """What `submit` answers where the job is there already; makes nothing. Errors: NOT_FOUND."""
    return await ctx.store.run(lambda steps: _find(steps, ctx, new))


async def _find(steps: Steps, ctx: Context, new: NewJob) -> Accepted:
    known = await steps.get_job(new.job_id)
    if (known is None or not _same_ids(known, new)) and new.idempotency_key:
        known = await steps.job_by_key(new.task_id, new.idempotency_key)
    if known is None or not (_same_ids(known, new) or _same_key(known, new)):
        raise NotFound("no such job was submitted")
    return await _known(steps, ctx, new, known, now=ctx.clock.now())


def _submission(ctx: Context, new: NewJob) -> Plan[Accepted]:
    async def plan(steps: Steps) -> Accepted:
        now = ctx.clock.now()
        if new.idempotency_key:
            known = await steps.job_by_key(new.task_id, new.idempotency_key)
            if known is not None:
                if known.revision == 1:
                    known = await learn_asked(steps, known, new)
                return await _known(steps, ctx, new, known, now=now)
        if new.recurs:
            job = new_recurring(new, now=now)
            if await steps.insert_job(job) is Inserted.DONE:
                return Accepted(job_id=job.job_id, execution_id="", unplanned=job)
            return await _taken(steps, ctx, new, now=now)
        planned = planned_first(new, now=now)
        job = new_job(new, planned, now=now, atomic=steps.atomic)
        if await steps.insert_job(job) is Inserted.DONE:
            return await _first_execution(steps, ctx, job, planned, now=now)
        return await _taken(steps, ctx, new, now=now)

    return plan


async def learn_asked(steps: Steps, job: Job, new: NewJob) -> Job:
    """Keeps what is asked for with the very spec of a job of which that was not told: an older version made it, or it
    was made without a key. Its spec as it is shown tells nothing.
    """
    if job.asked is not None or new.asked in {None, job.spec} or new.spec != job.spec:
        return job

    def decide(old: Job) -> Job:
        known = old.asked is not None or old.revision != job.revision
        return old if known else replace(old, asked=new.asked)

    return await steps.change_job(job.job_id, decide) or job


async def _taken(steps: Steps, ctx: Context, new: NewJob, *, now: int) -> Accepted:
    """The answer where the id, or the idempotency key, is another job's."""
    known = await steps.get_job(new.job_id)
    if known is None and new.idempotency_key:
        known = await steps.job_by_key(new.task_id, new.idempotency_key)
    if known is None:
        raise AlreadyExists(f"job {new.job_id} is being made by somebody else")
    return await _known(steps, ctx, new, known, now=now)


def planned_first(new: NewJob, *, now: int) -> Planned:
    """The first execution of a new job."""
    return first_plan(
        new.execution_id, new.timing, new.priority, now=now, needs=new.needs, image=new.image, trace=new.trace
    )


# What all jobs begin with.
_BLANK = Job(
    job_id="",
    task_id="",
    state=JobState.SCHEDULED,
    spec=b"",
    image="",
    first_execution_id="",
    created_at=0,
    last_modified_at=0,
)


def new_job(new: NewJob, planned: Planned, *, now: int, atomic: bool) -> Job:
    """The record of a new job; where its execution may be missing after a crash, with the mark that it is."""
    return evolve(
        _BLANK,
        job_id=new.job_id,
        task_id=new.task_id,
        state=JobState.QUEUED if planned.due_at <= now else JobState.SCHEDULED,
        spec=new.spec,
        asked=new.asked,
        image=new.image,
        labels=new.labels,
        metadata=new.metadata,
        idempotency_key=new.idempotency_key,
        first_execution_id=new.execution_id,
        created_at=now,
        last_modified_at=now,
        next_run_at=planned.due_at,
        projected_attempt=1,
        projected_write=1,
        trace=new.trace,
        pending=() if atomic else (planned,),
        unsettled_since=None if atomic else now,
    )


def new_recurring(new: NewJob, *, now: int) -> Job:
    """The record of a new recurring job: complete by itself."""
    job = Job(
        job_id=new.job_id,
        task_id=new.task_id,
        state=JobState.ACTIVE,
        spec=new.spec,
        asked=new.asked,
        image=new.image,
        labels=new.labels,
        metadata=new.metadata,
        idempotency_key=new.idempotency_key,
        # Never made; it tells a repeat of the same call from another one.
        first_execution_id=new.execution_id,
        created_at=now,
        last_modified_at=now,
        attempts=0,
        trace=new.trace,
    )
    return begin(job, now=now)


def unplanned(job: Job) -> Job | None:
    """The job, if it recurs and nobody has looked at its fires since it was made, or its schedule changed."""
    waits = job.schedule is not None and job.schedule.next_fire is None and job.fire_at is not None
    return job if waits else None


async def _first_execution(steps: Steps, ctx: Context, job: Job, planned: Planned, *, now: int) -> Accepted:
    seq = await steps.next_seq() if planned.due_at <= now else 0
    execution = make(planned, job.job_id, job.task_id, now=now, seq=seq)
    inserted = await steps.insert_execution(execution)
    if steps.atomic:
        # Nobody can have stopped or replaced the job meanwhile.
        if not inserted:
            raise AlreadyExists(f"execution {execution.execution_id} exists already")
    elif not inserted or not await _settled_at_once(steps, job):
        execution = await insert_planned(steps, ctx, planned, job.job_id, job.task_id, now=now)
        await settle_job(steps, ctx, job, now=now)
    return Accepted(job_id=job.job_id, execution_id=planned.execution_id, ready=head(execution))


async def _settled_at_once(steps: Steps, job: Job) -> bool:
    """Takes the mark off a job that is as it was inserted: then no stop and no other spec came before its execution,
    and whoever brings one later finds that execution. Saves the enqueue's way ten round trips.
    """
    settled = await steps.change_job(
        job.job_id,
        lambda old: replace(old, pending=(), unsettled_since=None) if old.write_no == job.write_no else old,
    )
    return settled is not None and (settled.write_no, settled.unsettled_since) == (job.write_no + 1, None)


async def _known(steps: Steps, ctx: Context, new: NewJob, known: Job, *, now: int) -> Accepted:
    """The answer for a job that is there: the same call again, or the same idempotency key."""
    same_ids = _same_ids(known, new)
    if not same_ids and not _same_key(known, new):
        raise AlreadyExists(f"job {new.job_id} exists already")
    if known.unsettled_since is not None:
        await settle_job(steps, ctx, known, now=now)
    # A recurring job has none of this id.
    execution = await steps.get_execution(known.first_execution_id)
    spec, asked = (None, None) if same_ids else await _first_spec(steps, known)
    return Accepted(
        job_id=known.job_id,
        execution_id=known.first_execution_id if execution is not None else "",
        replayed_spec=spec,
        replayed_asked=asked,
        ready=head(execution) if execution is not None else None,
        unplanned=unplanned(known),
    )


async def _first_spec(steps: Steps, job: Job) -> tuple[bytes | None, bytes | None]:
    """The spec that a job was made with, and what was asked for by it: in the job, unless it was replaced since."""
    if job.revision == 1:
        return job.spec, job.asked
    return await steps.get_spec(job.job_id, 1), await steps.get_asked(job.job_id, 1)


def _same_ids(known: Job, new: NewJob) -> bool:
    return (known.job_id, known.task_id, known.first_execution_id) == (new.job_id, new.task_id, new.execution_id)


def _same_key(known: Job, new: NewJob) -> bool:
    key = new.idempotency_key
    return bool(key) and (known.task_id, known.idempotency_key) == (new.task_id, key)
