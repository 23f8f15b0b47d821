"""One handler, its thread, and the bounded queue before it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from easyq_chassis.error_reports.handlers import ErrorHandler
from easyq_chassis.error_reports.report import Report
from easyq_chassis.logs import get_logger


class Dropped(Exception):
    """The handler has more before it than is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What became of the reports to one handler, since the start."""

    handled: int
    failed: int
    dropped: int
    waiting: int


class Outlet:
    """Takes reports for one handler and never waits for it. The thread ends with the process, whatever it does."""

    def __init__(self, name: str, make: Callable[[], ErrorHandler], *, room: int = 100) -> None:
        """`make` is called in the thread, and again for a later report where it failed. `room`: reports that wait."""
        self.name = name
        self._make = make
        self._queue: queue.Queue[tuple[Report, Future[None]] | None] = queue.Queue(room)
        self._handler: ErrorHandler | None = None
        self._handled = self._failed = self._dropped = 0
        self._log = get_logger()
        self._thread = threading.Thread(target=self._run, name=f"errors:{name}", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """What became of the reports so far."""
        return Counts(handled=self._handled, failed=self._failed, dropped=self._dropped, waiting=self._queue.qsize())

    def offer(self, report: Report) -> Future[None]:
        """Hands a report over; the future is done once the handler has it, or tells why not (`Dropped`, or its own)."""
        future: Future[None] = Future()
        try:
            self._queue.put_nowait((report, future))
        except queue.Full:
            self._dropped += 1
            if _tells(self._dropped):
                self._log.warning("error_report_dropped", handler=self.name, dropped=self._dropped)
            future.set_exception(Dropped(f"{self.name} has {self._queue.maxsize} reports before it"))
        return future

    def end(self) -> None:
        """Asks the thread to end, once it is through with what waits."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            # It is stuck, or far behind: it ends with the process.
            return

    def join(self, timeout: float) -> bool:
        """Whether the thread has ended, within so many seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # In the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        self._try(self._open)
        while (item := self._queue.get()) is not None:
            report, future = item
            error = self._try(partial(self._handle, report))
            if error is None:
                self._handled += 1
                future.set_result(None)
            else:
                self._failed += 1
                future.set_exception(error)
        if self._handler is not None:
            self._try(self._handler.close)

    def _handle(self, report: Report) -> None:
        self._open().handle(report)

    def _open(self) -> ErrorHandler:
        if self._handler is None:
            self._handler = self._make()
        return self._handler

    def _try(self, call: Callable[[], object]) -> Exception | None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - code of others
            return self._told(error)
        except BaseException as error:  # noqa: BLE001 - one that calls `sys.exit` ends nothing but its own call
            return self._told(RuntimeError(f"it raised {type(error).__name__}"))
        return None

    def _told(self, error: Exception) -> Exception:
        if _tells(self._failed + 1):
            self._log.warning("error_handler_failed", handler=self.name, error=f"{type(error).__name__}: {error}"[:500])
        return error


def _tells(count: int) -> bool:
    """At powers of two: one line, then fewer and fewer."""
    return count & (count - 1) == 0
