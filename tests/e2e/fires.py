"""What became of each nominal time of a recurring job, from what the API shows of it."""

import datetime
from typing import Any

from tests.support.farm import Rest


def at(text: str) -> datetime.datetime:
    """A time as the API writes it."""
    return datetime.datetime.fromisoformat(text)


def ms(text: str) -> int:
    """The same in milliseconds since the epoch."""
    return round(at(text).timestamp() * 1000)


def first_attempts(rest: Rest, job_id: str) -> list[Any]:
    """The executions that are fires, in the order of their nominal times."""
    fired = [one for one in rest.executions(job_id) if one["trigger"] == "SCHEDULE"]
    return sorted(fired, key=lambda one: ms(one["fireAt"]))


def assert_decided_once(rest: Rest, job_id: str, *, every: int = 1000) -> list[int]:
    """Each time from the anchor to the last one that was decided ran or was skipped, and none twice; those that ran."""
    job = rest.job(job_id)
    schedule = job["schedule"]
    ran = [ms(one["fireAt"]) for one in first_attempts(rest, job_id)]
    waits = [ms(schedule["waitingFireAt"])] if schedule["waitingFireAt"] else []
    skipped: list[int] = []
    for skip in schedule["skips"]:
        times = list(range(ms(skip["first"]), ms(skip["last"]) + 1, every))
        assert len(times) == skip["count"], skip
        skipped += times
    assert schedule["skipped"] == len(skipped), schedule
    assert schedule["runs"] == len(ran) + len(waits), schedule
    expected = list(range(ms(schedule["anchor"]) + every, ms(schedule["decidedUntil"]) + 1, every))
    assert sorted(ran + waits + skipped) == expected, (ran, waits, schedule)
    return ran
