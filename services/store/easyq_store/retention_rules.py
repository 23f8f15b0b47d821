"""The tables `[[retention]]` of the rules file → what tasks keep."""

from collections.abc import Callable, Mapping
from typing import Any

from easyq.durations import parse_duration
from easyq_chassis.patterns import Pattern
from easyq_store.domain.retention import OUTCOMES, Keep, Retention, RetentionRule

AGES = (*OUTCOMES, "logs")
COUNTS = (*(f"{outcome}_count" for outcome in OUTCOMES), "executions")


def parser(base: Keep) -> Callable[[Mapping[str, Any]], Retention]:
    """Returns what makes the rules of a rules file; `base` is what they leave as it is."""

    def parse(document: Mapping[str, Any]) -> Retention:
        """The store's part of a document that has passed the contract."""
        rules = (_rule(**table, base=base) for table in document.get("retention", ()))
        return Retention(rules=tuple(rules), otherwise=base)

    return parse


def _rule(*, pattern: str, base: Keep, **said: Any) -> RetentionRule:
    return RetentionRule(pattern=Pattern(pattern), keep=keep_from(said, base))


def keep_from(said: Mapping[str, Any], base: Keep) -> Keep:
    """What is kept where something is said by these names (`AGES`, `COUNTS`). Raises `ValueError`."""
    ages, counts = dict(base.ages), dict(base.counts)
    logs, executions = base.logs, base.executions
    for name, value in said.items():
        bound = age(value) if name in AGES else value or None
        if name == "logs":
            logs = bound
        elif name == "executions":
            executions = bound
        else:
            of, outcome = (ages, name) if name in AGES else (counts, name.removesuffix("_count"))
            of.pop(outcome, None)
            if bound is not None:
                of[outcome] = bound
    return Keep(ages=ages, counts=counts, logs=logs, executions=executions)


def age(value: str | int | float) -> int | None:
    """Milliseconds; None where it is 0 or empty: for ever. Raises `ValueError`."""
    return None if value == "" else parse_duration(value) or None
