"""Failed executions, told to the error handlers of this process."""

from __future__ import annotations

from easyq_chassis import error_reports
from easyq_chassis.redaction import Redactor
from easyq_internal.store.v1.delivery_store_pb2 import ClaimedDelivery
from easyq_scheduler.convert_reports import report_of
from easyq_scheduler.domain.hook import Answer


class ReportSender:
    """`Sender` of reports. One is taken once every handler has it; those that have it don't get it again."""

    def __init__(self, *, timeout: float, public_url: str, redactor: Redactor) -> None:
        self._timeout = timeout
        self._public_url = public_url
        self._redactor = redactor

    async def send(self, item: ClaimedDelivery) -> Answer:
        if not error_reports.handlers():
            return Answer(error="no error handler is set (error_handlers)")
        report = report_of(item, public_url=self._public_url, redactor=self._redactor)
        problems = await error_reports.deliver(report, self._timeout)
        return Answer(delivered=not problems, error="; ".join(problems)[:500])
