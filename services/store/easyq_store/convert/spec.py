"""What the store reads of a spec: when it runs, and what follows a failure. The rest it only keeps."""

import math
from collections.abc import Iterable
from functools import lru_cache

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from easyq.v1.spec_pb2 import JobSpec
from easyq_store.convert.basics import duration_ms, timestamp_ms
from easyq_store.domain.metadata import terms
from easyq_store.domain.policy import Backoff, Policy
from easyq_store.domain.records import Needs
from easyq_store.domain.states import OnLost, Overlap
from easyq_store.domain.timing import Timing

_DEFAULT = Backoff()
# Fields that say which times are fires.
_COUNTED_ANEW = ("cron", "time_zone", "jitter", "start_after", "end_at", "max_runs")
# All that deciding on fires needs.
_ABOUT_TIME = (*_COUNTED_ANEW, "overlap", "misfire", "misfire_deadline", "expiration", "start_deadline")
# Larger specs are parsed each time: they are rare, and would fill the memory.
_REMEMBERED_BYTES = 4_096


def serialized(spec: JobSpec) -> bytes:
    """The same spec as the same bytes."""
    return spec.SerializeToString(deterministic=True)


def timing_of(spec: JobSpec) -> Timing:
    """When it is due, and until when it may start."""
    schedule = spec.WhichOneof("schedule")
    return Timing(
        start_at=timestamp_ms(spec.start_at) if schedule == "start_at" else None,
        start_in=duration_ms(spec.start_in) if schedule == "start_in" else None,
        expiration=timestamp_ms(spec.expiration) if spec.HasField("expiration") else None,
        start_deadline=duration_ms(spec.start_deadline) if spec.HasField("start_deadline") else None,
    )


def policy_of(spec: bytes) -> Policy:
    """What follows a failure, out of a serialized spec."""
    return _remembered(spec) if len(spec) <= _REMEMBERED_BYTES else _parsed(spec)


def _parsed(spec: bytes) -> Policy:
    message = JobSpec.FromString(spec)
    return Policy(
        retries=message.retries,
        infra_retries=message.infra_retries if message.HasField("infra_retries") else Policy().infra_retries,
        backoff=_backoff(message),
        retry_on=tuple(message.retry_on),
        on_lost=OnLost(message.on_lost) if message.on_lost else OnLost.RERUN,
        priority=message.priority,
        timing=timing_of(message),
        needs=needs_of(message),
        image=message.image,
        overlap=Overlap(message.overlap) if message.overlap else Overlap.SKIP,
        times=serialized(_only(message, _COUNTED_ANEW)) if recurs(message) else b"",
        max_runs=message.max_runs,
    )


_remembered = lru_cache(maxsize=1024)(_parsed)


def recurs(spec: JobSpec) -> bool:
    """Whether it is the spec of a recurring job."""
    return spec.WhichOneof("schedule") == "cron"


def about_time(spec: bytes) -> JobSpec:
    """A serialized spec's fields about time."""
    return _only(JobSpec.FromString(spec), _ABOUT_TIME)


def _only(spec: JobSpec, names: Iterable[str]) -> JobSpec:
    chosen = JobSpec()
    for field, value in spec.ListFields():
        if field.name not in names:
            continue
        if field.message_type is None:
            setattr(chosen, field.name, value)
        else:
            getattr(chosen, field.name).CopyFrom(value)
    return chosen


def needs_of(spec: JobSpec) -> Needs | None:
    """What its executions ask of their host; None: nothing but a slot."""
    resources = spec.resources
    if not spec.agent_labels and not (resources.cpus or resources.memory or resources.gpus):
        return None
    return Needs(
        # Upwards: a share of a thousandth is more than nothing.
        cpu_millis=math.ceil(round(resources.cpus * 1000, 3)),
        memory=resources.memory,
        gpus=resources.gpus,
        labels=tuple(sorted(spec.agent_labels.items())),
    )


def needs_in(spec: bytes) -> Needs | None:
    """The same out of a serialized spec; of one that can't be read too, since what has none is run all the same."""
    try:
        return policy_of(spec).needs
    except DecodeError:
        return None


def labels_of(spec: JobSpec) -> tuple[str, ...]:
    """Each `key=value`, sorted."""
    return tuple(sorted(f"{key}={value}" for key, value in spec.labels.items())) if spec.labels else ()


def metadata_of(spec: JobSpec) -> tuple[str, ...]:
    """What lists find a job by in its metadata, sorted: see `domain.metadata.terms`."""
    return terms(MessageToDict(spec.metadata)) if spec.HasField("metadata") else ()


def _backoff(spec: JobSpec) -> Backoff:
    message = spec.backoff
    return Backoff(
        min_ms=duration_ms(message.min) if message.HasField("min") else _DEFAULT.min_ms,
        factor=message.factor if message.HasField("factor") else _DEFAULT.factor,
        max_ms=duration_ms(message.max) if message.HasField("max") else _DEFAULT.max_ms,
        jitter=message.jitter if message.HasField("jitter") else _DEFAULT.jitter,
        max_elapsed_ms=duration_ms(message.max_elapsed) if message.HasField("max_elapsed") else None,
    )
