"""Between a claimed report of a failed execution, and what error handlers get."""

from __future__ import annotations

from easyq.v1.job_pb2 import Job
from easyq_chassis.error_reports import Kind, Report
from easyq_chassis.error_reports.texts import hidden
from easyq_chassis.redaction import Redactor
from easyq_internal.store.v1.delivery_store_pb2 import ClaimedDelivery
from easyq_scheduler import convert_notices
from easyq_scheduler.domain.notice import Notice, moment

# What a job is called that another attempt follows.
_AGAIN = Job.State.Name(Job.RETRYING)


def report_of(item: ClaimedDelivery, *, public_url: str, redactor: Redactor) -> Report:
    """The report: the same at each attempt to tell it, without secrets.

    It goes to others than those who may read the job's output: what looks like a secret there is hidden too.
    """
    notice = convert_notices.notice_of(item, public_url=public_url, redactor=redactor)
    stdout, stderr = convert_notices.outputs_of(item, redactor)
    execution = item.execution
    tags = {
        "task": notice.task_id,
        "job": notice.job_id,
        "execution": notice.execution_id,
        "attempt": str(notice.attempt),
        "agent": execution.host,
        "image": redactor.show("", notice.image),
        "reason": notice.reason,
        "exitCode": "" if notice.exit_code is None else str(notice.exit_code),
        "outcome": notice.outcome,
    }
    return Report(
        report_id=notice.delivery_id.replace("-", ""),
        kind=Kind.EXECUTION,
        title=_title(notice),
        place=notice.task_id,
        at_ms=notice.ended_ms,
        fingerprint=_fingerprint(notice),
        tags={name: value for name, value in tags.items() if value},
        facts={name: value for name, value in _facts(notice).items() if value},
        output={name: hidden(text, redactor) for name, text in (("stdout", stdout), ("stderr", stderr)) if text},
    )


def _fingerprint(notice: Notice) -> tuple[str, ...]:
    """Failures of one task for one reason, with one exit code, have one cause as far as can be told."""
    return ("execution", notice.task_id, notice.reason, "" if notice.exit_code is None else str(notice.exit_code))


def _title(notice: Notice) -> str:
    why = notice.message or notice.reason.lower().replace("_", " ")
    how = "failed, and is tried again" if notice.outcome == _AGAIN else notice.outcome.lower().replace("_", " ")
    return " ".join(f"{notice.task_id} {how}{': ' if why else ''}{why}".split())[:200]


def _facts(notice: Notice) -> dict[str, str]:
    ran = notice.ran_seconds
    return {
        "message": notice.message,
        "startedAt": "" if notice.started_ms is None else moment(notice.started_ms),
        "finishedAt": moment(notice.ended_ms),
        "runSeconds": "" if ran is None else f"{ran:.3f}",
        "fireAt": "" if notice.fire_ms is None else moment(notice.fire_ms),
        "link": notice.link,
    }
