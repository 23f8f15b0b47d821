"""Makes the notifications of a job's end: part of every plan in which an execution may end."""

from easyq_store.domain.notices import Target, deliveries_of, is_end, is_failed_attempt, outcome_of
from easyq_store.domain.records import Execution, Job
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context


async def targets_at_end(steps: Steps, ctx: Context, job: Job, execution: Execution) -> tuple[Target, ...]:
    """Whom the spec of this execution wants to be told, whatever became of the job's spec since."""
    if job.delete_requested:
        return ()
    if job.revision == execution.spec_revision:
        return ctx.targets_of(job.spec)
    return ctx.targets_of(await steps.get_spec(job.job_id, execution.spec_revision) or b"")


async def note_end(steps: Steps, ctx: Context, job: Job, execution: Execution, *, now: int) -> None:
    """Inserts the notifications of an execution with which its job ended, or that failed; a repeat is harmless.

    Comes before the execution counts as settled, so that a sweep completes what a crash leaves.
    """
    if not is_end(execution) and not is_failed_attempt(execution):
        return
    targets = await targets_at_end(steps, ctx, job, execution)
    if targets:
        outcome = outcome_of(execution, job_stopped=job.stop_requested_at is not None)
        for delivery in deliveries_of(execution, outcome, targets, now=now):
            await steps.insert_delivery(delivery)
