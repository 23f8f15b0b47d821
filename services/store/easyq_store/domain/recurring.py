"""Recurring jobs: what becomes of their fires, each a pure function from the job's record to the job's record.

The store knows no cron: which times are fires, the scheduler says. What is decided here is what depends on the moment:
whether a fire runs, waits or is skipped because of what is open. `busy` is that: something of the job waits or runs, a
retry that waits for its time included. One that changes nothing returns the very record it was given.

At most one series is open where `overlap` is not ALLOW, because every execution is numbered by its job's record, under
its compare-and-set: who decides by what is open decides on the record that was read before.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.policy import Policy
from easyq_store.domain.records import Job, Planned, Schedule, Skip, WaitingFire
from easyq_store.domain.states import JobState, Overlap, SkipReason, Trigger
from easyq_store.domain.timing import has_expired
from easyq_store.domain.tracing import of_fire

# Names the executions of fires, so that whoever decides a fire again comes to the same id.
_FIRES = uuid.UUID("8a3c1f52-0d0e-4f57-9a4f-5d8a7e1b6c20")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fire:
    """A fire that is to run, as the scheduler has planned it. Milliseconds since the epoch."""

    nominal: int
    # With its jitter.
    due_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FireDecision:
    """What a scheduler decided about one job's fires, by the revision and cursor that it knew."""

    job_id: str
    revision: int
    cursor: int
    # In order of their times.
    fires: tuple[Fire, ...] = ()
    skips: tuple[Skip, ...] = ()
    new_cursor: int
    # When the job is looked at next; None: never, its schedule is over.
    next_at: int | None = None
    # Nominal time of the next fire, if it is known.
    next_fire: int | None = None


def fire_id(job_id: str, nominal: int) -> str:
    """The id of the execution of a fire."""
    return str(uuid.uuid5(_FIRES, f"{job_id}:{nominal}"))


def begin(job: Job, *, now: int) -> Job:
    """A job with a schedule that begins now: its fires are planned by whoever looks first."""
    return replace(
        job,
        state=JobState.ACTIVE,
        schedule=Schedule(anchor=now, cursor=now if job.revision > 1 else 0),
        fire_at=now,
        next_run_at=None,
        stop_requested_at=None,
        failure=None,
        last_end=None,
    )


def rescheduled(job: Job, *, now: int) -> Job:
    """A job whose times are others now: counted anew from now, what was decided on stays decided."""
    if job.schedule is None:
        return job
    return replace(
        job,
        # Never back: a PUT may have begun before the last fire was decided on.
        schedule=replace(job.schedule, anchor=now, cursor=max(now, job.schedule.cursor), next_fire=None),
        fire_at=now if job.state is JobState.ACTIVE else None,
        next_run_at=None,
    )


def pause(job: Job, *, now: int) -> Job:
    """ACTIVE → PAUSED: nothing fires; what is open, or waits, goes on. Raises FailedPrecondition."""
    schedule = _alive(job)
    if job.state is JobState.PAUSED:
        return job
    return replace(
        job,
        state=JobState.PAUSED,
        schedule=replace(schedule, paused_at=now, next_fire=None),
        fire_at=None,
        next_run_at=None,
        last_modified_at=now,
    )


def resume(job: Job, *, now: int) -> Job:
    """PAUSED → ACTIVE: fires that it missed meanwhile are for `misfire` to decide. Raises FailedPrecondition."""
    schedule = _alive(job)
    if job.state is JobState.ACTIVE:
        return job
    return replace(
        job, state=JobState.ACTIVE, schedule=replace(schedule, paused_at=None), fire_at=now, last_modified_at=now
    )


def stop(job: Job) -> Job:
    """A job that is asked to stop fires no more. What waits becomes an execution in its turn, stopped at once."""
    if job.schedule is None:
        return job
    return replace(job, schedule=replace(job.schedule, next_fire=None), fire_at=None, next_run_at=None)


def decide(job: Job, decision: FireDecision, policy: Policy, *, busy: bool, now: int) -> Job:
    """Records a scheduler's decision, unless the job is not as the scheduler knew it."""
    schedule = job.schedule
    known = (decision.revision, decision.cursor)
    if schedule is None or job.fire_at is None or known != (job.revision, schedule.cursor) or _is_ending(job):
        return job
    if decision.new_cursor < schedule.cursor or any(fire.nominal <= schedule.cursor for fire in decision.fires):
        raise FailedPrecondition(f"fires of job {job.job_id} up to {schedule.cursor} are decided on already")
    sorting = _Sorting(job_id=job.job_id, policy=policy, runs=schedule.runs, waiting=schedule.waiting, now=now)
    for fire in decision.fires:
        sorting.take(fire, busy=busy)
    skips = (*decision.skips, *_merged(sorting.skips, apart=decision.skips, anchor=schedule.anchor))
    next_at = sorting.next_look(decision)
    decided = replace(
        job,
        schedule=replace(
            schedule,
            cursor=decision.new_cursor,
            next_fire=decision.next_fire if next_at is not None else None,
            runs=sorting.runs,
            skipped=schedule.skipped + sum(skip.count for skip in skips),
            waiting=sorting.waiting,
            unkept=(*schedule.unkept, *skips),
        ),
        fire_at=next_at,
        next_run_at=next_at if decision.next_fire is not None else None,
    )
    if sorting.run or skips or sorting.waiting is not schedule.waiting or next_at is None:
        decided = unsettled(decided, now=now)
    plans = [_planned(job, policy, _waiting_fire(job.job_id, fire)) for fire in sorting.run]
    return numbered(decided, plans)


def trigger(job: Job, execution_id: str, policy: Policy, *, busy: bool, now: int) -> Job:
    """Runs it now, by hand, as far as `overlap` allows. Raises FailedPrecondition (ILLEGAL_STATE, OVERLAP)."""
    schedule = _alive(job)
    by_hand = WaitingFire(nominal=now, due_at=now, trigger=Trigger.MANUAL, execution_id=execution_id)
    planned = _planned(job, policy, by_hand)
    if has_expired(planned.latest_start, now):
        raise FailedPrecondition(f"job {job.job_id} may not start any more: its expiration has passed")
    if policy.overlap is Overlap.ALLOW or not (busy or schedule.waiting):
        return numbered(unsettled(job, now=now), [planned])
    if policy.overlap is Overlap.SKIP or (policy.overlap is Overlap.QUEUE and schedule.waiting):
        what = "one of its executions waits or runs" if schedule.waiting is None else "one waits already"
        raise FailedPrecondition(f"job {job.job_id} does not overlap: {what}", reason="OVERLAP")
    skips = _replaced(schedule.waiting, now)
    waits = replace(schedule, waiting=by_hand, skipped=schedule.skipped + len(skips), unkept=(*schedule.unkept, *skips))
    return unsettled(replace(job, schedule=waits), now=now)


def advance(job: Job, policy: Policy, *, busy: bool, now: int) -> Job:
    """What a recurring job does by itself once nothing of it is open: the fire that waits runs, or it ends."""
    schedule = job.schedule
    if schedule is None or job.ended or job.pending:
        return job
    if schedule.waiting is not None:
        if busy and policy.overlap is not Overlap.ALLOW:
            return job
        return _release(unsettled(job, now=now), schedule, schedule.waiting, policy)
    if busy:
        return job
    if job.stop_requested_at is not None:
        return replace(job, state=JobState.STOPPED, last_modified_at=now)
    if job.state is JobState.ACTIVE and job.fire_at is None:
        return replace(job, state=JobState.EXPIRED, last_modified_at=now)
    return job


def unsettled(job: Job, *, now: int) -> Job:
    """The job as one of which something is missing: since now, or since it was first so. A job that goes on firing
    would else never have waited long enough for the sweep."""
    return job if job.unsettled_since is not None else replace(job, unsettled_since=now)


def numbered(job: Job, plans: Iterable[Planned]) -> Job:
    """The job with these executions pending, each with the next number. Those that are pending already stay so."""
    pending, attempts = list(job.pending), job.attempts
    known = {planned.execution_id for planned in pending}
    for planned in plans:
        if planned.execution_id not in known:
            attempts += 1
            pending.append(replace(planned, attempt=attempts, fence=attempts))
    return job if attempts == job.attempts else replace(job, pending=tuple(pending), attempts=attempts)


def replaces(job: Job, policy: Policy, execution_id: str) -> bool:
    """Whether an execution, which was there before this record of its job was read, has to end for what waits."""
    waiting = job.schedule.waiting if job.schedule is not None else None
    return waiting is not None and policy.overlap is Overlap.REPLACE and waiting.execution_id != execution_id


@dataclass(kw_only=True, slots=True)
class _Sorting:
    """Sorts fires by what may become of them."""

    job_id: str
    policy: Policy
    runs: int
    waiting: WaitingFire | None
    now: int
    run: list[Fire] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)

    @property
    def spent(self) -> bool:
        """As many have run, or will, as may."""
        waits = self.waiting is not None and self.waiting.trigger is Trigger.SCHEDULE
        return bool(self.policy.max_runs) and self.runs + waits >= self.policy.max_runs

    def take(self, fire: Fire, *, busy: bool) -> None:
        """Takes the next fire; beyond the last that may run there are none."""
        overlap = self.policy.overlap
        if overlap is Overlap.REPLACE and self.run:
            # It has not begun, and never will.
            self.skips.append(_skip(self.run.pop().nominal, SkipReason.REPLACED, self.now))
            self.runs -= 1
        if self.spent:
            return
        if overlap is Overlap.ALLOW or not (busy or self.run or self.waiting):
            self.run.append(fire)
            self.runs += 1
        elif overlap is Overlap.SKIP:
            self.skips.append(_skip(fire.nominal, SkipReason.OVERLAP, self.now))
        elif overlap is Overlap.QUEUE and self.waiting is not None:
            self.skips.append(_skip(fire.nominal, SkipReason.ONE_WAITS, self.now))
        else:
            self.skips += _replaced(self.waiting, self.now)
            self.waiting = _waiting_fire(self.job_id, fire)

    def next_look(self, decision: FireDecision) -> int | None:
        """When the job is looked at next; None: never."""
        if self.spent:
            return None
        if decision.next_at is None and self.policy.max_runs and self.skips:
            # The scheduler may have taken them for runs, and so for the last ones.
            return self.now
        return decision.next_at


def _alive(job: Job) -> Schedule:
    """Its schedule. Raises FailedPrecondition (NOT_RECURRING, ILLEGAL_STATE)."""
    if job.schedule is None:
        raise FailedPrecondition(f"job {job.job_id} does not recur", reason="NOT_RECURRING")
    if job.ended or _is_ending(job):
        raise FailedPrecondition(f"job {job.job_id} is {job.state.name if job.ended else 'stopping'}")
    return job.schedule


def _is_ending(job: Job) -> bool:
    return job.stop_requested_at is not None or job.delete_requested


def _waiting_fire(job_id: str, fire: Fire) -> WaitingFire:
    return WaitingFire(
        nominal=fire.nominal,
        due_at=fire.due_at,
        trigger=Trigger.SCHEDULE,
        execution_id=fire_id(job_id, fire.nominal),
    )


def _planned(job: Job, policy: Policy, fire: WaitingFire) -> Planned:
    return Planned(
        execution_id=fire.execution_id,
        attempt=0,
        fence=0,
        trigger=fire.trigger,
        due_at=fire.due_at,
        latest_start=policy.timing.latest_start(fire.due_at),
        priority=policy.priority,
        spec_revision=job.revision,
        series_due_at=fire.due_at,
        fire_at=fire.nominal if fire.trigger is Trigger.SCHEDULE else None,
        needs=policy.needs,
        image=policy.image,
        trace=of_fire(fire.execution_id, job.trace),
    )


def _release(job: Job, schedule: Schedule, waiting: WaitingFire, policy: Policy) -> Job:
    """What waited is pending."""
    runs = schedule.runs + (waiting.trigger is Trigger.SCHEDULE)
    released = replace(job, schedule=replace(schedule, waiting=None, runs=runs))
    return numbered(released, [_planned(job, policy, waiting)])


def _skip(nominal: int, reason: SkipReason, now: int) -> Skip:
    return Skip(first=nominal, last=nominal, count=1, reason=reason, decided_at=now)


def _replaced(waiting: WaitingFire | None, now: int) -> list[Skip]:
    """The skip of a fire that waited; a run by hand is no fire, and the one that takes its place stands for it."""
    if waiting is None or waiting.trigger is not Trigger.SCHEDULE:
        return []
    return [_skip(waiting.nominal, SkipReason.REPLACED, now)]


def _merged(skips: Sequence[Skip], *, apart: Sequence[Skip], anchor: int) -> list[Skip]:
    """Neighbours with one reason as one. Those with one of `apart` between them are none: a fire that had waited is
    older than what was missed meanwhile. Nor are those on both sides of `anchor`: times that other times took the place
    of were never decided on."""
    merged: list[Skip] = []
    for skip in skips:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.reason is skip.reason
            and not last.last < anchor < skip.first
            and not any(last.last < other.first < skip.first for other in apart)
        ):
            merged[-1] = replace(last, last=skip.last, count=last.count + skip.count)
        else:
            merged.append(skip)
    return merged
