"""What a spec means where it says nothing."""

from __future__ import annotations

from dataclasses import dataclass

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
    overlap: str = "SKIP"
    misfire: str = "ONCE"


def default_pull(image: str) -> str:
    """Returns when an image is pulled by default: a moving tag before each run, others where they are missing."""
    return "ALWAYS" if parse_image(image).moving else "MISSING"


def default_backoff_max(defaults: Defaults, min_ms: int) -> int:
    """Returns the longest wait where only the shortest was given."""
    return max(defaults.backoff_max_ms, min_ms)
