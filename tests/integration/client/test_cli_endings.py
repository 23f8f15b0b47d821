"""`easyq` as a process of its own whose outputs are closed or full, or that is told to end: nothing done is lost."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from easyq.v1.spec_pb2 import JobSpec
from tests.fakes.public_farm import FakeFarm, fake_farm
from tests.support.signals import hears_signals

EASYQ = Path(sys.executable).parent / "easyq"


@pytest.fixture(scope="module")
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        yield made


@pytest.fixture(autouse=True)
def at_the_farm(farm: FakeFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    farm.jobs.clear()
    monkeypatch.setenv("EASYQ_SERVER", farm.address)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    # With it nothing would be buffered, whatever the code does.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def shell(command: str) -> tuple[int, str, str]:
    """Runs `$EASYQ …`, redirected: exit code, stdout, stderr."""
    environment = {**os.environ, "EASYQ": str(EASYQ)}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


FULL = "could not write to stdout: No space left on device"
CLOSED = "could not write to stdout: it is closed"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("--help >&-", CLOSED),
        ("--help >/dev/full", FULL),
        ("ps --help >&-", CLOSED),
        ("ps >&-", CLOSED),
        ("ps >/dev/full", FULL),
        ("context ls --json >&-", CLOSED),
    ],
)
def test_an_output_that_cannot_be_written_is_told(command: str, why: str) -> None:
    assert shell(f"$EASYQ {command}") == (125, "", f"easyq: {why}\n")


def test_a_closed_stdin_is_told() -> None:
    assert shell("$EASYQ submit -f - <&-") == (2, "", "easyq: stdin: it is closed\n")


@pytest.mark.parametrize("option", ["", "--json"])
def test_the_id_of_a_job_is_not_lost_with_stdout(farm: FakeFarm, option: str) -> None:
    code, _, err = shell(f"$EASYQ submit {option} i >/dev/full")
    assert (code, err) == (125, f"easyq: {FULL}; job {farm.jobs[0].job_id} was enqueued\n")


def test_nor_are_those_of_a_file(farm: FakeFarm) -> None:
    line = '{"spec": {"image": "i"}}'
    code, _, err = shell(f"echo '{line}' | $EASYQ submit -f - >/dev/full")
    told, sum_ = err.splitlines()
    assert (code, told) == (125, f"easyq: {FULL}; job {farm.jobs[0].job_id} was enqueued")
    assert sum_ == "easyq: 1 accepted, 0 refused"


def test_what_was_done_is_not_lost_either(farm: FakeFarm) -> None:
    farm.put("j", state="QUEUED")
    assert shell("$EASYQ stop j >&-") == (125, "", f"easyq: {CLOSED}; j is being stopped\n")


class Gate:
    """Holds back what the farm judges, once it is shut."""

    def __init__(self) -> None:
        self.shut = False
        self.met = threading.Event()
        self.opened = threading.Event()

    def judge(self, _spec: JobSpec) -> dict[str, str]:
        if self.shut:
            self.met.set()
            self.opened.wait(30)
        return {}


@pytest.fixture
def gate(farm: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(farm, "judge", made.judge)
    yield made
    made.opened.set()


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(hears_signals([EASYQ, *arguments]), stdin=pipe, stdout=pipe, stderr=pipe)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_ctrl_c_tells_what_came_of_many_jobs(gate: Gate, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = begin("submit", "-f", "-")
    assert process.stdin
    assert process.stdout
    for gate.shut in (False, False, False, True):
        process.stdin.write(b'{"spec": {"image": "i"}}\n')
        process.stdin.flush()
        if not gate.shut:
            process.stdout.readline()
    assert gate.met.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    _, err = process.communicate()
    assert err.decode() == "easyq: 3 accepted, 0 refused; up to 1 more may have been accepted\n"


def test_a_signal_during_an_enqueue_says_that_the_job_may_have_been_accepted(
    gate: Gate, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    gate.shut = True
    process = begin("submit", "i")
    assert gate.met.wait(30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert b"may have been accepted" in process.communicate()[1]
