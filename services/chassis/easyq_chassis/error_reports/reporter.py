"""Brings errors to all handlers that were chosen."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from easyq_chassis.error_reports.ids import kept
from easyq_chassis.error_reports.outlet import Counts, Outlet
from easyq_chassis.error_reports.report import Kind, Report, cause_of, raised_of
from easyq_chassis.error_reports.texts import fit, one_line
from easyq_chassis.error_reports.throttle import Throttle
from easyq_chassis.logs import get_logger
from easyq_chassis.redaction import Redactor

# Of one cause.
_MOST, _WINDOW = 5, 60.0
# Reports that not all handlers have yet.
_MOST_REMEMBERED = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Hiding:
    """What texts of errors are told without: values that the process knows, and what `redactor` takes for secrets."""

    redactor: Redactor = field(default_factory=Redactor)
    secrets: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        return fit(text, self.redactor, self.secrets)


class Reporter:
    """Reports of one process. No method waits for a handler, but `deliver` and `close`, for a bounded time."""

    def __init__(
        self,
        service: str,
        outlets: Sequence[Outlet],
        *,
        hide: Callable[[str], str] = Hiding(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._outlets = tuple(outlets)
        self._hide = hide
        self._clock = clock
        self._throttle: Throttle[tuple[str, ...]] = Throttle(most=_MOST, window=_WINDOW)
        self._brought: OrderedDict[str, dict[str, Future[None]]] = OrderedDict()
        self._log = get_logger()

    @property
    def counts(self) -> dict[str, Counts]:
        """What became of the reports, by handler."""
        return {outlet.name: outlet.counts for outlet in self._outlets}

    def crash(self, error: BaseException, place: str, *, fatal: bool = False, tags: Mapping[str, str]) -> None:
        """Tells an error of the service's own. Never raises, never waits."""
        if not self._outlets:
            return
        try:
            kind, arose = cause_of(error)
            fingerprint = (self._service, kind, arose or place)
            left_out = self._throttle.admit(fingerprint, self._clock())
            if left_out is None:
                return
            report = self._report(error, place, fingerprint, fatal=fatal, left_out=left_out, tags=tags)
        except Exception as problem:  # noqa: BLE001 - who reports an error must not get another one
            self._log.warning("error_report_failed", error=type(problem).__name__, exc_info=problem)
            return
        for outlet in self._outlets:
            outlet.offer(report)

    def _report(
        self,
        error: BaseException,
        place: str,
        fingerprint: tuple[str, ...],
        *,
        fatal: bool,
        left_out: int,
        tags: Mapping[str, str],
    ) -> Report:
        raised = raised_of(error, self._hide)
        # Whatever was bound for the log at this moment: the agent, the trace.
        bound = {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}
        ids = {**bound, **kept(error), **tags}
        return Report(
            report_id=uuid.uuid4().hex,
            kind=Kind.CRASH,
            title=one_line(f"{raised[-1].kind}: {raised[-1].text}"),
            place=place,
            at_ms=time.time_ns() // 1_000_000,
            fingerprint=fingerprint,
            tags={name: one_line(self._hide(value)) for name, value in ids.items() if value},
            raised=raised,
            fatal=fatal,
            left_out=left_out,
        )

    async def deliver(self, report: Report, timeout: float) -> list[str]:
        """Brings a report to every handler that doesn't have it yet; what went wrong, by sentences.

        A handler that has not taken it after `timeout` seconds is left to itself.
        """
        brought = self._brought.setdefault(report.report_id, {})
        self._brought.move_to_end(report.report_id)
        if len(self._brought) > _MOST_REMEMBERED:
            self._brought.popitem(last=False)
        for outlet in self._outlets:
            before = brought.get(outlet.name)
            # One that still waits before a handler which takes its time is not put there twice.
            if before is None or (before.done() and before.exception() is not None):
                brought[outlet.name] = outlet.offer(report)
        results = await asyncio.gather(*(_result(future, timeout) for future in brought.values()))
        problems = [
            f"{name}: {self._hide(problem)}"
            for name, problem in zip(brought, results, strict=True)
            if problem is not None
        ]
        if not problems:
            # Who asks for it once more wants it everywhere.
            self._brought.pop(report.report_id, None)
        return problems

    def close(self, grace: float) -> None:
        """Lets handlers end with what waits, for `grace` seconds in all; others end with the process."""
        until = time.monotonic() + grace
        for outlet in self._outlets:
            outlet.end()
        for outlet in self._outlets:
            if not outlet.join(max(0.0, until - time.monotonic())):
                self._log.warning("error_handler_left", handler=outlet.name, waiting=outlet.counts.waiting)


async def _result(future: Future[None], timeout: float) -> str | None:
    waited = asyncio.wrap_future(future)
    # What comes of it after the wait for it is looked at by the next try: asyncio is not to complain of it.
    waited.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        async with asyncio.timeout(timeout):
            await asyncio.shield(waited)
    except TimeoutError:
        return f"it did not take it within {timeout:g} s"
    except Exception as error:  # noqa: BLE001 - code of others
        return one_line(f"{type(error).__name__}: {error}")
    return None
