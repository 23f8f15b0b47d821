"""Breaks the product on purpose, one place at a time, and runs it: the checker has to find each.

    python -m tests.chaos.nemesis.mutants [NAME …]

Each mutant is a copy of the services with one small change of source. Exit status 0: every one was found.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Replaces `old`, which must stand there once, by `new`. `file` is below the folder of services."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`arguments`: what of `python -m tests.chaos.nemesis` makes it likely to be met; `rules`: one of them finds it."""

    name: str
    what: str
    patches: tuple[Patch, ...]
    arguments: tuple[str, ...] = ()
    rules: frozenset[str]


MUTANTS = (
    Mutant(
        name="dropped-fence",
        what="the end of an execution that was given up is taken from the agent that lost it",
        patches=(
            Patch(
                file="store/easyq_store/domain/moves.py",
                old="return execution.held and execution.epoch == epoch and execution.agent_id == agent_id",
                new="return epoch > 0 and execution.agent_id == agent_id",
            ),
            Patch(
                file="store/easyq_store/domain/transitions.py",
                old="**{ended: frozenset() for ended in ENDED},",
                new="**dict.fromkeys(ENDED, ENDED),",
            ),
        ),
        arguments=("--only", "freeze", "--on", "runner-a", "--on", "runner-b", "--on", "runner-c"),
        rules=frozenset({"changed", "retries", "end", "log", "no-run"}),
    ),
    Mutant(
        name="skipped-epoch",
        what="an assignment holds although the place that it took was given to others meanwhile",
        patches=(
            Patch(
                file="store/easyq_store/domain/moves.py",
                old="if execution.epoch != claim.epoch:",
                new="if claim.epoch < 0:",
            ),
        ),
        # One dispatcher assigns later than the other one waits for it.
        arguments=(
            *("--only", "delay", "--load", "limited"),
            *("--env", "dispatcher-0:EASYQ_TEST_FAULTS=dispatcher.after_take=delay:4.5"),
        ),
        rules=frozenset({"limit"}),
    ),
    Mutant(
        name="answer-before-commit",
        what="a request is answered before what it asked for is on disk",
        patches=(
            Patch(
                file="store/easyq_store/adapters/sqlite/writer.py",
                old='        self._tally.write(self._connection)\n        self._connection.execute("COMMIT")',
                new="        self._tally.write(self._connection)\n"
                "        for order, results in taken:\n"
                "            done = lambda o=order, r=results: o.answer.done() or o.answer.set_result(r)\n"
                "            order.answer.get_loop().call_soon_threadsafe(done)\n"
                '        __import__("time").sleep(0.8)\n'
                '        self._connection.execute("COMMIT")',
            ),
        ),
        arguments=("--only", "kill", "--on", "store", "--load", "plain", "--load", "delayed"),
        # An assignment that was forgotten is made again: its container starts a second time.
        rules=frozenset({"lost", "doubled"}),
    ),
    Mutant(
        name="forgotten-count",
        what="what runs does not count in its limits",
        patches=(
            Patch(
                file="dispatcher/easyq_dispatcher/adapters/lua/common.lua",
                old="    call('SADD', SPACE .. 'limit:' .. limit, id)\n  end\n  return token",
                new="  end\n  return token",
            ),
        ),
        arguments=("--only", "delay", "--load", "limited"),
        rules=frozenset({"limit"}),
    ),
    Mutant(
        name="no-compare-on-cursor",
        what="a scheduler's decision on fires is taken whatever was decided before",
        patches=(
            Patch(
                file="store/easyq_store/domain/recurring.py",
                old="known != (job.revision, schedule.cursor) or _is_ending(job)",
                new="known[0] != job.revision or _is_ending(job)",
            ),
            Patch(
                file="store/easyq_store/domain/recurring.py",
                old="if decision.new_cursor < schedule.cursor or any(",
                new="if decision.new_cursor < 0 and any(",
            ),
        ),
        arguments=("--only", "freeze", "--on", "scheduler-0", "--on", "scheduler-1"),
        rules=frozenset({"cron-doubled", "cron-missed", "cron-skip"}),
    ),
    Mutant(
        name="fire-by-wall-clock",
        what="a scheduler fires what its own clock shows to have come since it last looked, not all that is undecided",
        patches=(
            Patch(
                file="scheduler/easyq_scheduler/convert.py",
                old="    return State(cursor_ms=due.cursor or due.anchor, runs=due.runs)",
                new="    shown = __import__('easyq_chassis.clock', fromlist=['clock']).SystemClock().now_ms()\n"
                "    return State(cursor_ms=max(due.cursor or due.anchor, shown - 15_000), runs=due.runs)",
            ),
        ),
        arguments=("--only", "clock"),
        rules=frozenset({"cron-doubled", "cron-missed"}),
    ),
)


def main() -> int:
    options = _options()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    missed = []
    for mutant in chosen:
        print(f"== {mutant.name}: {mutant.what}", flush=True)
        found = _found(mutant, options)
        hits = sum(count for rule, count in found.items() if rule in mutant.rules)
        print(f"== {mutant.name}: {'found' if hits else 'NOT FOUND'}: {dict(found)}", flush=True)
        if not hits:
            missed.append(mutant.name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} found{': not ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(mutant.name for mutant in MUTANTS))
    parser.add_argument("--minutes", type=float, default=1.0, help="of each run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--services", type=Path, default=ROOT / "services", help="what is copied and broken")
    parser.add_argument("--runs", type=Path, default=ROOT / "build/chaos/mutants")
    return parser.parse_args()


def _found(mutant: Mutant, options: argparse.Namespace) -> Counter[str]:
    """How many violations of each rule."""
    with tempfile.TemporaryDirectory(prefix="easyq-mutant-") as folder:
        services = Path(folder) / "services"
        shutil.copytree(options.services, services, ignore=shutil.ignore_patterns("__pycache__"))
        for patch in mutant.patches:
            apply(patch, services)
        return _run(["--services", str(services), *mutant.arguments], options)


def _run(arguments: Sequence[str], options: argparse.Namespace) -> Counter[str]:
    common = ["--minutes", str(options.minutes), "--seed", str(options.seed), "--runs", str(options.runs)]
    command = [sys.executable, "-m", "tests.chaos.nemesis", *common, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    return Counter(re.findall(r"^  ([a-z-]+): ", done.stdout, re.MULTILINE))


def apply(patch: Patch, services: Path) -> None:
    """Raises ValueError where the source has changed so that the patch does not fit any more."""
    path = services / patch.file
    source = path.read_text(encoding="utf-8")
    if source.count(patch.old) != 1:
        raise ValueError(f"{patch.file} has this {source.count(patch.old)} times: {patch.old}")
    path.write_text(source.replace(patch.old, patch.new), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
