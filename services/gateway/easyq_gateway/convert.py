"""Between messages and the records of the domain; errors ↔ what answers show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq.v1.error_reason_pb2 import ErrorReason
from easyq_chassis.errors import EasyQError, FieldProblem, InvalidArgument, error_class
from easyq_gateway.domain import problems as found
from easyq_gateway.domain.defaults import Defaults, default_backoff_max, default_pull
from easyq_gateway.domain.problems import Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.spec import MountFacts, SpecFacts
from easyq_gateway.domain.waiting import Snapshot, Words
from easyq_internal.store.v1 import records_pb2

_MOST_ERROR_TEXT = 400


def to_ms(message: Timestamp | Duration) -> int:
    """Returns a time or a duration in whole milliseconds."""
    return message.seconds * 1_000 + message.nanos // 1_000_000


def ms_of(message: Any, field: str) -> int | None:
    """Returns a field's time or duration in milliseconds, None where it is unset."""
    return to_ms(getattr(message, field)) if message.HasField(field) else None


# ------------------------------------------------------------------------------------------------------------ specs


def facts_of(spec: spec_pb2.JobSpec, defaults: Defaults) -> SpecFacts:
    """Returns what the rules look at."""
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
        recurring=_recurring(spec, defaults),
    )


def _mount_facts(mount: spec_pb2.Mount) -> MountFacts:
    kind = spec_pb2.Mount.Type.Kind
    name = kind.Name(mount.type) if mount.type in kind.values() else ""
    return MountFacts(kind=name, source=mount.source, target=mount.target)


def _recurring(spec: spec_pb2.JobSpec, defaults: Defaults) -> list[str]:
    # What every resolved spec shows may be sent back: a spec that was read can be put as it is.
    overlap = {0, spec_pb2.Overlap.Mode.Value(defaults.overlap)}
    misfire = {0, spec_pb2.Misfire.Mode.Value(defaults.misfire)}
    told = {
        "cron": spec.HasField("cron"),
        "timeZone": bool(spec.time_zone),
        "overlap": spec.overlap not in overlap,
        "misfire": spec.misfire not in misfire,
        "jitter": spec.HasField("jitter"),
    }
    return [name for name, is_told in told.items() if is_told]


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
    return spec


def resolve(spec: spec_pb2.JobSpec, said: spec_pb2.JobSpec, defaults: Defaults) -> None:
    """Sets whatever has a default and is unset, in place; `said` is `spec_of(defaults)`."""
    resolved = spec_pb2.JobSpec()
    resolved.CopyFrom(said)
    _merge(resolved, spec)
    spec.CopyFrom(resolved)
    spec.pull = spec.pull or spec_pb2.Pull.Mode.Value(default_pull(spec.image))
    if not spec.backoff.HasField("max"):
        spec.backoff.max.FromMilliseconds(default_backoff_max(defaults, to_ms(spec.backoff.min)))
    for mount in spec.mounts:
        mount.type = mount.type or spec_pb2.Mount.Type.BIND


def _merge(resolved: spec_pb2.JobSpec, spec: spec_pb2.JobSpec) -> None:
    # Merging adds up the parts of a duration: those that are said replace the default's.
    if spec.HasField("stop_grace"):
        resolved.ClearField("stop_grace")
    if spec.backoff.HasField("min"):
        resolved.backoff.ClearField("min")
    resolved.MergeFrom(spec)


def has_time(spec: spec_pb2.JobSpec) -> bool:
    """Whether the job waits for a time, so that the scheduler admits it."""
    return spec.WhichOneof("schedule") is not None


# -------------------------------------------------------------------------------------------------------- redaction


def redact_job(job: job_pb2.Job, redactor: Redactor) -> None:
    """Hides the secrets of a job and of its executions, in place."""
    redact_envs(job.spec.envs, redactor)
    for execution in job.executions:
        redact_envs(execution.envs, redactor)


def redact_envs(envs: Any, redactor: Redactor) -> None:
    """Hides secrets in a map of variables, in place."""
    if envs:
        for name, shown in redactor.changes(envs).items():
            envs[name] = shown


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
    return cls(error.message, reason=reason)


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
