"""`Client.submit_many`: a stream of jobs out, a stream of answers in."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from easyq import _rpc
from easyq.backlog import Backlog, Submittable, Submitted, to_item
from easyq.errors import EasyQError
from easyq.outage import PAUSES, Outage
from easyq.v1.job_service_pb2 import SubmitJobsRequest


class ManySubmitter:
    """Takes from `jobs` in a thread of its own, at most `most` ahead of what has been answered and taken.

    `open_stream` is the stub's SubmitJobs. Iterating gives the answers, in the order of the jobs. Where the stream
    breaks another one begins with what has no answer yet; an outage longer than `patience` seconds is raised. What
    `jobs` raises is raised after the answers to all that came before it.
    """

    def __init__(
        self,
        jobs: Iterable[Submittable],
        *,
        task: str,
        most: int,
        patience: float,
        open_stream: Callable[[Iterator[SubmitJobsRequest]], Any],
        server: str,
    ) -> None:
        self._jobs = jobs
        self._task = task
        self._patience = patience
        self._open = open_stream
        self._server = server
        self._backlog = Backlog(most=most)
        self._changed = threading.Condition()
        self._stream = 0
        self._left = threading.Event()
        self._failure: BaseException | None = None

    def results(self) -> Iterator[Submitted]:
        """The answers. Leaving early (`break`, `close()`) ends the stream; what was sent by then may be accepted."""
        threading.Thread(target=self._take, name="easyq-submit-many", daemon=True).start()
        outage = Outage(self._patience)
        try:
            while not self._is_done():
                try:
                    for result in self._one_stream():
                        outage.over()
                        yield result
                    # Its end is either ours, or that of a server that stops.
                    self._left.wait(0 if self._is_done_now() else PAUSES[0])
                except EasyQError as error:
                    outage.met(error)
                    # Nothing to wait for but time, or the end.
                    self._left.wait(outage.pause)
            if self._failure is not None:
                raise self._failure
        finally:
            self._left.set()
            with self._changed:
                self._changed.notify_all()

    def _is_done(self) -> bool:
        with self._changed:
            # A stream that is begun for nothing costs a call: wait until there is something to send.
            self._changed.wait_for(lambda: self._backlog.done or self._backlog.waits)
            return self._backlog.done

    def _is_done_now(self) -> bool:
        with self._changed:
            return self._backlog.done

    def _take(self) -> None:
        try:
            for job in self._jobs:
                item = to_item(job, task=self._task, key=uuid.uuid4().hex)
                with self._changed:
                    self._changed.wait_for(lambda: not self._backlog.full or self._left.is_set())
                    if self._left.is_set():
                        return
                    self._backlog.add(item)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            self._failure = error
        finally:
            with self._changed:
                self._backlog.closed = True
                self._changed.notify_all()

    def _one_stream(self) -> Iterator[Submitted]:
        with self._changed:
            self._stream += 1
            self._backlog.rewind()
            number = self._stream
            self._changed.notify_all()
        call = self._open(self._requests(number))
        try:
            for response in call:
                with self._changed:
                    result = self._backlog.accept(response.result)
                    self._changed.notify_all()
                yield result
        except grpc.RpcError as error:
            raise _rpc.to_error(error, self._server) from error
        finally:
            with self._changed:
                self._stream += 1
                self._changed.notify_all()
            call.cancel()

    def _requests(self, number: int) -> Iterator[SubmitJobsRequest]:
        """What goes into stream `number`; runs in a thread of gRPC's."""
        while True:
            with self._changed:
                request: SubmitJobsRequest | None = None
                while request is None:
                    if self._stream != number or self._left.is_set():
                        return
                    request = self._backlog.next()
                    if request is None:
                        if self._backlog.closed:
                            return
                        self._changed.wait()
            yield request
