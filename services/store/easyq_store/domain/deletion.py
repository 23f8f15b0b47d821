"""Jobs that are to be deleted: marked first, stopped if need be, and gone once nothing of them is open."""

from dataclasses import replace

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain import recurring
from easyq_store.domain.records import Execution, Job


def doom(job: Job, *, force: bool, now: int) -> Job:
    """The job with the mark that it is to be deleted, and, with `force`, that it is to stop first.

    Its idempotency key is free from here on: nobody is to be answered with a job that goes. Nothing revives it. Raises
    FailedPrecondition (NEEDS_FORCE) for one that has not ended, without `force`.
    """
    if job.delete_requested:
        return job
    doomed = replace(job, delete_requested=True, idempotency_key="")
    if job.ended:
        return doomed
    if not force:
        raise FailedPrecondition(
            f"job {job.job_id} is {job.state.name}: with force it is stopped first, then deleted", reason="NEEDS_FORCE"
        )
    if job.stop_requested_at is not None:
        return replace(doomed, unsettled_since=now)
    return recurring.stop(replace(doomed, stop_requested_at=now, last_modified_at=now, unsettled_since=now))


def require_kept(job: Job) -> None:
    """Raises FailedPrecondition for a job that is to be deleted: it takes no wishes any more."""
    if job.delete_requested:
        raise FailedPrecondition(f"job {job.job_id} is being deleted")


def may_go(job: Job) -> bool:
    """Whether it is to be deleted, and nothing of it is open."""
    return job.delete_requested and job.ended


def is_superfluous(execution: Execution, newest: int, keep: int) -> bool:
    """Whether an execution of a recurring job goes, where only those of the newest `keep` numbers stay."""
    return execution.ended and execution.unsettled_since is None and execution.attempt <= newest - keep
