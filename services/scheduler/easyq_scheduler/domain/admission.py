"""Which times a job may ask for."""

from __future__ import annotations

from dataclasses import dataclass

TEN_YEARS_MS = 315_360_000_000
# Both ends of what a Timestamp may hold: the years 1 to 9999.
EARLIEST_MS = -62_135_596_800_000
LATEST_MS = 253_402_300_799_999


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When a job wishes to run. At most one of the first three is set; wall-clock times are ms since the epoch, UTC."""

    start_at_ms: int | None = None
    start_in_ms: int | None = None
    cron: str | None = None
    expiration_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a job is not admitted. `field` is the path in the spec, in lowerCamel."""

    field: str
    problem: str


def check(timing: Timing) -> Refusal | None:
    """Says what is wrong with `timing`, or None where the job can be admitted.

    Only what needs no clock is checked: the store's clock alone decides what is due and what has expired.
    """
    if timing.cron is not None:
        return None  # see `schedule_problems`
    if timing.start_in_ms is not None:
        if not 0 <= timing.start_in_ms <= TEN_YEARS_MS:
            return _invalid("startIn", "must be between 0 and ten years")
        return None
    if timing.start_at_ms is not None:
        if not EARLIEST_MS <= timing.start_at_ms <= LATEST_MS:
            return _invalid("startAt", "must be in the years 1 to 9999")
        if timing.expiration_ms is not None and timing.start_at_ms >= timing.expiration_ms:
            return _invalid("expiration", "is not after startAt, so that the job could never start")
        return None
    return _invalid("startAt", "a job without startAt or startIn has no time to wait for")


def _invalid(field: str, problem: str) -> Refusal:
    return Refusal(field=field, problem=problem)
