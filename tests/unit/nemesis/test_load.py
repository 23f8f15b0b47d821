"""The load is the seed's, and its programs do what the checker expects of them."""

import os
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.nemesis.intents import WEIGHTS, intents, recurring
from tests.chaos.nemesis.programs import Program
from tests.support.farm import Witness
from tests.support.farm.witness import TARGET


def test_the_same_seed_asks_for_the_same(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    first, again = list(islice(intents(7), 300)), list(islice(intents(7), 300))
    assert [(one, one.spec(witness)) for one in first] == [(one, one.spec(witness)) for one in again]
    assert first != list(islice(intents(8), 300))
    assert {one.kind for one in first} == set(WEIGHTS)
    assert len({one.n for one in [*first, *recurring()]}) == 300 + len(recurring())
    assert {one.kind for one in islice(intents(7, ["limited"]), 50)} == {"limited"}


def test_what_the_checker_has_to_know_is_written_down() -> None:
    for one in [*islice(intents(7), 300), *recurring()]:
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
