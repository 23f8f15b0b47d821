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
from dataclasses import asdict, dataclass, field
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
#: Labels of a target.
TARGET = ("instance", "job", "service")
_ABSENT = "_"
# What Prometheus itself notes of each series of a target that did not answer: it has ended, and is not its last value
# for five minutes more.
_STALE = "stale"
_NAME = re.compile(r"[{ ]")

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A fault from its first to its last second. `kind`, `target`, `detail` are the nemesis's; `error`: it could not be
    made."""

    kind: str
    target: str
    detail: str = ""
    begin: float
    end: float
    error: str = ""


@dataclass(kw_only=True)
class Recording:
    """`series`: by name and labels the values that there were, by the second of the run from 0 on.

    `faults`: what was broken when; `calm`: how many seconds there were before the first of them.
    """

    series: dict[Key, dict[int, float]] = field(default_factory=dict)
    faults: list[Broken] = field(default_factory=list)
    calm: int = 0
    seconds: int = 0

    def add(self, second: int, until: int, target: Mapping[str, str], text: str | None, names: frozenset[str]) -> None:
        """Takes in one scrape of a target, asked in `second`: what it answered with, if it did. Without an answer it is
        down until the second `until`, in which it is asked again."""
        up = self.series.setdefault(("up", tuple(sorted(target.items()))), {})
        if text is None:
            up.update(dict.fromkeys(range(second, max(until, second + 1)), 0.0))
        else:
            up[second] = 1.0
            for key, value in _samples(text, target, names).items():
                self.series.setdefault(key, {})[second] = value
        self.seconds = max(self.seconds, second + 1)

    def write(self, path: Path) -> None:
        """As JSON, a line for each series, its values as promtool takes them."""
        faults = [asdict(one) for one in self.faults]
        lines = [json.dumps({"seconds": self.seconds, "calm": self.calm})]
        lines += [json.dumps({"fault": one}) for one in faults]
        for (name, labels), values in sorted(self.series.items()):
            lines.append(json.dumps([name, dict(labels), self._notation(name, labels, values)]))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _notation(self, name: str, labels: tuple[tuple[str, str], ...], values: Mapping[int, float]) -> str:
        target = dict(labels)
        down = {
            second
            for second, up in self.series["up", tuple((key, target[key]) for key in TARGET if key in target)].items()
            if not up
        }
        factor = STRETCH if name in _STRETCHED else 1
        texts = []
        for second in range(self.seconds):
            if second in values:
                texts.append(f"{values[second] * factor:.6g}")
            elif second in down and texts and texts[-1] not in {_STALE, _ABSENT}:
                texts.append(_STALE)
            else:
                texts.append(_ABSENT)
        return _notation(texts)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A recording as it is read for promtool."""

    series: list[dict[str, str]]
    faults: list[Broken]
    calm: int
    seconds: int


def read_series(path: Path) -> Recorded:
    """What `Recording.write` wrote."""
    head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    faults = [Broken(**line["fault"]) for line in lines if isinstance(line, dict)]
    series = [
        {"series": f"{name}{{{_selector(labels)}}}", "values": values}
        for name, labels, values in (line for line in lines if isinstance(line, list))
    ]
    return Recorded(series=series, faults=faults, calm=head["calm"], seconds=head["seconds"])


def names_in(rules: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The metrics that rules ask for."""
    found: set[str] = set()
    for rule in rules:
        expression = re.sub(r'"[^"]*"', "", str(rule["expr"]))
        found.update(re.findall(r"(?<![:\w])(?:(?:easyq|http|db|rpc|process)_[a-z0-9_]+|up)\b", expression))
    labels = LABELS | set(TARGET)
    return frozenset(found - labels)


def _samples(text: str, target: Mapping[str, str], names: frozenset[str]) -> dict[Key, float]:
    # All else is most of it, and reading it would cost more than the system that is watched.
    asked = "\n".join(line for line in text.splitlines() if _NAME.split(line, 1)[0] in names)
    found: dict[Key, float] = defaultdict(float)
    for family in text_string_to_metric_families(f"{asked}\n"):
        for sample in family.samples:
            kept = {name: value for name, value in sample.labels.items() if name in LABELS}
            found[sample.name, tuple(sorted({**kept, **target}.items()))] += sample.value
    return found


def _notation(texts: Iterable[str]) -> str:
    """promtool's: `5x3` are four fives."""
    parts: list[tuple[str, int]] = []
    for text in texts:
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
