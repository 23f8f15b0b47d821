"""What is wrong with the schedule of a recurring job."""

from __future__ import annotations

from dataclasses import replace

from easyq_scheduler.domain.admission import Refusal
from easyq_scheduler.domain.cron import validate
from easyq_scheduler.domain.plan import Rules
from easyq_scheduler.domain.schedule import InvalidSchedule


def schedule_problems(rules: Rules) -> list[Refusal]:
    """Everything that is wrong with it; empty where it can be evaluated."""
    found: list[Refusal] = []
    # A wrong zone must not hide a wrong expression, nor the other way.
    for schedule in (replace(rules.schedule, zone="UTC"), replace(rules.schedule, expression="@hourly")):
        try:
            validate(schedule)
        except InvalidSchedule as invalid:
            found.append(Refusal(field=invalid.field, problem=invalid.problem))
    if rules.start_after_ms is not None and rules.end_at_ms is not None and rules.end_at_ms <= rules.start_after_ms:
        found.append(Refusal(field="endAt", problem="is not after startAfter, so that the job could never fire"))
    return found
