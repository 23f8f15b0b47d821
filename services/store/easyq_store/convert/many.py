"""Calls for many, and deletions."""

from easyq.v1.job_service_pb2 import JobSelection
from easyq_internal.store.v1 import job_store_pb2 as pb
from easyq_store.convert.basics import duration_ms, members, ready, timestamp_ms
from easyq_store.convert.schedules import stop_hints
from easyq_store.domain.selection import Selection
from easyq_store.domain.states import FailureReason, JobState
from easyq_store.usecases.delete import Deleted, TaskDeleted
from easyq_store.usecases.many import Asked, Done

_LARGEST_PAGE = 1_000


def page(asked_for: int) -> int:
    """Jobs of one call: 1 to 1,000."""
    return max(1, min(asked_for, _LARGEST_PAGE))


def asked(request: pb.ManyRequest) -> Asked:
    """One page of a call."""
    return Asked(
        selection=selection(request.selection),
        cursor=request.cursor,
        limit=page(request.limit),
        dry_run=request.dry_run,
    )


def selection(message: JobSelection) -> Selection:
    """Which jobs are meant."""
    return Selection(
        task_id=message.task_id,
        task_pattern=message.task_pattern,
        states=members(JobState, message.state, "state"),
        reasons=members(FailureReason, message.reason, "reason"),
        labels=tuple(sorted(set(message.label))),
        created_from=timestamp_ms(message.created_after) if message.HasField("created_after") else None,
        created_before=timestamp_ms(message.created_before) if message.HasField("created_before") else None,
        older_than_ms=duration_ms(message.older_than) if message.HasField("older_than") else None,
    )


def response(done: Done) -> pb.ManyResponse:
    """What became of a page."""
    return pb.ManyResponse(
        matched=done.matched,
        done=done.done,
        stopping=done.stopping,
        hints=stop_hints(done.held),
        ready=[ready(head) for head in done.ready],
        next_cursor=done.cursor,
    )


def delete_response(deleted: Deleted) -> pb.DeleteJobResponse:
    """How far a deletion is."""
    return pb.DeleteJobResponse(stopping=bool(deleted.held), hints=stop_hints(deleted.held))


def task_response(deleted: TaskDeleted) -> pb.DeleteTaskResponse:
    """What became of one page of a task's jobs."""
    return pb.DeleteTaskResponse(
        deleted=deleted.deleted,
        stopping=deleted.stopping,
        hints=stop_hints(deleted.held),
        more=deleted.more,
    )
