"""What is on its way to the server in a stream of jobs: bounded, in order, sent again after a break. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from easyq import _rpc
from easyq.errors import BY_CODE, EasyQError, FieldProblem
from easyq.v1.job_service_pb2 import BatchItem, BatchResult, CreateJobResponse, SubmitJobsRequest
from easyq.v1.spec_pb2 import JobSpec

#: What `submit_many` takes: a spec, a task with a spec, or an item with a key of its own.
Submittable = JobSpec | tuple[str, JobSpec] | BatchItem


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """What became of one job of many: either `job` or `error` is set.

    `index` counts from 0 in the order of the input; `item` is what was sent, with its idempotency key, so that what
    was refused for want of room can be sent again.
    """

    index: int
    item: BatchItem
    job: CreateJobResponse | None = None
    error: EasyQError | None = None


class Backlog:
    """Items that the server has not answered yet, oldest first, of which the first `_sent` went into the stream."""

    def __init__(self, *, most: int) -> None:
        if most < 1:
            raise ValueError("at least one job must be allowed to be under way")
        self._most = most
        self._first = 0
        self._items: dict[int, BatchItem] = {}
        self._sent = 0
        #: Nothing will be added any more.
        self.closed = False

    @property
    def full(self) -> bool:
        return len(self._items) >= self._most

    @property
    def done(self) -> bool:
        return self.closed and not self._items

    @property
    def waits(self) -> bool:
        """Whether something has no answer yet."""
        return bool(self._items)

    def add(self, item: BatchItem) -> None:
        self._items[self._first + len(self._items)] = item

    def next(self) -> SubmitJobsRequest | None:
        """What to send next, None where all is sent."""
        if self._sent == len(self._items):
            return None
        item = self._items[self._first + self._sent]
        self._sent += 1
        return _rpc.made(SubmitJobsRequest, item=item)

    def accept(self, result: BatchResult) -> Submitted:
        """Takes in the answer to the oldest item that was sent; the server answers in order."""
        if not self._sent:
            raise EasyQError("the server answered more often than it was asked")
        index, self._first, self._sent = self._first, self._first + 1, self._sent - 1
        item = self._items.pop(index)
        if result.HasField("error"):
            return Submitted(index=index, item=item, error=_error(result))
        return Submitted(index=index, item=item, job=result.job)

    def rewind(self) -> None:
        """A new stream begins: what has no answer is sent again, under the same keys."""
        self._sent = 0


def to_item(job: Submittable, *, task: str, key: str) -> BatchItem:
    """The item to send; `task` and `key` stand in where it has none."""
    if isinstance(job, BatchItem):
        item = BatchItem()
        item.CopyFrom(job)
        item.task_id = item.task_id or task
        item.idempotency_key = item.idempotency_key or key
        return item
    name, spec = job if isinstance(job, tuple) else (task, job)
    return _rpc.made(BatchItem, task_id=name, spec=spec, idempotency_key=key)


def _error(result: BatchResult) -> EasyQError:
    body = result.error
    fields: Iterable[FieldProblem] = [FieldProblem(field=one.field, message=one.message) for one in body.fields]
    error = BY_CODE.get(body.code, EasyQError)(body.message, reason=body.reason, fields=fields)
    error.code = body.code
    return error
