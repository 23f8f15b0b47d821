"""What a notification says, and the JSON of it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

#: Of the JSON: fields may be added to it; one that goes or changes its meaning raises it.
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A job's end as it is told. Times are ms since the epoch; None where there is none."""

    delivery_id: str
    # `succeeds`, `fails` or `finishes`.
    event: str
    # SUCCEEDED, FAILED, TIMED_OUT, STOPPED or EXPIRED.
    outcome: str
    task_id: str
    job_id: str
    execution_id: str
    # Number of the execution among those of its job.
    attempt: int
    image: str
    exit_code: int | None = None
    # Name of a `Failure.Reason`, and a sentence.
    reason: str = ""
    message: str = ""
    ended_ms: int
    started_ms: int | None = None
    # Nominal time of the fire that ended with it.
    fire_ms: int | None = None
    # Empty: nobody has said under which URL people find this farm.
    link: str = ""

    @property
    def ran_seconds(self) -> float | None:
        """How long it ran, None if it never did."""
        return None if self.started_ms is None else max(0, self.ended_ms - self.started_ms) / 1000


def body(notice: Notice) -> bytes:
    """The JSON of a webhook: the same bytes at each attempt."""
    error = {"reason": notice.reason, "message": notice.message} if notice.reason or notice.message else None
    told = {
        "version": SCHEMA_VERSION,
        "id": notice.delivery_id,
        "event": notice.event,
        "time": moment(notice.ended_ms),
        "taskId": notice.task_id,
        "jobId": notice.job_id,
        "executionId": notice.execution_id,
        "attempt": notice.attempt,
        "outcome": notice.outcome,
        "exitCode": notice.exit_code,
        "error": error,
        "startedAt": None if notice.started_ms is None else moment(notice.started_ms),
        "finishedAt": moment(notice.ended_ms),
        "runSeconds": notice.ran_seconds,
        "fireAt": None if notice.fire_ms is None else moment(notice.fire_ms),
        "image": notice.image,
        "link": notice.link or None,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def moment(ms: int) -> str:
    """A time as the API shows it: UTC, milliseconds, `Z`."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"
