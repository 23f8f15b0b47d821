"""What a spec means where it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.patterns import Pattern
from easyq_gateway.domain.images import parse_image


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """Defaults of a spec. Durations in ms, sizes in bytes, enums by name."""

    retries: int = 0
    backoff_min_ms: int = 1_000
    backoff_factor: float = 2.0
    backoff_max_ms: int = 300_000
    backoff_jitter: float = 0.5
    stop_grace_ms: int = 10_000
    priority: int = 0
    infra_retries: int = 5
    log_limit: int = 100 * 1024 * 1024
    on_lost: str = "RERUN"
    # None and empty: no bound, and every failure.
    timeout_ms: int | None = None
    start_deadline_ms: int | None = None
    backoff_max_elapsed_ms: int | None = None
    retry_on: tuple[str, ...] = ()
    # None: as the store is set when one fails.
    report_failure: str | None = None
    overlap: str = "SKIP"
    misfire: str = "ONCE"
    # Of recurring jobs.
    time_zone: str = "UTC"
    jitter_ms: int = 0
    misfire_deadline_ms: int = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DefaultRule:
    """Defaults of the tasks whose whole name the pattern matches."""

    pattern: Pattern
    defaults: Defaults


def defaults_of(task_id: str, rules: Sequence[DefaultRule], otherwise: Defaults) -> Defaults:
    """Returns the defaults of the first rule that matches."""
    return next((rule.defaults for rule in rules if rule.pattern.matches(task_id)), otherwise)


def default_pull(image: str) -> str:
    """Returns when an image is pulled by default: a moving tag before each run, others where they are missing."""
    return "ALWAYS" if parse_image(image).moving else "MISSING"


def default_backoff_max(defaults: Defaults, min_ms: int) -> int:
    """Returns the longest wait where only the shortest was given."""
    return max(defaults.backoff_max_ms, min_ms)
