"""Installing packages, with an apt-get that only notes what it was asked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from easyq_supervisor.adapters import packages

NOTE = """#!/bin/sh
echo "$DEBIAN_FRONTEND: $* (policy: $(test -e {policy} && echo yes))" >> {notes}
echo working
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an apt-get with further lines on the PATH; where its notes are."""

    def install(more: str = "") -> Path:
        policy, notes = tmp_path / "policy-rc.d", tmp_path / "notes"
        program = tmp_path / "apt-get"
        program.write_text(NOTE.format(policy=policy, notes=notes) + more, encoding="ascii")
        program.chmod(0o755)
        monkeypatch.setattr(packages, "_POLICY", str(policy))
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return notes

    return install


async def test_it_is_installed_without_questions_and_without_starting_its_daemon(
    apt: Callable[[str], Path], tmp_path: Path
) -> None:
    notes, said = apt(""), list[str]()
    await packages.install("docker.io", said.append)
    assert notes.read_text(encoding="ascii").splitlines() == [
        "noninteractive: update -q (policy: yes)",
        "noninteractive: install -q -y --no-install-recommends docker.io (policy: yes)",
    ]
    assert said == ["installing the package docker.io"]
    assert not (tmp_path / "policy-rc.d").exists()


async def test_a_failure_has_apts_last_words_and_leaves_no_policy(apt: Callable[[str], Path], tmp_path: Path) -> None:
    apt("echo 'E: Unable to locate package' >&2; exit 100\n")
    with pytest.raises(packages.InstallError, match=r"apt-get update -q: working / E: Unable to locate package"):
        await packages.install("docker.io", lambda _text: None)
    assert not (tmp_path / "policy-rc.d").exists()


async def test_a_policy_of_the_operator_is_kept(apt: Callable[[str], Path], tmp_path: Path) -> None:
    apt("")
    (tmp_path / "policy-rc.d").write_text("mine", encoding="ascii")
    await packages.install("x", lambda _text: None)
    assert (tmp_path / "policy-rc.d").read_text(encoding="ascii") == "mine"


def test_who_can_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not packages.can_install()


def test_daemons_are_found_where_debian_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert packages.find_program("sh") is not None
    assert packages.find_program("no-such-program") is None
