"""The feed of changes as messages."""

from easyq.v1.event_service_pb2 import Event, EventChange, EventKind
from easyq.v1.job_pb2 import Trigger
from easyq_internal.store.v1 import feed_pb2
from easyq_store.convert import basics
from easyq_store.domain.changes import Change, Kind
from easyq_store.usecases.feed import Batch, Position


def position(request: feed_pb2.WatchRequest) -> Position | None:
    """What a reader has, if it has anything."""
    return Position(boot=request.boot, seq=request.after) if request.boot else None


def response(batch: Batch) -> feed_pb2.WatchResponse:
    """A batch as a message."""
    return feed_pb2.WatchResponse(
        boot=batch.boot,
        first=batch.first,
        events=[event(change) for change in batch.changes],
        reset=batch.reset,
        head=batch.head,
    )


def event(change: Change) -> Event:
    """A change as an event without an id."""
    if change.kind is Kind.GAP:
        return Event(kind=EventKind.RESET)
    return Event(
        kind=EventKind.Name.ValueType(change.kind),
        change=EventChange.Kind.ValueType(change.how),
        at=basics.timestamp(change.at),
        task_id=change.task_id,
        job_id=change.job_id,
        execution_id=change.execution_id,
        agent_id=change.agent_id,
        state=change.state,
        ended=change.ended,
        attempt=change.attempt,
        exit_code=change.exit_code,
        error=basics.failure(change.failure),
        trigger=Trigger.Kind.ValueType(change.trigger or 0),
        next_run_at=basics.timestamp(change.next_run_at),
        stop_requested_at=basics.timestamp(change.stop_requested_at),
        revision=change.revision,
    )
