"""A file of rules under a running service."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.rules_file.watch import RulesError, RulesFile
from tests.support.waiting import eventually

GOOD = '[[default]]\npattern = "a"\n'


def patterns(document: Mapping[str, Any]) -> list[str]:
    """Rules as this test has them."""
    return [str(one["pattern"]) for one in document.get("default", ())]


class Watched:
    """A file, what was read of it, and what was taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[list[str]] = []
        self.file = RulesFile(str(path), patterns, self.taken.append)

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path / "rules.toml")
    made.write(GOOD)
    made.file.load()
    made.file.start()
    yield made
    await made.file.stop()


async def test_a_change_is_taken_by_itself(watched: Watched) -> None:
    assert watched.taken == [["a"]]
    watched.write(GOOD.replace('"a"', '"b"'))
    await eventually(lambda: watched.taken == [["a"], ["b"]])
    assert watched.file.problem == ""
    assert watched.file.changed_ms == watched.path.stat().st_mtime_ns // 10**6


async def test_a_signal_has_it_read_at_once(watched: Watched) -> None:
    watched.write(GOOD.replace('"a"', '"b"'))
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: watched.taken == [["a"], ["b"]], timeout=0.4)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[default]", "Expected"),
        ('[[default]]\npattern = "("\n', "line 2: default[0].pattern '(' is no regex"),
        ("[[defaults]]\n", "'defaults' is none of the tables"),
        ("[default]\n", "default must be written as [[default]]"),
        ("#" * (1024 * 1024 + 1), "it has more than"),
        ("a" * 5000, "is wrong"),
    ],
)
async def test_a_wrong_file_is_refused_and_the_old_rules_stay(watched: Watched, text: str, why: str) -> None:
    watched.write(text)
    problem = await eventually(lambda: watched.file.problem)
    assert why in problem
    assert str(watched.path) in problem
    assert watched.taken == [["a"]]
    watched.write(GOOD.replace('"a"', '"c"'))
    await eventually(lambda: watched.taken == [["a"], ["c"]])
    assert watched.file.problem == ""


async def test_a_file_that_vanishes_changes_nothing(watched: Watched) -> None:
    watched.path.unlink()
    assert "can't be read: No such file" in await eventually(lambda: watched.file.problem)
    since = watched.file.problem_since_ms
    assert since > 0
    watched.file.reload()
    assert watched.file.problem_since_ms == since
    assert watched.taken == [["a"]]
    watched.write(GOOD)
    await eventually(lambda: watched.file.problem == "")


async def test_a_file_that_is_being_written_is_not_read_half(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "rules.toml")
    watched.write(GOOD)
    watched.file.load()
    look: Callable[[], Any] = watched.file._look
    watched.write("")
    await look()
    assert watched.taken == [["a"]]
    watched.write(GOOD.replace('"a"', '"b"'))
    await look()
    assert watched.taken == [["a"]]
    await look()
    assert watched.taken == [["a"], ["b"]]
    await look()
    assert watched.taken == [["a"], ["b"]]


@pytest.mark.parametrize("text", [None, "[[nope]]", "x ="])
def test_a_service_does_not_start_with_a_file_that_it_can_not_use(tmp_path: Path, text: str | None) -> None:
    watched = Watched(tmp_path / "rules.toml")
    if text is not None:
        watched.write(text)
    with pytest.raises(RulesError, match=r"rules\.toml"):
        watched.file.load()


async def test_without_a_file_there_are_no_rules(capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[list[str]] = []
    file = RulesFile("", patterns, taken.append)
    file.load()
    file.start()
    # Nor does the signal end anybody.
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: "rules_unset" in capsys.readouterr().out)
    await file.stop()
    assert (taken, file.problem) == ([[]], "")
