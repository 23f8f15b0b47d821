"""Times as people read them, for the tests of recurring jobs."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from easyq_scheduler.domain.cron import next_fire
from easyq_scheduler.domain.schedule import Schedule


def ms(text: str) -> int:
    """`2024-03-31 01:00` or with seconds, in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def shown(at_ms: int, zone: str) -> str:
    """What the zone's clock shows, with its offset: `03-31 02:00+01:00`."""
    return datetime.fromtimestamp(at_ms / 1_000, tz=ZoneInfo(zone)).isoformat(" ", "minutes")[5:]


def schedule(expression: str, zone: str = "UTC", *, job_id: str = "j", anchor_ms: int = 0) -> Schedule:
    return Schedule(expression=expression, zone=zone, job_id=job_id, anchor_ms=anchor_ms)


def fires_between(expression: str, zone: str, after: str, until: str) -> list[str]:
    """What the zone's clock shows at each fire after `after` and up to `until` (UTC)."""
    found, cursor = [], ms(after)
    while (fire := next_fire(schedule(expression, zone), cursor)) is not None and fire <= ms(until):
        found.append(shown(cursor := fire, zone))
    return found
