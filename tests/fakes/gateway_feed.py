"""A store's feed of changes that a test fills by hand."""

import asyncio
from typing import Any

from easyq.v1.event_service_pb2 import Event, EventChange, EventKind
from easyq.v1.job_pb2 import Job
from easyq_internal.store.v1 import feed_pb2
from easyq_internal.store.v1.feed_pb2_grpc import FeedServiceServicer

_ENDED = frozenset({Job.SUCCEEDED, Job.FAILED, Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED})


class FakeFeed(FeedServiceServicer):
    """Remembers everything from `floor` on. Streams are ended by stopping the server."""

    def __init__(self, boot: str = "b1") -> None:
        self.boot = boot
        self.floor = 0
        self.events: list[Event] = []
        self.watches: list[feed_pb2.WatchRequest] = []
        self.streams = 0
        self._news: set[asyncio.Event] = set()

    @property
    def head(self) -> int:
        return len(self.events)

    def tell(self, *events: Event) -> None:
        self.events += events
        self._wake()

    def tell_job(self, job: Job, change: EventChange.Kind.ValueType = EventChange.CHANGED) -> None:
        self.tell(
            Event(
                kind=EventKind.JOB,
                change=change,
                task_id=job.task_id,
                job_id=job.job_id,
                state=Job.State.Name(job.state),
                ended=job.state in _ENDED,
            )
        )

    def begin_anew(self, boot: str) -> None:
        """As a store that was restarted; end its server as well."""
        self.boot, self.floor, self.events = boot, 0, []

    def forget(self) -> None:
        """What was told is not known any more."""
        self.floor = self.head

    async def Watch(self, request: feed_pb2.WatchRequest, context: Any) -> Any:
        self.watches.append(request)
        self.streams += 1
        news = asyncio.Event()
        self._news.add(news)
        known = request.boot == self.boot and self.floor <= request.after <= self.head
        at = request.after if known else max(self.floor, self.head - request.back) if not request.boot else self.head
        reset = bool(request.boot) and not known
        try:
            yield feed_pb2.WatchResponse(boot=self.boot, first=at + 1, reset=reset, head=self.head)
            while True:
                news.clear()
                if at < self.head:
                    new, first, at = self.events[at:], at + 1, self.head
                    yield feed_pb2.WatchResponse(boot=self.boot, first=first, events=new, head=at)
                await news.wait()
        finally:
            self.streams -= 1
            self._news.discard(news)

    def _wake(self) -> None:
        for news in self._news:
            news.set()
