"""The load is the seed's, and its programs do what the checker expects of them."""

import os
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.nemesis.intents import SLOTS, WEIGHTS, Intent, intents, recurring
from tests.chaos.nemesis.programs import Program
from tests.support.farm import Witness, counted
from tests.support.farm.witness import TARGET


def test_the_same_seed_asks_for_the_same(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    first, again = list(islice(intents(7), 300)), list(islice(intents(7), 300))
    assert [(one, one.spec(witness)) for one in first] == [(one, one.spec(witness)) for one in again]
    assert first != list(islice(intents(8), 300))
    assert {one.kind for one in first} == set(WEIGHTS)
    assert len({one.n for one in [*first, *_recurring(7)]}) == 300 + len(_recurring(7))
    assert _recurring(7) == _recurring(7) != _recurring(8)
    assert {one.kind for one in islice(intents(7, ["limited"]), 50)} == {"limited"}


def _recurring(seed: int) -> list[Intent]:
    return [intent for slot in range(SLOTS) for intent in islice(recurring(seed, slot), 25)]


def test_recurring_jobs_have_every_policy_and_every_pause_ends() -> None:
    made = _recurring(3)
    policies = {(one.cron["overlap"], one.cron["misfire"]) for one in made if one.cron}
    assert len(policies) == 4 * 3
    for slot in range(SLOTS):
        assert len({one.cron["overlap"] for one in islice(recurring(3, slot), 4) if one.cron}) == 4
    for one in made:
        verbs = [verb for _, verb in one.steps]
        assert [at for at, _ in one.steps] == sorted(at for at, _ in one.steps)
        assert verbs.count("pause") == verbs.count("resume")
        assert verbs[-1] == "stop"
        assert one.steps[-1][0] < 300


def test_expected_output_is_what_the_programs_of_all_tests_write() -> None:
    for one in [*islice(intents(7), 300), *_recurring(7)]:
        seed = (one.n * 1009) % 1_000_000
        assert one.program.output("stdout") == counted(one.program.stdout, seed)
        assert one.program.output("stderr") == counted(one.program.stderr, seed + 500_000)


def test_what_the_checker_has_to_know_is_written_down() -> None:
    for one in [*islice(intents(7), 300), *_recurring(7)]:
        event = one.as_event()
        assert Program.of(event["program"]) == one.program
        assert event["retries"] == one.more.get("retries", 0)
        assert (event["key"] == "") == (one.way == "once")


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_a_program_writes_and_exits_as_foretold(tmp_path: Path, attempt: int) -> None:
    program = Program(number=4711, stdout=30_001, stderr=777, parts=3, bad_until=2, bad_code=42)
    script = program.script.replace(TARGET, str(tmp_path))
    environment = {
        "PATH": os.environ["PATH"],
        "EASYQ_EXECUTION_ID": "x",
        "EASYQ_ATTEMPT": str(attempt),
        "EASYQ_FENCE": str(attempt),
    }
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (
        program.exit_code(attempt),
        program.output("stdout"),
        program.output("stderr"),
    )
    lines = [line.split() for line in (tmp_path / "trace").read_text(encoding="ascii").splitlines()]
    assert [line[:4] for line in lines] == [[word, "x", str(attempt), str(attempt)] for word in ("start", "end")]
    assert float(lines[0][4]) <= float(lines[1][4])
