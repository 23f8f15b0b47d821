"""What a recurring job's times are computed from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a recurring job fires.

    `expression` is a cron expression or a macro as the user wrote it; `zone` the IANA zone in which it is read;
    `job_id` what `H` is hashed from; `anchor_ms` (ms since the epoch, UTC) the instant from which `@every` counts.
    """

    expression: str
    job_id: str
    zone: str = "UTC"
    anchor_ms: int = 0


class InvalidSchedule(Exception):
    """A schedule that can't be evaluated. `field` is the path in the spec, in lowerCamel; `problem` says why."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem
