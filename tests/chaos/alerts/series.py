"""Series as Prometheus would have them: scraped once a second, shown to it as once in 15 s.

Outages of minutes would make a test of an hour. So time is stretched: a second of the run counts as `STRETCH` seconds,
and what a rule looks at over five minutes is twenty seconds of the run. Figures that are themselves a time since
something that goes on are stretched too.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

#: Seconds of Prometheus's time for one of the run's, which is also its scrape interval.
STRETCH = 15
_STRETCHED = {"easyq_queue_oldest_age_seconds"}
#: Labels that rules look at. Series are summed over all others, so that a recording stays small.
LABELS = frozenset(
    {
        *("task", "pool", "state", "exit_class", "kind", "channel", "agent", "subject", "folder"),
        *("le", "db_system_name", "http_response_status_code"),
    }
)
_ABSENT = "_"

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(kw_only=True)
class Recording:
    """`series`: values by name and labels, one for each second from the first on; None where there was none.

    `phases`: what was broken, from its first to its last second.
    """

    series: dict[Key, list[float | None]] = field(default_factory=dict)
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)
    seconds: int = 0

    def add(self, scrapes: Iterable[tuple[Mapping[str, str], str | None]], names: frozenset[str]) -> None:
        """Takes in one second: of each target its labels, and what it answered with, if it did."""
        found: dict[Key, float] = {}
        for labels, text in scrapes:
            found["up", tuple(sorted(labels.items()))] = float(text is not None)
            if text is not None:
                found |= _samples(text, labels, names)
        for key, value in found.items():
            self.series.setdefault(key, [None] * self.seconds).append(value)
        self.seconds += 1
        for values in self.series.values():
            if len(values) < self.seconds:
                values.append(None)

    def write(self, path: Path) -> None:
        """As JSON, a line for each series, its values as promtool takes them."""
        lines = [json.dumps({"seconds": self.seconds, "phases": self.phases})]
        for (name, labels), values in sorted(self.series.items()):
            lines.append(json.dumps([name, dict(labels), _notation(_shown(name, values))]))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_series(path: Path) -> tuple[list[dict[str, str]], dict[str, tuple[int, int]], int]:
    """The series of a recording for promtool, its phases, and how many seconds it has."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    told = json.loads(head)
    series = []
    for line in lines:
        name, labels, values = json.loads(line)
        series.append({"series": f"{name}{{{_selector(labels)}}}", "values": values})
    return series, {name: (begin, end) for name, (begin, end) in told["phases"].items()}, told["seconds"]


def names_in(rules: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The metrics that rules ask for."""
    found: set[str] = set()
    for rule in rules:
        expression = re.sub(r'"[^"]*"', "", str(rule["expr"]))
        found.update(re.findall(r"(?<![:\w])(?:(?:easyq|http|db|rpc|process)_[a-z0-9_]+|up)\b", expression))
    labels = LABELS | {"service", "instance"}
    return frozenset(found - labels)


def _samples(text: str, target: Mapping[str, str], names: frozenset[str]) -> dict[Key, float]:
    found: dict[Key, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                kept = {name: value for name, value in sample.labels.items() if name in LABELS}
                found[sample.name, tuple(sorted({**kept, **target}.items()))] += sample.value
    return found


def _shown(name: str, values: list[float | None]) -> list[float | None]:
    factor = STRETCH if name in _STRETCHED else 1
    return [None if value is None else value * factor for value in values]


def _notation(values: list[float | None]) -> str:
    """promtool's: `5x3` are four fives."""
    parts: list[tuple[str, int]] = []
    for value in values:
        text = _ABSENT if value is None else f"{value:.6g}"
        if parts and parts[-1][0] == text:
            parts[-1] = (text, parts[-1][1] + 1)
        else:
            parts.append((text, 1))
    return " ".join(_run(text, count) for text, count in parts)


def _run(text: str, count: int) -> str:
    if count == 1:
        return text
    return f"{text}x{count}" if text == _ABSENT else f"{text}x{count - 1}"


def _selector(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
