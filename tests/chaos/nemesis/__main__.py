"""The program of `make chaos`."""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
import traceback
from pathlib import Path

from tests.chaos.nemesis.faults import WEIGHTS
from tests.chaos.nemesis.intents import WEIGHTS as LOADS
from tests.chaos.nemesis.outages import outages, seconds
from tests.chaos.nemesis.run import AFTER, Run
from tests.chaos.nemesis.stage import ROOT


def main() -> int:
    """Exit status: 0 nothing found, 1 violations, 2 it could not be run or judged."""
    options = _options()
    if options.outages:
        options.minutes = seconds(outages()) / 60
    folder = _folder(options.runs, options.seed)
    print(f"seed {options.seed}, {options.minutes:g} minutes; everything is kept in {folder}", flush=True)
    limit = options.minutes * 60 + AFTER * (3 if options.outages else 1)
    run = Run(
        folder,
        seed=options.seed,
        minutes=options.minutes,
        limit=limit,
        kinds=options.only,
        targets=options.on,
        load=options.load,
        mongo=options.store == "mongo",
        services=options.services,
        extra=_extra(options),
        outages=options.outages,
    )
    threading.Thread(target=_end_in_time, args=(run, limit), daemon=True).start()
    try:
        return run.carry_out()
    except Exception:  # noqa: BLE001 - not to be taken for violations
        traceback.print_exc()
        print(f"could not be judged: it {run.doing}; see {folder}", file=sys.stderr)
        return 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long things break; it ends 2 minutes later")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run's faults and load (default: a new one)")
    parser.add_argument("--store", choices=["sqlite", "mongo"], default="sqlite")
    parser.add_argument("--only", action="append", choices=sorted(WEIGHTS), default=[], help="faults; may be repeated")
    parser.add_argument("--on", action="append", default=[], metavar="TARGET", help="the same for what is hit")
    parser.add_argument("--load", action="append", choices=sorted(LOADS), default=[], help="jobs; may be repeated")
    parser.add_argument("--runs", type=Path, default=Path("build/chaos"), help="folder for what is kept of each run")
    parser.add_argument("--services", type=Path, default=ROOT / "services", help="the code to run; a copy is made")
    parser.add_argument("--env", action="append", default=[], metavar="[TARGET:]NAME=VALUE", help="for services")
    parser.add_argument(
        "--outages",
        action="store_true",
        help="one outage of each kind, long enough for its alert, in place of a seed's",
    )
    options = parser.parse_args()
    options.seed = options.seed or random.SystemRandom().randrange(1, 10**6)
    return options


def _extra(options: argparse.Namespace) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in options.env)


def _folder(runs: Path, seed: int) -> Path:
    folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    folder.mkdir(parents=True)
    (folder / "seed").write_text(f"{seed}\n", encoding="ascii")
    return folder.resolve()


def _end_in_time(run: Run, limit: float) -> None:
    """Whatever hangs: CI must come to an end. Child processes end with this one."""
    time.sleep(limit)
    print(f"it hangs: {run.doing}", file=sys.stderr, flush=True)
    run.keep_logs()
    os._exit(run.verdict)


if __name__ == "__main__":
    sys.exit(main())
