"""Making specs from plain Python values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

from easyq.durations import parse_duration
from easyq.v1.spec_pb2 import JobSpec, ReportFailure

if TYPE_CHECKING:
    from google.protobuf.message import Message

DurationLike = str | int | float | timedelta


def job_spec(
    image: str,
    command: str | Sequence[str] = (),
    *,
    entrypoint: str | Sequence[str] = (),
    envs: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    start_at: datetime | None = None,
    start_in: DurationLike | None = None,
    cron: str | None = None,
    time_zone: str = "",
    agent_labels: Mapping[str, str] | None = None,
    timeout: DurationLike | None = None,
    retries: int | None = None,
    priority: int | None = None,
    workdir: str = "",
    user: str = "",
    network: str = "",
    report_failure: str | None = None,
) -> JobSpec:
    """A spec with the fields that most jobs need; set others on the message that it returns.

    `command` and `entrypoint` are lists, or strings that are split as a POSIX shell would (no shell runs). Durations
    are `timedelta`s, strings such as `2h30m50s`, or seconds. `report_failure` says which failed executions the farm's
    error handlers are told: `none`, `final` (the one with which the job fails), or `all`. What is left out gets its
    default on the server.
    Raises ValueError for a malformed duration or string, for a `start_at` without a time zone, and for an unknown word.
    """
    spec = JobSpec(
        image=image,
        command=_words(command),
        entrypoint=_words(entrypoint),
        envs=envs,
        labels=labels,
        agent_labels=agent_labels,
        time_zone=time_zone,
        retries=retries,
        priority=priority,
        workdir=workdir,
        user=user,
        network=network,
    )
    if report_failure is not None:
        spec.report_failure = ReportFailure.Mode.Value(report_failure.upper())
    if metadata is not None:
        spec.metadata.update(metadata)
    if sum(one is not None for one in (start_at, start_in, cron)) > 1:
        raise ValueError("start_at, start_in and cron exclude each other")
    if cron is not None:
        spec.cron = cron
    if start_at is not None:
        if start_at.tzinfo is None:
            raise ValueError("start_at needs a time zone")
        spec.start_at.FromDatetime(start_at)
    if start_in is not None:
        _copy(spec.start_in, to_duration(start_in))
    if timeout is not None:
        _copy(spec.timeout, to_duration(timeout))
    return spec


def to_duration(value: DurationLike) -> Duration:
    """A protobuf Duration, to the millisecond."""
    result = Duration()
    if isinstance(value, timedelta):
        result.FromTimedelta(value)
    else:
        result.FromMilliseconds(parse_duration(value))
    return result


def _words(value: str | Sequence[str]) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else list(value)


def _copy(target: Message, source: Message) -> None:
    target.SetInParent()
    target.CopyFrom(source)
