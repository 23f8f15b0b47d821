"""The config file read again while the system runs: what is handed on, refused, and told."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from easyq_supervisor.adapters.config_file import ConfigFile
from easyq_supervisor.domain.changes import needing_restart, rule_changes
from easyq_supervisor.domain.hosts import DockerHost
from easyq_supervisor.domain.options import Options
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
        self.full = False
        options = self.file.options()
        self.reloader = Reloader(
            self.file,
            running=options,
            hosts=options.docker_hosts or [DockerHost(url="unix:///s")],
            write=self._write,
            say=self.said.append,
        )

    def _write(self, text: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.written.append(text)

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
    rig.reloader.look()
    rig.reloader.look()
    assert (rig.written, rig.said) == ([], [])
    rig.change('limit = ["a=2')
    rig.reloader.look()
    rig.change('limit = ["a=2"]')
    rig.reloader.look()
    assert rig.written == []
    rig.reloader.look()
    assert rig.rules == {"limit": [{"pattern": "a", "max_running": 2}]}
    assert rig.said == [f"{config} was read again: limit 'a': max_running 1 → 2"]
    rig.reloader.look()
    rig.reloader.look()
    assert len(rig.said) == len(rig.written) == 1
    # Back to what it was started with: that is a change by now.
    rig.change('limit = ["a=1"]')
    rig.reloader.read_again()
    assert rig.rules["limit"][0]["max_running"] == 1
    assert rig.said[1:] == [f"{config} was read again: limit 'a': max_running 2 → 1"]


def test_a_change_before_the_first_look_is_not_missed(config: Path) -> None:
    rig = Rig(config)
    rig.change('limit = ["a=2", "b=3"]')
    rig.reloader.look()
    rig.reloader.look()
    assert len(rig.written) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limit = [", ": "),
        ('limit = ["(=1"]', ": limit[0].pattern '(' is no regex"),
        ('limit = ["a=1", "a=2"]', ": limit[1].pattern 'a' is there twice"),
        ("slotz = 1", ": 'slotz' is no setting of easyq up"),
        (None, ": No such file or directory"),
    ],
)
def test_what_is_wrong_is_told_once_and_changes_nothing(config: Path, text: str | None, problem: str) -> None:
    rig = Rig(config)
    if text is None:
        config.unlink()
    else:
        rig.change(text)
    for _ in range(4):
        rig.reloader.look()
    assert rig.written == []
    [said] = rig.said
    assert said.startswith(f"REFUSED: {config}{problem}")
    assert said.endswith("The rules before it stay in force.")
    assert "\n" not in said
    rig.change('limit = ["a=5"]')
    rig.reloader.look()
    rig.reloader.look()
    # Compared with what is in force, not with what was refused.
    assert rig.said[1:] == [f"{config} was read again: limit 'a': max_running 1 → 5"]


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
    [said] = rig.said
    assert said.startswith(f"REFUSED: {config}: its rules can't be written down: [Errno 28] No space left on device. ")
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
