"""Between the messages about deliveries and the domain."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from easyq.v1.job_pb2 import Failure, Job
from easyq.v1.notification_service_pb2 import Delivery
from easyq_chassis.redaction import Redactor
from easyq_internal.store.v1.delivery_store_pb2 import (
    ClaimDeliveriesResponse,
    ClaimedDelivery,
    Delivered,
    NotDelivered,
    RecordDeliveryRequest,
)
from easyq_scheduler.domain.hook import Answer, Hook
from easyq_scheduler.domain.notice import Notice
from easyq_scheduler.domain.output import last_lines


def seconds_until(claims: ClaimDeliveriesResponse) -> float:
    """Seconds until more may be due; a long time where nothing is planned."""
    return claims.next_in.ToMilliseconds() / 1000 if claims.HasField("next_in") else float("inf")


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


def notice_of(item: ClaimedDelivery, *, public_url: str, redactor: Redactor) -> Notice:
    """What is told of an end, without secrets."""
    execution = item.execution
    failed = execution.HasField("error")
    secrets = redactor.secrets_in(execution.envs)
    link = f"{public_url.rstrip('/')}/tasks/{execution.task_id}/jobs/{execution.job_id}" if public_url else ""
    return Notice(
        delivery_id=item.delivery_id,
        event=Delivery.Event.Kind.Name(item.event).lower(),
        outcome=Job.State.Name(item.outcome),
        task_id=execution.task_id,
        job_id=execution.job_id,
        execution_id=execution.execution_id,
        attempt=execution.attempt,
        image=execution.image,
        exit_code=execution.exit_code if execution.HasField("exit_code") else None,
        reason=Failure.Reason.Name(execution.error.reason) if failed else "",
        message=redactor.hide(execution.error.message, secrets) if failed else "",
        ended_ms=execution.finished_at.ToMilliseconds(),
        started_ms=execution.started_at.ToMilliseconds() if execution.HasField("started_at") else None,
        fire_ms=execution.fire_at.ToMilliseconds() if execution.HasField("fire_at") else None,
        link=link,
    )


def hook_of(item: ClaimedDelivery) -> Hook:
    """The receiver of a webhook."""
    hook = item.webhook
    return Hook(url=hook.url, headers=dict(hook.headers), secret=hook.secret, secret_name=hook.secret_name)


def outputs_of(item: ClaimedDelivery, redactor: Redactor) -> tuple[str, str]:
    """The last lines of stdout and stderr, fit to be shown."""
    execution = item.execution
    secrets = redactor.secrets_in(execution.envs)
    out, err = (
        last_lines(tail, cut=len(tail) < stored, secrets=secrets, redactor=redactor)
        for tail, stored in (
            (item.stdout_tail, execution.stdout_bytes),
            (item.stderr_tail, execution.stderr_bytes),
        )
    )
    return out, err


def result(item: ClaimedDelivery, answer: Answer, wait: float | None) -> RecordDeliveryRequest:
    """What became of an attempt; `wait` in seconds until the next, None: there is none."""
    request = RecordDeliveryRequest(delivery_id=item.delivery_id, attempt=item.attempt)
    if answer.delivered:
        request.delivered.CopyFrom(Delivered(response_code=answer.code))
        return request
    failed = NotDelivered(response_code=answer.code, error=answer.error)
    if wait is not None:
        failed.retry_in.CopyFrom(duration(wait))
    request.failed.CopyFrom(failed)
    return request
