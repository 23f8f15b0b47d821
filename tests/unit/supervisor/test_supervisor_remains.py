"""What of a machine's processes and mounts is surely a killed engine's own."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from easyq_supervisor.adapters import remains
from easyq_supervisor.domain.remains import Mount, Process, to_kill, to_unmount
from tests.support import process
from tests.support.waiting import wait_until

EXEC = "/d/engine/exec"
ME = 999


def one(pid: int, parent: int, *argv: str) -> Process:
    return Process(pid=pid, parent=parent, started=1, argv=argv)


def shim(pid: int, name: str, *, exec_root: str = EXEC, parent: int = 1) -> Process:
    program = "/usr/bin/containerd-shim-runc-v2"
    return one(
        pid, parent, program, "-namespace", "n", "-id", name, "-address", f"{exec_root}/containerd/containerd.sock"
    )


DOCKERD = one(10, 1, "/usr/sbin/dockerd", f"--exec-root={EXEC}")
CONTAINERD = one(11, 10, "containerd", "--config", f"{EXEC}/containerd/containerd.toml", "--log-level", "info")
#: What runs on the machine and is none of the engine's.
OTHERS = (
    one(1, 0, "/sbin/init"),
    one(2, 0, ""),
    one(3, 0),
    one(4, 1, "/usr/sbin/dockerd", "--exec-root=/d/engine/exec2"),
    one(5, 1, "/usr/sbin/dockerd"),
    one(6, 5, "containerd", "--config", "/run/docker/containerd/containerd.toml"),
    shim(7, "a", exec_root="/run/docker"),
    shim(70, "a", exec_root="/x/d/engine/exec"),
    one(71, 1, "/usr/bin/containerd-shim-runc-v2", "-address"),
    one(8, 7, "sleep", "1"),
    # Somebody who looks at the engine's folder.
    one(9, 1, "tail", "-f", f"{EXEC}/containerd/containerd.toml"),
    one(90, 1, "docker", "-H", f"unix://{EXEC}/docker.sock", "ps"),
    one(91, 1, "sh", "-c", f"dockerd --exec-root={EXEC}"),
    one(ME, 1, "python", "easyq", "down"),
)


def pids(processes: Iterable[Process]) -> set[int]:
    return {found.pid for found in processes}


def rounds(*own: Process, kept: tuple[str, ...] = ()) -> list[set[int]]:
    """Who is killed, one round after the other."""
    left, told = [*OTHERS, *own], []
    while victims := to_kill(left, EXEC, kept=kept, me=ME):
        told.append(pids(victims))
        left = [process for process in left if process not in victims]
    assert pids(OTHERS) <= pids(left)
    return told


def test_nothing_of_others_is_touched() -> None:
    assert rounds() == []


def test_containers_go_before_their_shims() -> None:
    own = [shim(20, "a"), one(21, 20, "sleep"), one(22, 21, "sh"), shim(30, "b")]
    assert rounds(*own) == [{21, 22}, {20, 30}]


def test_a_daemon_whose_pid_file_is_lost_goes_with_all_below_it() -> None:
    own = [DOCKERD, CONTAINERD, shim(20, "a", parent=11), one(21, 20, "sleep")]
    assert rounds(*own) == [{21}, {10, 11, 20}]


def test_what_the_engine_finds_again_stays() -> None:
    own = [CONTAINERD, shim(20, "a", parent=11), one(21, 20, "sleep"), shim(30, "b"), one(31, 30, "sleep")]
    assert rounds(*own, kept=("a",)) == [{31}, {11, 30}]


def test_nobody_ends_itself() -> None:
    inside = [process for process in OTHERS if process.pid != ME] + [shim(20, "a"), one(21, 20, "sh"), one(ME, 21, "x")]
    assert to_kill(inside, EXEC, kept=(), me=ME) == []
    assert to_kill([shim(ME, "a")], EXEC, kept=(), me=ME) == []


DATA = "/d/engine/data"
DISK = Mount(number=27, parent=1, device="254:0", root="/", point="/", kind="ext4")
ITSELF = Mount(number=44, parent=27, device="254:0", root=DATA, point=DATA, kind="ext4")


def mount(number: int, kind: str, point: str, *, root: str = "/", parent: int = 44, device: str = "0:9") -> Mount:
    return Mount(number=number, parent=parent, device=device, root=root, point=point, kind=kind)


def test_the_engines_own_mounts_go_newest_first() -> None:
    table = [
        DISK,
        ITSELF,
        mount(51, "overlay", f"{DATA}/overlay2/1/merged"),
        mount(52, "tmpfs", f"{DATA}/containers/1/mounts/shm"),
        mount(53, "nsfs", f"{EXEC}/netns/1", root="net:[1]", parent=27),
        replace(ITSELF, number=54, parent=44),
        mount(55, "ext4", f"{DATA}/overlay2", root=f"{DATA}/overlay2", parent=54, device="254:0"),
    ]
    assert to_unmount(table, data=DATA, exec_root=EXEC) == [found.point for found in reversed(table[1:])]


def test_a_data_folder_on_a_disk_of_its_own() -> None:
    disk = mount(40, "ext4", "/d", parent=27, device="254:1")
    itself = mount(44, "ext4", DATA, root="/engine/data", parent=40, device="254:1")
    assert to_unmount([DISK, disk, itself], data=DATA, exec_root=EXEC) == [DATA]


@pytest.mark.parametrize(
    "foreign",
    [
        mount(60, "ext4", DATA, device="254:1", parent=27),
        mount(60, "tmpfs", DATA, parent=27),
        mount(60, "overlay", DATA, parent=27),
        mount(60, "ext4", DATA, root="/elsewhere", device="254:0", parent=27),
        mount(60, "ext4", f"{DATA}/volumes", device="254:1"),
        mount(60, "tmpfs", f"{DATA}/overlay2"),
        mount(60, "overlay", "/d/engine/data2/overlay2/1/merged", parent=27),
        mount(60, "overlay", "/var/lib/docker/overlay2/1/merged", parent=27),
        mount(60, "nsfs", "/run/docker/netns/1", root="net:[1]", parent=27),
        mount(60, "ext4", "/home", root="/home", device="254:0", parent=27),
        mount(60, "ext4", f"{DATA}/x", root=f"{DATA}/x", device="254:0", parent=4711),
    ],
)
def test_what_somebody_mounted_stays(foreign: Mount) -> None:
    assert to_unmount([DISK, foreign], data=DATA, exec_root=EXEC) == []


def test_the_tables_of_the_kernel_are_read(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "44 27 254:0 /a\\040b\\134 /d\\040e rw shared:3 master:1 - overlay overlay rw,lowerdir=/x\n"
        "45 27 0:4 net:[1] /n\u2028 rw - nsfs nsfs rw\n",
        encoding="utf-8",
    )
    first, second, third = remains.mounts(table)
    assert first == DISK
    assert second == Mount(number=44, parent=27, device="254:0", root="/a b\\", point="/d e", kind="overlay")
    assert (third.point, third.kind) == ("/n\u2028", "nsfs")
    assert remains.mounts(tmp_path / "none") == []
    [me] = [found for found in remains.processes() if found.pid == os.getpid()]
    assert me.parent == os.getppid()
    assert me.argv[0].encode() == Path("/proc/self/cmdline").read_bytes().split(b"\0")[0]


def pretend(folder: Path, exec_root: Path) -> subprocess.Popen[bytes]:
    """A process that looks like a shim of the engine with that exec root."""
    program = folder / "containerd-shim-test"
    if not program.exists():
        program.symlink_to(sys.executable)
    address = f"{exec_root}/containerd/containerd.sock"
    command = [str(program), "-c", "import time; print(flush=True); time.sleep(60)", "-id", "a", "-address", address]
    started = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline() == b"\n"
    return started


def test_only_this_engines_processes_are_killed(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    mine, foreign = pretend(tmp_path, own), pretend(tmp_path, other)
    try:
        assert remains.end_processes(own, kept=("a",)) == 0
        assert remains.any_process(own)
        assert remains.end_processes(own) == 1
        wait_until(lambda: not process.alive(mine.pid))
        assert not remains.any_process(own)
        assert process.alive(foreign.pid)
    finally:
        for started in (mine, foreign):
            started.kill()
            started.wait()


def test_a_pid_that_is_anothers_by_now_is_not_killed(tmp_path: Path) -> None:
    started = pretend(tmp_path, tmp_path)
    try:
        [found] = [one for one in remains.processes() if one.pid == started.pid]
        assert not remains.kill(replace(found, started=found.started - 1))
        assert process.alive(started.pid)
        assert remains.kill(found)
    finally:
        started.kill()
        started.wait()
    assert not remains.kill(found)


def test_the_same_path_in_another_place_is_not_this_engine(tmp_path: Path) -> None:
    """A folder that is not there any more is as one that the process sees elsewhere."""
    own = tmp_path / "own"
    started = pretend(tmp_path, own)
    try:
        assert remains.end_processes(own) == 0
        assert process.alive(started.pid)
    finally:
        started.kill()
        started.wait()
