"""Whether the alerts told what was broken in a run, and nothing while all was well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.alerts.expected import expected
from tests.chaos.alerts.rules import fires, none_fires, patience, run_promtool
from tests.chaos.alerts.scraper import Scraper
from tests.chaos.alerts.series import Broken, Recording, read_series

#: The run of outages that is kept.
RECORDED = Path(__file__).parent / "recorded.jsonl"
# What tells that the machine is slow, which it is where other tests run beside.
SLOW = ("EasyQEventLoopLags", "EasyQDatabaseSlow", "EasyQSchedulesLate", "EasyQRequestsFail")


def complete(scraper: Scraper, faults: Iterable[Mapping[str, Any]], calm: int) -> Recording:
    """The recording with what was broken meanwhile, as the nemesis's history has it."""
    recording = scraper.recording
    recording.calm = calm
    recording.faults = sorted(
        (
            Broken(
                kind=one["fault"],
                target=one["target"],
                detail=one["detail"],
                begin=round(scraper.at(one["began"]), 2),
                end=round(scraper.at(one["ended"]), 2),
                error=one["error"],
            )
            for one in faults
        ),
        key=lambda one: one.begin,
    )
    return recording


def problems_of(promtool: str, recorded: Path, folder: Path, *, but: Iterable[str] = ()) -> list[str]:
    """What the rules over a recording say otherwise than they should; alerts `but` these count while all was well.

    What promtool reads is written below `folder`.
    """
    run = read_series(recorded)
    begin = max(1, run.calm - 1)
    tests = [none_fires(0, begin, but=but)]
    tests += [fires(one) for one in expected(run.faults, patience()) if one.end < run.seconds]
    told = run_promtool(promtool, folder, run.series, tests)
    return [one.strip() for one in told.split("expr:")[1:]] if "expr:" in told else [told] * bool(told)
