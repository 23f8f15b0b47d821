"""Small parts that touch files and streams."""

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from easyq_supervisor.adapters import busybox
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.adapters.folder import DataFolder, Held, Running
from easyq_supervisor.adapters.ports import find_port, find_ports
from easyq_supervisor.errors import StartError
from easyq_supervisor.example import IMAGE, called_as, invitation
from tests.support import process
from tests.support.images import busybox_binary
from tests.support.waiting import free_port, wait_until


def test_lines_are_aligned_under_their_source() -> None:
    target = io.BytesIO()
    console = Console(target, form="console", colours=False)
    console.line("store", b"one\r\n")
    console.line("dispatcher", b"two")
    console.say("three\nfour")
    console.offer("five", "curl x")
    console.fail("six")
    assert target.getvalue() == (
        b"store      | one\ndispatcher | two\neasyq      | three\neasyq      | four\neasyq      | five\ncurl x\n"
        b"easyq: six\n"
    )


def test_for_programs_each_line_is_an_event() -> None:
    target = io.BytesIO()
    console = Console(target, form="json")
    console.line("store", b'{"event":"listening","service":"store"}\r\n')
    console.line("runner-2", b"Fatal Python error: \xff")
    console.line("redis", b"Ready to accept connections")
    console.say("one\ntwo")
    console.say("it ended", event="process_ended", level="error")
    console.offer("try it", "curl x")
    console.fail("no port")
    own, *others = target.getvalue().decode().splitlines()
    assert own == '{"event":"listening","service":"store"}'
    events = [json.loads(line) for line in others]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one.pop("timestamp")) for one in events)
    up = {"service": "up", "level": "info"}
    assert events == [
        {"event": "output", "level": "warning", "service": "runner-2", "text": "Fatal Python error: \ufffd"},
        {"event": "output", "level": "info", "service": "redis", "text": "Ready to accept connections"},
        {"event": "note", "message": "one\ntwo", **up},
        {"event": "process_ended", "message": "it ended", **up, "level": "error"},
        {"event": "first_job", "message": "try it", "command": "curl x", **up},
        {"event": "cannot_start", "message": "no port", **up, "level": "error"},
    ]


def test_what_libraries_log_is_an_event_too() -> None:
    target = io.BytesIO()
    root = logging.getLogger()
    before = list(root.handlers)
    Console(target, form="json").take_logs()
    try:
        logging.getLogger("asyncio").warning("Unknown child process pid %d", 5)
        logging.getLogger("asyncio").info("of no importance")
    finally:
        root.handlers[:] = before
    [line] = target.getvalue().splitlines()
    told = json.loads(line)
    assert (told["message"], told["level"], told["service"]) == ("Unknown child process pid 5", "warning", "up")


def test_on_no_terminal_it_is_for_programs() -> None:
    console = Console(io.BytesIO())
    assert (console.form, console.colours) == ("json", False)


def test_colours_surround_the_source_only() -> None:
    target = io.BytesIO()
    Console(target, form="console", colours=True).line("runner-2", b"x")
    assert target.getvalue() == b"\x1b[34mrunner-2   | \x1b[0mx\n"


def test_a_reader_that_left_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as target:
        console = Console(target, colours=False)
        console.say("a")
        console.say("b")


def test_what_can_not_be_written_now_is_dropped() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        Console(full, colours=False).say("a")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path / "d"), DataFolder(tmp_path / "d")
    assert second.holder() is None
    first.hold()
    assert second.holder() == os.getpid()
    with pytest.raises(Held) as held:
        second.hold()
    assert held.value.pid == os.getpid()
    assert str(os.getpid()) in str(held.value)
    first.release()
    assert second.holder() is None
    second.hold()
    second.release()


def test_a_folder_that_can_not_be_written_to_is_found_out() -> None:
    """Though its lock can: root loses its privilege for the test."""
    path, user = process.make_folder("ro"), os.geteuid()
    try:
        (path / "lock").touch()
        (path / "lock").chmod(0o666)
        path.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        folder = DataFolder(path)
        folder.hold()
        with pytest.raises(PermissionError):
            folder.probe()
        os.seteuid(user)
        path.chmod(0o700)
        folder.probe()
        assert {file.name for file in path.iterdir()} == {"lock"}
        assert folder.free() > 0
        folder.release()
    finally:
        os.seteuid(user)
        path.chmod(0o700)
        process.remove_folder(path)


def test_each_folder_has_a_name_of_its_own_for_good(tmp_path: Path) -> None:
    names = []
    for name in ("a", "b", "a"):
        folder = DataFolder(tmp_path / name)
        folder.hold()
        names.append(folder.farm())
        folder.release()
    first, second, again = names
    assert first == again != second
    assert re.fullmatch(r"easyq-[0-9a-f]{8}", first)


def test_what_it_says_of_itself_is_taken_back(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.hold()
    assert folder.running() is None
    said = Running(pid=1, grpc="127.0.0.1:2", rest="http://127.0.0.1:3")
    folder.announce(said)
    assert DataFolder(tmp_path).running() == said
    folder.release()
    assert folder.running() is None


def test_sockets_lie_in_a_folder_of_the_owner_alone(tmp_path: Path) -> None:
    folder = DataFolder(Path("/tmp") / f"eqt-{os.getpid()}-run")
    folder.hold()
    try:
        run = folder.make_run_folder()
        assert run == folder.path / "run"
        assert run.stat().st_mode & 0o777 == 0o700
        (run / "old.sock").touch()
        assert not list(folder.make_run_folder().iterdir())
    finally:
        folder.release()
        assert not (folder.path / "run").exists()
        (folder.path / "lock").unlink()
        folder.path.rmdir()


def test_a_long_path_has_its_sockets_elsewhere_and_a_crash_leaves_none_behind(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    crashed = DataFolder(data)
    crashed.hold()
    first = crashed.make_run_folder()
    assert len(os.fsencode(first)) < 60
    assert first.stat().st_mode & 0o777 == 0o700
    second = DataFolder(data).make_run_folder()
    assert not first.exists()
    crashed.release()
    assert not second.exists()


async def test_ports() -> None:
    assert await find_port(0, "--rest-port") > 0
    # Anybody may have taken that one by now; this one nobody takes.
    free = free_port()
    assert await find_port(free, "--rest-port") == free
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free))
        taken.listen()
        with pytest.raises(StartError, match=rf"port {free} is in use; --rest-port takes another"):
            await find_port(free, "--rest-port")


async def test_ports_of_metrics() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        ports = await find_ports(None, 3, usual=first, taken={first + 1}, flag="--metrics-port")
        # What is in use, or wanted otherwise, is made up for.
        assert not {first, first + 1} & set(ports)
        assert len(set(ports)) == 3
        with pytest.raises(StartError, match=rf"port {first} is in use; --metrics-port"):
            await find_ports(first, 2, usual=1, taken=(), flag="--metrics-port")
        with pytest.raises(StartError, match=rf"port {first} is wanted twice"):
            await find_ports(first, 2, usual=1, taken={first}, flag="--metrics-port")
    free = await find_ports(0, 4, usual=1, taken=(), flag="--metrics-port")
    assert len(set(free)) == 4
    [port] = await find_ports(free[0], 1, usual=1, taken=(), flag="--metrics-port")
    assert port == free[0]


def test_the_root_of_the_example_image() -> None:
    binary = busybox_binary()
    with tarfile.open(fileobj=io.BytesIO(busybox.root_of(binary))) as tar:
        names = tar.getnames()
        assert {"bin/sh", "bin/echo", "bin/busybox", "tmp", "etc/passwd"} <= set(names)
        assert len(names) == len(set(names))
        assert tar.getmember("tmp").mode == 0o1777
        assert tar.getmember("bin/sh").linkname == "/bin/busybox"
        extracted = tar.extractfile("bin/busybox")
        assert extracted is not None
        assert extracted.read() == binary.read_bytes()


def test_only_a_static_program_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert busybox._is_static(busybox_binary().read_bytes())
    assert not busybox._is_static(Path("/bin/ls").read_bytes())
    assert not busybox._is_static(b"#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "busybox").symlink_to("/bin/ls")
    assert busybox.static_busybox() is None


def test_the_invitation_is_a_command_as_it_stands() -> None:
    curl, after = invitation("http://127.0.0.1:1", "127.0.0.1:10001", program=".venv/bin/easyq")
    words = subprocess.run(
        ["sh", "-c", f"set -- {curl}; printf '%s\\n' \"$@\""], capture_output=True, text=True, check=True
    )
    assert words.stdout.splitlines()[-1] == "http://127.0.0.1:1/tasks/hello"
    assert IMAGE in curl
    assert after[1] == f"or both at once: .venv/bin/easyq run {IMAGE} -- echo Hello from EasyQ"
    assert "--server 127.0.0.1:5" in invitation("http://127.0.0.1:1", "127.0.0.1:5", program="easyq")[1][1]


def test_the_program_is_named_as_the_shell_finds_it() -> None:
    assert called_as("/usr/bin/easyq", "/usr/bin/easyq") == "easyq"
    assert called_as(".venv/bin/easyq", "/home/me/.venv/bin/easyq") == ".venv/bin/easyq"
    assert called_as("/opt/easyq", None) == "/opt/easyq"


def test_a_guarded_child_dies_with_its_parent() -> None:
    """The parent is killed by SIGKILL: it can do nothing itself."""
    program = (
        "import os, signal, subprocess, sys\n"
        "from easyq_supervisor.adapters.guard import guarded\n"
        "child = subprocess.Popen(guarded(('/bin/sleep', '60')), stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.readline()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    wait_until(lambda: b"/bin/sleep" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:1])
    parent.stdin.write("now\n")
    parent.stdin.flush()
    parent.wait(10)
    wait_until(lambda: not process.alive(pid))
