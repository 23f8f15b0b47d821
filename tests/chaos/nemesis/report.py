"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.nemesis.checks import Summary
from tests.chaos.nemesis.violation import Violation

_MOST = 40


def table(seed: int, minutes: float, found: Summary, violations: Sequence[Violation]) -> str:
    rows: list[tuple[str, object]] = [("seed", seed), ("minutes", f"{minutes:g}")]
    rows.append(("faults", sum(found.faults.values())))
    rows += [(f"  {kind}", count) for kind, count in sorted(found.faults.items())]
    rows += [("jobs", found.jobs), ("executions", found.executions), ("run again", found.again)]
    rows += [("lost", found.lost), ("doubled", found.doubled), ("stuck", found.stuck)]
    rows.append(("violations", found.violations))
    lines = [f"{name:<16} {value:>8}" for name, value in rows]
    lines += [f"  {one.rule}: {one.subject}: {one.message}" for one in violations[:_MOST]]
    if len(violations) > _MOST:
        lines.append(f"  … and {len(violations) - _MOST} more")
    return "\n".join(lines)
