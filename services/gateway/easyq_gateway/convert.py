"""Between messages and the records of the domain; errors ↔ what answers show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq.v1.error_reason_pb2 import ErrorReason
from easyq_chassis.errors import EasyQError, FieldProblem, InvalidArgument, error_class
from easyq_gateway import convert_receivers
from easyq_gateway.domain import problems as found
from easyq_gateway.domain.defaults import Defaults, default_backoff_max, default_pull
from easyq_gateway.domain.problems import Problem, member_path
from easyq_gateway.domain.spec import MountFacts, SpecFacts
from easyq_gateway.domain.waiting import JobSnapshot, Snapshot, Words
from easyq_internal.store.v1 import records_pb2

_MOST_ERROR_TEXT = 400
_STAND_IN = "@daily"
# Fields that say which times are fires.
_COUNTED_ANEW = ("cron", "time_zone", "jitter", "start_after", "end_at", "max_runs")
_TIME_FIELDS = (
    "time_zone",
    "overlap",
    "misfire",
    "jitter",
    "misfire_deadline",
    "start_after",
    "end_at",
    "max_runs",
    "expiration",
)


def to_ms(message: Timestamp | Duration) -> int:
    """Returns a time or a duration in whole milliseconds."""
    return message.seconds * 1_000 + message.nanos // 1_000_000


def ms_of(message: Any, field: str) -> int | None:
    """Returns a field's time or duration in milliseconds, None where it is unset."""
    return to_ms(getattr(message, field)) if message.HasField(field) else None


# ------------------------------------------------------------------------------------------------------------ specs


def facts_of(spec: spec_pb2.JobSpec, defaults: Defaults, *, recurs: bool | None = None) -> SpecFacts:
    """Returns what the rules look at. `recurs` is told where a `cron` was given that is not in the message."""
    recurs = is_recurring(spec) if recurs is None else recurs
    backoff = spec.backoff
    resources = spec.resources
    return SpecFacts(
        image=spec.image,
        size=spec.ByteSize(),
        envs=spec.envs,
        label_keys=tuple(spec.labels) if spec.labels else (),
        retry_on=spec.retry_on,
        backoff_min_ms=ms_of(backoff, "min"),
        backoff_max_ms=ms_of(backoff, "max"),
        cpus=resources.cpus,
        memory=resources.memory,
        mounts=[_mount_facts(mount) for mount in spec.mounts] if spec.mounts else (),
        start_at_ms=ms_of(spec, "start_at"),
        expiration_ms=ms_of(spec, "expiration"),
        recurs=recurs,
        of_recurring=() if recurs else _of_recurring(spec, defaults),
        start_after_ms=ms_of(spec, "start_after"),
        end_at_ms=ms_of(spec, "end_at"),
        hooks=convert_receivers.hook_facts(spec) if spec.HasField("webhooks") else (),
    )


def _mount_facts(mount: spec_pb2.Mount) -> MountFacts:
    kind = spec_pb2.Mount.Type.Kind
    name = kind.Name(mount.type) if mount.type in kind.values() else ""
    return MountFacts(kind=name, source=mount.source, target=mount.target)


def _of_recurring(spec: spec_pb2.JobSpec, defaults: Defaults) -> list[str]:
    # What every resolved spec shows may be sent back: a spec that was read can be put as it is.
    told = (
        ("timeZone", spec.time_zone),
        ("overlap", spec.overlap and spec.overlap != spec_pb2.Overlap.Mode.Value(defaults.overlap)),
        ("misfire", spec.misfire and spec.misfire != spec_pb2.Misfire.Mode.Value(defaults.misfire)),
        ("jitter", spec.HasField("jitter")),
        ("misfireDeadline", spec.HasField("misfire_deadline")),
        ("startAfter", spec.HasField("start_after")),
        ("endAt", spec.HasField("end_at")),
        ("maxRuns", spec.max_runs),
    )
    return [name for name, is_told in told if is_told]


def spec_of(defaults: Defaults) -> spec_pb2.JobSpec:
    """Returns a spec that says nothing but the defaults; those that depend on others are left to `resolve`."""
    spec = spec_pb2.JobSpec(
        retries=defaults.retries,
        priority=defaults.priority,
        infra_retries=defaults.infra_retries,
        log_limit=defaults.log_limit,
        init=False,
        privileged=False,
        resources=spec_pb2.Resources(),
        on_lost=spec_pb2.OnLost.Mode.Value(defaults.on_lost),
        overlap=spec_pb2.Overlap.Mode.Value(defaults.overlap),
        misfire=spec_pb2.Misfire.Mode.Value(defaults.misfire),
    )
    spec.stop_grace.FromMilliseconds(defaults.stop_grace_ms)
    spec.backoff.min.FromMilliseconds(defaults.backoff_min_ms)
    spec.backoff.factor = defaults.backoff_factor
    spec.backoff.jitter = defaults.backoff_jitter
    spec.retry_on.extend(defaults.retry_on)
    if defaults.report_failure is not None:
        spec.report_failure = spec_pb2.ReportFailure.Mode.Value(defaults.report_failure)
    set_ms(spec, "timeout", defaults.timeout_ms)
    set_ms(spec, "start_deadline", defaults.start_deadline_ms)
    set_ms(spec.backoff, "max_elapsed", defaults.backoff_max_elapsed_ms)
    return spec


def resolve(spec: spec_pb2.JobSpec, said: spec_pb2.JobSpec, defaults: Defaults) -> None:
    """Sets whatever has a default and is unset, in place; `said` is `spec_of(defaults)`."""
    if not spec.report_failure:
        # UNSPECIFIED says nothing.
        spec.ClearField("report_failure")
    resolved = spec_pb2.JobSpec()
    resolved.CopyFrom(said)
    _merge(resolved, spec)
    spec.CopyFrom(resolved)
    spec.pull = spec.pull or spec_pb2.Pull.Mode.Value(default_pull(spec.image))
    if not spec.backoff.HasField("max"):
        spec.backoff.max.FromMilliseconds(default_backoff_max(defaults, to_ms(spec.backoff.min)))
    for mount in spec.mounts:
        mount.type = mount.type or spec_pb2.Mount.Type.BIND
    if is_recurring(spec):
        _resolve_schedule(spec, defaults)


def _resolve_schedule(spec: spec_pb2.JobSpec, defaults: Defaults) -> None:
    spec.time_zone = spec.time_zone or defaults.time_zone
    if not spec.HasField("jitter"):
        spec.jitter.FromMilliseconds(defaults.jitter_ms)
    if not spec.HasField("misfire_deadline"):
        spec.misfire_deadline.FromMilliseconds(defaults.misfire_deadline_ms)


def _merge(resolved: spec_pb2.JobSpec, spec: spec_pb2.JobSpec) -> None:
    # Merging adds up the parts of a duration, and the items of a list: those that are said replace the default's.
    _forget(resolved, spec, ("stop_grace", "timeout", "start_deadline"))
    _forget(resolved.backoff, spec.backoff, ("min", "max_elapsed"))
    if spec.retry_on:
        resolved.ClearField("retry_on")
    resolved.MergeFrom(spec)


def _forget(message: Message, said: Message, names: Iterable[str]) -> None:
    for name in names:
        if said.HasField(name):
            message.ClearField(name)


def schedule_of(spec: spec_pb2.JobSpec, wrong: Collection[str], defaults: Defaults) -> spec_pb2.JobSpec | None:
    """Returns only what the scheduler looks at, resolved, without what is known to be wrong (by its JSON names).

    None where the job doesn't recur. A wrong `cron` is replaced, so that the other fields can be looked at.
    """
    if not (is_recurring(spec) or "cron" in wrong):
        return None
    asked = spec_pb2.JobSpec(cron=_STAND_IN if "cron" in wrong else spec.cron)
    for name in _TIME_FIELDS:
        if spec.DESCRIPTOR.fields_by_name[name].json_name in wrong:
            continue
        value = getattr(spec, name)
        if not isinstance(value, Message):
            setattr(asked, name, value)
        elif ms_of(spec, name) is not None:
            getattr(asked, name).CopyFrom(value)
    asked.overlap = asked.overlap or spec_pb2.Overlap.Mode.Value(defaults.overlap)
    asked.misfire = asked.misfire or spec_pb2.Misfire.Mode.Value(defaults.misfire)
    _resolve_schedule(asked, defaults)
    return asked


def same_times(one: spec_pb2.JobSpec, other: spec_pb2.JobSpec) -> bool:
    """Whether the times of two recurring specs with their defaults are the same, so that they are not counted anew."""
    return all(getattr(one, name) == getattr(other, name) for name in _COUNTED_ANEW)


def is_recurring(spec: spec_pb2.JobSpec) -> bool:
    """Whether the job has a `cron`."""
    return spec.HasField("cron")


def has_time(spec: spec_pb2.JobSpec) -> bool:
    """Whether the job waits for a time, so that the scheduler admits it."""
    return spec.WhichOneof("schedule") is not None


def asked(spec: spec_pb2.JobSpec) -> bytes:
    """Returns what a client asked for, as long as no default is resolved: the same for every repeat of a request."""
    return spec.SerializeToString(deterministic=True)


# ---------------------------------------------------------------------------------------------------------- waiting


def snapshot_of(execution: job_pb2.Execution) -> Snapshot:
    """Returns what counts for why an execution waits."""
    return Snapshot(
        state=state_name(execution),
        trigger=_name(job_pb2.Trigger.Kind, execution.trigger),
        attempt=execution.attempt,
        host=execution.host,
        due_at_ms=ms_of(execution, "due_at"),
        queued_at_ms=ms_of(execution, "queued_at"),
        assigned_at_ms=ms_of(execution, "assigned_at"),
    )


def job_snapshot_of(job: job_pb2.Job) -> JobSnapshot:
    """Returns what counts for why a job as a whole waits."""
    return JobSnapshot(
        state=_name(job_pb2.Job.State, job.state),
        next_run_ms=ms_of(job, "next_run_at"),
        last_modified_ms=ms_of(job, "last_modified_at"),
        paused_ms=ms_of(job.schedule, "paused_at"),
        waiting_fire_ms=ms_of(job.schedule, "waiting_fire_at"),
    )


def state_name(execution: job_pb2.Execution) -> str:
    """Returns the name of an execution's state; empty for one of a later version."""
    return _name(job_pb2.Execution.State, execution.state)


def _name(enum: Any, number: int) -> str:
    return str(enum.Name(number)) if number in enum.values() else ""


def set_waiting(waiting: job_pb2.Waiting, words: Words) -> None:
    """Writes the domain's words into a message."""
    waiting.reason = job_pb2.Waiting.Reason.Value(words.reason)
    waiting.message = words.message
    set_ms(waiting, "since", words.since_ms)
    set_ms(waiting, "next_look_at", words.next_look_ms)


def set_since(waiting: job_pb2.Waiting, record: Any, field: str) -> None:
    """Where nobody knows since when it waits for this: since when it waits at all, a time of its record."""
    if not waiting.HasField("since") and record.HasField(field):
        waiting.since.CopyFrom(getattr(record, field))


def set_ms(message: Message, field: str, ms: int | None) -> None:
    """Sets a time from milliseconds; None leaves it unset."""
    if ms is not None:
        getattr(message, field).FromMilliseconds(ms)


# ----------------------------------------------------------------------------------------------------------- errors


def refusal(problems: Sequence[Problem]) -> InvalidArgument:
    """Returns the error that tells the problems, cut to what an answer may carry."""
    shown = found.bounded(problems)
    return InvalidArgument(
        found.summary(problems, len(shown)),
        reason=found.common_reason(problems),
        fields=[FieldProblem(field=problem.path, message=problem.message) for problem in shown],
    )


def error_of_item(error: records_pb2.ItemError) -> EasyQError:
    """Returns the error of one item of a batch."""
    cls = error_class(error.code)
    reason = ErrorReason.Code.Name(error.reason) if error.reason in ErrorReason.Code.values() else None
    return cls(error.message, reason=reason, fields=below_spec(error.fields))


def below_spec(fields: Iterable[Any]) -> list[FieldProblem]:
    """Returns problems of a spec's fields with their paths in a request that has a `spec`."""
    return [FieldProblem(field=member_path("spec", one.field), message=one.message) for one in fields]


def error_body(error: EasyQError) -> job_service_pb2.ErrorBody:
    """Returns the error as answers show it."""
    body = job_service_pb2.ErrorBody(
        code=error.code.name,
        reason=error.reason,
        message=error.message[:_MOST_ERROR_TEXT],
    )
    for problem in error.fields[: found.MOST_FIELDS]:
        body.fields.add(field=problem.field, message=problem.message)
    return body
