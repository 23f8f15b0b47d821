"""A file of rules under a running service."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.rules_file import watch
from easyq_chassis.rules_file.reading import read_text
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
    async with watching(tmp_path) as made:
        yield made


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Watched]:
    made = Watched(folder / "rules.toml")
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


async def test_a_signal_has_it_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 3600)
    async with watching(tmp_path) as watched:
        await asyncio.sleep(0)  # its first look, and the only one by itself
        watched.write(GOOD.replace('"a"', '"b"'))
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: watched.taken == [["a"], ["b"]])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[default]", "Expected"),
        ('[[default]]\npattern = "("\n', "line 2: default[0].pattern '(' is no regex"),
        ("[[defaults]]\n", "'defaults' is none of the tables"),
        ("[default]\n", "default must be written as [[default]]"),
        ("#" * (1024 * 1024 + 1), "it has more than"),
        ("a" * 5000, "is wrong"),
        ("\n" + "a." * 100_000 + "b = 1", "line 2: a key has more than 8 parts"),
        ("a = " + "[" * 100_000, "line 1: more than 16 arrays or tables in each other"),
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


async def test_the_mark_that_some_editors_write_is_no_part_of_it(watched: Watched) -> None:
    watched.write("\ufeff" + GOOD.replace('"a"', '"b"'))
    await eventually(lambda: watched.taken == [["a"], ["b"]])
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


class Looked(Watched):
    """Looked at by hand. Each change is another inode, so that no look misses it."""

    def __init__(self, path: Path, text: str = GOOD) -> None:
        super().__init__(path)
        self.write(text)
        self.file.load()

    def name(self, pattern: str) -> None:
        self.write(GOOD.replace('"a"', f'"{pattern}"'))

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.file._look()


async def test_a_change_is_taken_at_the_second_look_and_once(tmp_path: Path) -> None:
    watched = Looked(tmp_path / "rules.toml")
    watched.name("b")
    await watched.look()
    assert watched.taken == [["a"]]
    await watched.look()
    assert watched.taken == [["a"], ["b"]]
    await watched.look(30)
    assert watched.taken == [["a"], ["b"]]


async def test_in_a_storm_of_changes_some_are_taken_soon_then_seldom_and_the_last_is_taken(tmp_path: Path) -> None:
    watched = Looked(tmp_path / "rules.toml")
    for number in range(1, 50):
        watched.name(str(number))
        await watched.look()
    assert watched.taken == [["a"], ["2"], ["4"], ["8"], ["16"], ["32"], ["48"]]
    await watched.look()
    assert watched.taken[-1] == ["49"]
    # Back to what was there before the storm, and before that was seen to be over.
    for pattern in ("x", "y", "49"):
        watched.name(pattern)
        await watched.look()
    await watched.look(2)
    assert watched.taken[-2:] == [["y"], ["49"]]


async def test_a_file_that_is_being_written_is_not_read_half(tmp_path: Path) -> None:
    watched = Looked(tmp_path / "rules.toml")
    # Emptied, then half written, then whole, with a look after each: nothing of that is told.
    for text in ("[[", "", "[[default]", "", GOOD.replace('"a"', '"b"')):
        watched.write(text)
        await watched.look()
    assert (watched.taken, watched.file.problem) == ([["a"]], "")
    await watched.look()
    assert (watched.taken, watched.file.problem) == ([["a"], ["b"]], "")


async def test_what_is_wrong_is_told_once_it_is_settled_or_goes_on_for_long(tmp_path: Path) -> None:
    watched = Looked(tmp_path / "rules.toml")
    for number in range(4):
        watched.write(f"x{number} = [")
        await watched.look()
    assert watched.file.problem == ""
    await watched.look()
    assert "is wrong" in watched.file.problem
    watched.name("b")
    await watched.look(2)
    assert watched.file.problem == ""
    for number in range(15):
        watched.write(f"y{number} = [")
        await watched.look()
    assert watched.file.problem == ""
    for number in range(15, 18):
        watched.write(f"y{number} = [")
        await watched.look()
    assert "is wrong" in watched.file.problem
    assert watched.taken == [["a"], ["b"]]


async def test_a_change_that_the_file_systems_clock_hides_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_look_at", lambda _: watch._Seen(size=1))
    watched = Looked(tmp_path / "rules.toml")
    watched.name("b")
    await watched.look(15)
    assert watched.taken == [["a"], ["b"]]


async def test_links_that_are_swapped_as_kubernetes_does(tmp_path: Path) -> None:
    """The file is a link through `..data`, a link that is replaced; no file changes in its place."""
    for name, pattern in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.toml").write_text(GOOD.replace('"a"', f'"{pattern}"'))
    (tmp_path / "..data").symlink_to("one")
    path = tmp_path / "rules.toml"
    path.symlink_to("..data/rules.toml")
    taken: list[list[str]] = []
    file = RulesFile(str(path), patterns, taken.append)
    file.load()
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "one")
    for _ in range(2):
        await file._look()
    assert (taken, file.problem) == ([["a"], ["b"]], "")


async def test_what_its_writer_refused_is_a_problem_too(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    note = tmp_path / "rules.toml.refused"
    note.write_text("From before\n the start. ")
    watched = Looked(path)
    assert watched.file.problem == "From before the start."
    assert watched.file.problem_since_ms == note.stat().st_mtime_ns // 10**6
    note.unlink()
    await watched.look(2)
    assert (watched.file.problem, watched.file.problem_since_ms) == ("", 0)
    note.write_text("Refused. " * 1000)
    await watched.look(2)
    assert len(watched.file.problem) == 1000
    # What stands in the rules file itself comes first.
    watched.write("x = [")
    await watched.look(2)
    assert "is wrong" in watched.file.problem
    note.unlink()
    os.mkfifo(note)
    watched.write(GOOD)
    await watched.look(2)
    assert watched.file.problem == ""


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(path.parent, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


STRANGE: list[tuple[Callable[[Path], object], str]] = [
    (make_fifo, "it is a FIFO, not a regular file"),
    (make_device, "it is a device, not a regular file"),
    (make_socket, "it is a socket, not a regular file"),
    (Path.mkdir, "it is a directory, not a regular file"),
    (lambda path: path.symlink_to(path), "can't be read: Too many levels of symbolic links"),
    (lambda path: path.write_bytes(b"# a\n# \xff\n"), "line 2: it is not UTF-8 (byte 0xff)"),
    (lambda path: path.write_bytes(b"# a\n\n# \0\n"), "line 3: it has a NUL byte"),
]


@pytest.mark.parametrize(("make", "why"), STRANGE)
def test_a_service_does_not_start_with_what_is_no_text_file(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    """And says so at once: who opens a FIFO waits for its writer."""
    watched = Watched(tmp_path / "rules.toml")
    make(watched.path)
    with pytest.raises(RulesError) as error:
        watched.file.load()
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("make", "why"), STRANGE)
async def test_what_becomes_no_text_file_is_refused(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    watched = Looked(tmp_path / "rules.toml")
    strange = tmp_path / "strange"
    make(strange)
    watched.path.unlink()
    if strange.is_symlink():
        make(watched.path)
    else:
        strange.rename(watched.path)
    await watched.look(2)
    assert why in watched.file.problem
    assert watched.taken == [["a"]]
    watched.path.rmdir() if watched.path.is_dir() else watched.path.unlink()
    watched.name("b")
    await watched.look(2)
    assert (watched.taken[-1], watched.file.problem) == (["b"], "")


def test_a_file_that_was_replaced_between_the_look_and_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    real = os.open

    def opened(name: Path, flags: int) -> int:
        name.unlink()
        os.mkfifo(name)
        return real(name, flags)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(ValueError, match="it is a FIFO"):
        read_text(path)


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
