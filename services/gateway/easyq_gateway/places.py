"""Places of what stands by hand: where output and events are found, as path segments."""

from __future__ import annotations

from typing import TypeAlias

from easyq_gateway.http_rules import Variable

Place: TypeAlias = tuple[str | Variable, ...]

_TASK: Place = ("tasks", Variable("task_id"))
_JOB: Place = ("jobs", Variable("job_id"))
_EXECUTION: Place = ("executions", Variable("execution_id"))

#: Of output: that of a job is its newest execution's.
OUTPUT: tuple[Place, ...] = (
    (*_TASK, *_JOB, *_EXECUTION),
    (*_JOB, *_EXECUTION),
    _EXECUTION,
    (*_TASK, *_JOB),
    _JOB,
)
#: Of events: of the farm, a task, a job.
EVENTS: tuple[Place, ...] = ((), _TASK, _JOB, (*_TASK, *_JOB))
