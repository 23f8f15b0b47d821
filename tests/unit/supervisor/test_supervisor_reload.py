"""The config file read again while the system runs: what is handed on, refused, and told."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from easyq_supervisor.adapters.config_file import ConfigFile
from easyq_supervisor.domain.changes import needing_restart, rule_changes
from easyq_supervisor.domain.hosts import DockerHost
from easyq_supervisor.domain.options import OptionError, Options
from easyq_supervisor.domain.rules import Rules
from easyq_supervisor.reload import Reloader

GPU = {"name": "gpu", "pattern": "gpu-.*", "max_running": 2}
CPU = {"name": "cpu", "pattern": "cpu"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (Rules(pools=(GPU,)), Rules(pools=(GPU,)), []),
        (Rules(), Rules(pools=(GPU,)), ["pool 'gpu' new"]),
        (Rules(limits=({"pattern": "a", "max_running": 1},)), Rules(), ["limit 'a' gone"]),
        (
            Rules(pools=(GPU,)),
            Rules(pools=({"name": "gpu", "pattern": "gpu-.*", "lost_after": "45s"},)),
            ["pool 'gpu': max_running 2 → unset, lost_after unset → '45s'"],
        ),
        (Rules(pools=(GPU, CPU)), Rules(pools=(CPU, GPU)), ["order of pool tables changed"]),
        (
            Rules(weights=({"pattern": "a", "weight": 1},)),
            Rules(weights=({"pattern": "a", "weight": 2},), defaults=({"pattern": "b"},)),
            ["weight 'a': weight 1 → 2", "default 'b' new"],
        ),
        (
            Rules(retention=({"pattern": "a", "logs": "1d"},)),
            Rules(retention=({"pattern": "a", "logs": "2d"},)),
            ["retention 'a': logs '1d' → '2d'"],
        ),
    ],
)
def test_what_changed_in_words(old: Rules, new: Rules, words: list[str]) -> None:
    assert rule_changes(old, new) == words


def test_what_only_a_restart_changes_has_the_names_of_the_file() -> None:
    new = Options(rest_port=1, docker_hosts=(DockerHost(url="unix:///s"),), labels=(("a", "b"),), pools=(GPU,), grace=2)
    assert needing_restart(Options(), new) == ["rest-port", "docker-host", "label", "grace"]
    assert needing_restart(new, new) == []


class Rig:
    """A Reloader on a real config file."""

    def __init__(self, path: Path | None, **flags: Any) -> None:
        self.path = path
        self.file = ConfigFile(flags, path)
        self.written: list[str] = []
        self.said: list[str] = []
        self.refused: list[str] = []
        self.full = False
        options = self.file.options(self.file.read())
        self.reloader = Reloader(
            self.file,
            running=options,
            hosts=options.docker_hosts or [DockerHost(url="unix:///s")],
            book=self,
            say=self.said.append,
        )

    def write_rules(self, text: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.written.append(text)

    def note_refused(self, words: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.refused.append(words)

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.reloader.look()

    def change(self, text: str) -> None:
        assert self.path is not None
        self.path.write_text(text, encoding="utf-8")

    @property
    def rules(self) -> dict[str, Any]:
        """Of the last file that was written."""
        return tomllib.loads(self.written[-1])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "easyq.toml"
    path.write_text('limit = ["a=1"]\n', encoding="utf-8")
    return path


def test_a_change_is_taken_once_it_is_whole(config: Path) -> None:
    rig = Rig(config)
    rig.look()
    assert (rig.written, rig.said) == ([], [])
    rig.change('limit = ["a=2')
    rig.look(1)
    rig.change('limit = ["a=2"')
    rig.look(1)
    rig.change('limit = ["a=2"]')
    rig.look(1)
    assert (rig.written, rig.said) == ([], [])
    rig.look(1)
    assert rig.rules == {"limit": [{"pattern": "a", "max_running": 2}]}
    assert rig.said == [f"{config} was read again: limit 'a': max_running 1 → 2"]
    rig.look(30)
    assert len(rig.said) == len(rig.written) == 1
    # Back to what it was started with: that is a change by now.
    rig.change('limit = ["a=1"]')
    rig.reloader.read_again()
    assert rig.rules["limit"][0]["max_running"] == 1
    assert rig.said[1:] == [f"{config} was read again: limit 'a': max_running 2 → 1"]


def test_a_storm_of_changes_is_followed_and_its_end_is_taken(config: Path) -> None:
    rig = Rig(config)
    for number in range(101, 120):
        rig.change(f'limit = ["a={number}"]' + " " * number)
        rig.look(1)
    assert [tomllib.loads(text)["limit"][0]["max_running"] for text in rig.written] == [102, 104, 108, 116]
    rig.change('limit = ["a=99"]')
    rig.look()
    assert rig.rules["limit"][0]["max_running"] == 99


def test_a_change_before_the_first_look_is_not_missed(config: Path) -> None:
    rig = Rig(config)
    rig.change('limit = ["a=2", "b=3"]')
    rig.reloader.look()
    rig.reloader.look()
    assert len(rig.written) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("slots = 1\nlimit = [", ": Invalid value (at end of document)"),
        ('slots = 1\nlimit = "a=1\n', ": Illegal character '\\n' (at line 2, column 13)"),
        ('slots = 1\nlimit = ["(=1"]', ": line 2: limit[0].pattern '(' is no"),
        ('limit = ["a=1", "a=2"]', ": line 1: limit[1].pattern 'a' is there twice"),
        (
            '# [[limit]]\n[[limit]]\npattern = "a"\nmax-running = 1\n\n[[limit]]\npattern = "b"\nmax_running = -1\n',
            ": line 8: limit[1].max_running must be a whole number from 0 to 1000000",
        ),
        ('\n[[limit]]\npattern = "a"\n', ": line 2: limit[0] has no max_running"),
        ('\n[[limit]]\npattern = "a"\nmax-running = 1\nmax_running = 1', ": limit: table 1: has 'max_running' twice"),
        ("# slotz = 1\nslotz = 1", ": line 2: 'slotz' is no setting of easyq up"),
        ("rest-port = 1\n'rest_port' = 1", ": line 2: 'rest_port' is there twice"),
        ('label = [\n"slots=2",\n"a"]\nslots = 0', ": line 1: label: "),
        ('label = [\n"slots=2"]\nslots = 0', ": line 3: slots: "),
        (f"slots = {'9' * 5000}", ": Exceeds the limit"),
        (f"slotz{'z' * 5000} = 1", ": line 1: 'slotzzz"),
        (b"# \xe4", ": line 1: it is not UTF-8 (byte 0xe4)"),
        (b"# \0", ": line 1: it has a NUL byte"),
        ("#" * (1024 * 1024 + 1), ": it has more than 1048576 bytes"),
        (os.mkfifo, ": it is a FIFO, not a regular file"),
        (Path.mkdir, ": it is a directory, not a regular file"),
        (lambda _: None, ": No such file or directory"),
    ],
)
def test_what_is_wrong_is_told_once_and_changes_nothing(config: Path, text: Any, problem: str) -> None:
    rig = Rig(config)
    config.unlink()
    if callable(text):
        text(config)
    else:
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
    rig.look(30)
    assert rig.written == []
    [said] = rig.said
    assert said.startswith(f"REFUSED: {config}{problem}")
    assert said.endswith("The rules before it stay in force.")
    assert "\n" not in said
    assert len(said) < 700
    # For GET /status, until one is taken.
    assert rig.refused == [said.replace("REFUSED", "The config file was refused", 1)]
    if config.is_dir():
        config.rmdir()
    else:
        config.unlink(missing_ok=True)
    rig.change('limit = ["a=5"]')
    rig.look()
    # Compared with what is in force, not with what was refused.
    assert rig.said[1:] == [f"{config} was read again: limit 'a': max_running 1 → 5"]
    assert rig.refused[1:] == [""]


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.write_bytes(b"\xff"), lambda path: path.symlink_to("/dev/zero")]
)
def test_it_does_not_start_with_what_is_no_text_file(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "easyq.toml"
    make(path)
    file = ConfigFile({}, path)
    with pytest.raises(OptionError, match=rf"^{path}: "):
        file.options(file.read())


def test_a_file_of_the_same_size_in_the_place_of_another_is_seen(config: Path) -> None:
    rig = Rig(config)
    before = config.stat()
    draft = config.with_name("draft")
    draft.write_text('limit = ["a=3"]\n', encoding="utf-8")
    os.utime(draft, ns=(before.st_atime_ns, before.st_mtime_ns))
    draft.replace(config)
    rig.reloader.look()
    rig.reloader.look()
    assert rig.rules["limit"][0]["max_running"] == 3


def test_what_needs_a_restart_is_told_beside_what_holds_at_once(config: Path) -> None:
    rig = Rig(config)
    rig.change('limit = []\nslots = 9\nrest-port = 1\npool = ["gpu=g"]')
    rig.reloader.read_again()
    read, restart, warning = rig.said
    assert read == f"{config} was read again: pool 'gpu' new; limit 'a' gone"
    assert restart == f"{config}: a change of rest-port, slots needs a restart: easyq down, then easyq up"
    assert warning.startswith("warning: no agent joins the pool 'gpu'")


def test_flags_win_again(config: Path) -> None:
    rig = Rig(config, limit=("z=1",), slots=3)
    rig.change('limit = ["a=2"]\nslots = 9')
    rig.reloader.read_again()
    assert rig.said == [f"{config} was read again: no rule has changed"]
    assert rig.written == []


def test_a_full_disk_refuses_as_well(config: Path) -> None:
    rig = Rig(config)
    rig.full = True
    rig.change('limit = ["a=2"]')
    rig.reloader.read_again()
    said, untold = rig.said
    assert said.startswith(f"REFUSED: {config}: its rules can't be written down: [Errno 28] No space left on device. ")
    assert untold == "GET /status can't be told of it: [Errno 28] No space left on device"
    rig.full = False
    rig.reloader.read_again()
    assert rig.rules["limit"][0]["max_running"] == 2


def test_without_a_file_there_is_nothing_to_read() -> None:
    rig = Rig(None)
    rig.reloader.look()
    rig.reloader.look()
    assert rig.said == []
    rig.reloader.read_again()
    assert rig.said == ["there is no config file to be read again: --config names one"]
