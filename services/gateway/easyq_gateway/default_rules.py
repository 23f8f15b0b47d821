"""The tables `[[default]]` of the rules file → defaults by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from easyq.durations import parse_duration
from easyq_chassis.patterns import Pattern
from easyq_gateway.domain.defaults import DefaultRule, Defaults

#: What a table may have besides `pattern`: the field of `Defaults`, and how it is read.
FIELDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "retries": ("retries", int),
    "backoffMin": ("backoff_min_ms", parse_duration),
    "backoffFactor": ("backoff_factor", float),
    "backoffMax": ("backoff_max_ms", parse_duration),
    "backoffJitter": ("backoff_jitter", float),
    "backoffMaxElapsed": ("backoff_max_elapsed_ms", parse_duration),
    "retryOn": ("retry_on", tuple),
    "infraRetries": ("infra_retries", int),
    "timeout": ("timeout_ms", parse_duration),
    "stopGrace": ("stop_grace_ms", parse_duration),
    "priority": ("priority", int),
    "startDeadline": ("start_deadline_ms", parse_duration),
    "reportFailure": ("report_failure", str.upper),
}


def parser(base: Defaults) -> Callable[[Mapping[str, Any]], tuple[DefaultRule, ...]]:
    """Returns what makes rules of a rules file; `base` is what they leave as it is."""

    def parse(document: Mapping[str, Any]) -> tuple[DefaultRule, ...]:
        """The gateway's part of a document that has passed the contract."""
        return tuple(_rule(**table, base=base) for table in document.get("default", ()))

    return parse


def _rule(*, pattern: str, base: Defaults, **said: Any) -> DefaultRule:
    read = {FIELDS[name][0]: FIELDS[name][1](value) for name, value in said.items()}
    return DefaultRule(pattern=Pattern(pattern), defaults=replace(base, **read))
