"""Notifications: what specs ask for, and deliveries as messages."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from easyq.v1.job_pb2 import Job as JobMessage
from easyq.v1.notification_service_pb2 import Delivery as DeliveryMessage
from easyq.v1.notification_service_pb2 import ListDeliveriesResponse
from easyq.v1.notify_pb2 import Webhook
from easyq.v1.spec_pb2 import JobSpec
from easyq_internal.store.v1 import delivery_store_pb2 as pb
from easyq_store.convert import jobs
from easyq_store.convert.basics import duration, duration_ms, timestamp
from easyq_store.domain.notices import Sent, Target
from easyq_store.domain.records import Delivery
from easyq_store.domain.states import NoticeChannel, NoticeEvent
from easyq_store.usecases.deliveries import Claimed, Wish

# How a serialized spec's `notify` and `webhooks` begin: the tags of fields 62 and 63.
_TAGS = (bytes(((62 << 3 | 2) & 0x7F | 0x80, 62 >> 4)), bytes(((63 << 3 | 2) & 0x7F | 0x80, 63 >> 4)))
# Larger specs are parsed each time.
_REMEMBERED_BYTES = 4_096
_EVENTS = (
    ("succeeds", NoticeEvent.SUCCEEDS),
    ("fails", NoticeEvent.FAILS),
    ("finishes", NoticeEvent.FINISHES),
)
#: The lane of all e-mails: they go by one server.
EMAIL_LANE = "email"
_PORTS = {"http": 80, "https": 443}


def targets_of(spec: bytes) -> tuple[Target, ...]:
    """Whom a serialized spec wants to be told.

    Every end of every job asks, and nearly none has any: those are told by a search for bytes, without parsing. First
    for single ones, which is many times as fast, and which texts seldom hold.
    """
    if _TAGS[0][0] not in spec and _TAGS[1][0] not in spec:
        return ()
    if _TAGS[0] not in spec and _TAGS[1] not in spec:
        return ()
    return _remembered(spec) if len(spec) <= _REMEMBERED_BYTES else _parsed(spec)


def _parsed(spec: bytes) -> tuple[Target, ...]:
    message = JobSpec.FromString(spec)
    return (*_webhooks(message), *_addresses(message))


_remembered = lru_cache(maxsize=1024)(_parsed)


def _webhooks(spec: JobSpec) -> Iterator[Target]:
    for name, event in _EVENTS:
        for index, webhook in enumerate(getattr(spec.webhooks, name)):
            yield Target(
                event=event,
                channel=NoticeChannel.WEBHOOK,
                name=str(index),
                value=webhook.SerializeToString(deterministic=True),
                lane=lane_of(webhook.url),
            )


def _addresses(spec: JobSpec) -> Iterator[Target]:
    for name, event in _EVENTS:
        for address in getattr(spec.notify, name):
            local, _, host = address.rpartition("@")
            # Hosts have no case; to most receivers, local parts neither, but that is theirs to say.
            same = f"{local}@{host.lower()}"
            yield Target(event=event, channel=NoticeChannel.EMAIL, name=same, value=address.encode(), lane=EMAIL_LANE)


def lane_of(url: str) -> str:
    """A URL's host and port; of one that can't be read, the URL's own text, which fails by itself."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return url[:256]
    return f"{(parts.hostname or '')[:256]}:{port}"


def delivery(record: Delivery) -> DeliveryMessage:
    """A delivery, nothing redacted."""
    is_webhook = record.channel is NoticeChannel.WEBHOOK
    return DeliveryMessage(
        delivery_id=record.delivery_id,
        task_id=record.task_id,
        job_id=record.job_id,
        execution_id=record.execution_id,
        event=DeliveryMessage.Event.Kind.ValueType(record.event),
        channel=DeliveryMessage.Channel.Kind.ValueType(record.channel),
        target=Webhook.FromString(record.target).url if is_webhook else record.target.decode(),
        state=DeliveryMessage.State.ValueType(record.state),
        outcome=JobMessage.State.ValueType(record.outcome),
        attempts=record.attempts,
        created_at=timestamp(record.created_at),
        next_attempt_at=timestamp(record.next_at),
        last_attempt_at=timestamp(record.last_attempt_at),
        delivered_at=timestamp(record.delivered_at),
        response_code=record.response_code,
        error=record.error,
    )


def page(records: Sequence[Delivery], token: str) -> ListDeliveriesResponse:
    """A page of deliveries."""
    return ListDeliveriesResponse(items=[delivery(record) for record in records], next_page_token=token)


def wish(request: pb.ClaimDeliveriesRequest) -> Wish:
    """How much of what is due is asked for."""
    return Wish(
        limit=max(1, min(request.limit, 1_000)),
        lease=max(1, duration_ms(request.lease)),
        per_lane=max(1, request.per_lane),
        per_site=max(0, request.per_site),
        under_way=dict(request.under_way),
    )


def claimed(item: Claimed) -> pb.ClaimedDelivery:
    """A claimed delivery with what is told of the execution."""
    record = item.delivery
    message = pb.ClaimedDelivery(
        delivery_id=record.delivery_id,
        lane=record.lane,
        attempt=record.attempts,
        tries=record.tries,
        age=duration(item.age),
        event=DeliveryMessage.Event.Kind.ValueType(record.event),
        outcome=JobMessage.State.ValueType(record.outcome),
        execution=jobs.execution(item.execution),
        stdout_tail=item.stdout_tail,
        stderr_tail=item.stderr_tail,
    )
    if record.channel is NoticeChannel.WEBHOOK:
        message.webhook.ParseFromString(record.target)
    else:
        message.address = record.target.decode()
    return message


def sent(request: pb.RecordDeliveryRequest) -> Sent:
    """What became of an attempt."""
    if request.HasField("delivered"):
        return Sent(delivered=True, response_code=request.delivered.response_code or None)
    failed = request.failed
    return Sent(
        delivered=False,
        response_code=failed.response_code or None,
        error=failed.error,
        retry_in=duration_ms(failed.retry_in) if failed.HasField("retry_in") else None,
    )
