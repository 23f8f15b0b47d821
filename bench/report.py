"""What was measured, as JSON and as a table."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`at_least` or `at_most` this many units."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number, measured in several runs; the median counts."""

    name: str
    unit: str
    runs: Sequence[float]
    goal: Goal | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return "met" if self.goal.met(self.median) else "NOT MET"

    def as_json(self) -> dict[str, Any]:
        goal = {"goal": str(self.goal), "met": self.goal.met(self.median)} if self.goal else {}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 3),
            "runs": [round(run, 3) for run in self.runs],
            **goal,
            **self.details,
        }


@dataclass(frozen=True, kw_only=True)
class Step:
    """A moment on the way of a POST, in milliseconds after it was sent."""

    what: str
    at: float


def machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        # Others' work on the same processors makes every figure worse.
        "loadBefore": round(os.getloadavg()[0], 2),
    }


def document(figures: Sequence[Figure], steps: Sequence[Step], missing: dict[str, str], at: dict[str, Any]) -> str:
    content = {
        "machine": at,
        "figures": [figure.as_json() for figure in figures],
        "wayOfAPost": [{"what": step.what, "ms": round(step.at, 3)} for step in steps],
        "notMeasured": missing,
    }
    return json.dumps(content, indent=2)


def row(figure: Figure) -> str:
    goal = f"{figure.goal} {figure.verdict}" if figure.goal else ""
    return (
        f"{figure.name:<66} {figure.median:>9.2f} {min(figure.runs):>9.2f} {max(figure.runs):>9.2f}"
        f" {figure.unit:<8} {goal:>8}"
    )


def table(figures: Sequence[Figure], steps: Sequence[Step], missing: dict[str, str]) -> str:
    lines = [f"{'what':<66} {'median':>9} {'least':>9} {'most':>9} {'unit':<8} {'goal':>8}"]
    lines += [row(figure) for figure in figures]
    if steps:
        lines += ["", "the way of a POST (median, ms after it was sent; each hop by a relay, which costs time itself)"]
        lines += [f"  {step.at:7.2f}  {step.what}" for step in steps]
    lines += [f"not measured: {name}: {reason}" for name, reason in missing.items()]
    return "\n".join(lines)
