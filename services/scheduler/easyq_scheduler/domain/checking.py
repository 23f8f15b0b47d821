"""What is wrong with the schedule of a recurring job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from easyq_scheduler.domain.admission import Refusal
from easyq_scheduler.domain.cron import next_fire, validate
from easyq_scheduler.domain.cron_fields import uses_hash
from easyq_scheduler.domain.due_times import start_of
from easyq_scheduler.domain.plan import Rules, State
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


def window_problems(state: State, rules: Rules, end_at_ms: int | None) -> list[Refusal]:
    """What is wrong with a window (from `start_after_ms`, up to `end_at_ms`) of a sound schedule: it holds no fire.

    Fires up to the state's cursor don't count. Where they are hashed from an id that is not made yet, nothing is known.
    """
    schedule = rules.schedule
    if end_at_ms is None or (not schedule.job_id and uses_hash(schedule.expression)):
        return []
    first = next_fire(schedule, start_of(rules, state.cursor_ms))
    if first is not None and first <= end_at_ms:
        return []
    when = f" ({datetime.fromtimestamp(first / 1000, UTC):%Y-%m-%d %H:%M:%S UTC})" if first is not None else ""
    found = [Refusal(field="endAt", problem=f"is before the first fire{when}, so that the job would never run")]
    if rules.start_after_ms is not None and rules.start_after_ms > state.cursor_ms:
        found.append(Refusal(field="startAfter", problem="leaves no fire up to endAt, so that the job would never run"))
    return found
