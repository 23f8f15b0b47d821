"""`easyq run` as a process of its own against a gateway whose jobs do what the test says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from easyq.v1.job_pb2 import Failure, Waiting
from tests.fakes.public_api import FakeGateway, fake_gateway, status
from tests.support.waiting import wait_until

EASYQ = Path(sys.executable).parent / "easyq"


class Run:
    """A running `easyq run`, whose outputs go to files, so that it never waits for a reader."""

    def __init__(self, folder: Path, server: str, *arguments: str, **options: Any) -> None:
        # With it nothing would be buffered, whatever the code does.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self._files = [folder / "out", folder / "err"]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [EASYQ, "run", "--server", server, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=options.pop("stdout", out),
                stderr=err,
                env={**environment, "KEPT": "from here"},
            )

    @property
    def out(self) -> bytes:
        return self._files[0].read_bytes()

    @property
    def err(self) -> str:
        return self._files[1].read_text(encoding="utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as server:
        yield server


@pytest.fixture
def start(gateway: FakeGateway, tmp_path: Path) -> Iterator[Any]:
    runs: list[Run] = []

    def make(*arguments: str, **options: Any) -> Run:
        runs.append(Run(tmp_path, gateway.address, *arguments, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.process.kill()
        run.process.wait()


def test_both_streams_byte_for_byte_and_the_exit_code(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", "--", "sh", "-c", "echo $X")
    job = gateway.job()
    out, err = bytes(range(256)) * 40, b"\xff\r\n\x00no newline"
    job.write(stdout=out[:100], stderr=err)
    wait_until(lambda: run.out == out[:100], message="it is written at once")
    job.write(stdout=out[100:])
    job.end("FAILED", 42, error=Failure(reason=Failure.NONZERO_EXIT, message="exit code 42"))
    assert run.end() == 42
    assert run.out == out
    assert run._files[1].read_bytes() == err
    assert list(job.request.spec.command) == ["sh", "-c", "echo $X"]


def test_the_options_become_the_spec(gateway: FakeGateway, start: Any, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# c\nA=1\nB=2\nKEPT\n", encoding="utf-8")
    run = start(
        *("i:1", "--task", "t", "-e", "B=3", "-e", "KEPT", "-e", "GONE", "--env-file", str(tmp_path / "env")),
        *("--timeout", "1m30s", "--retries", "2", "--entrypoint", "/bin/sh", "-w", "/w", "-u", "u:g"),
        *("--network", "none", "--detach", "a", "b"),
    )
    assert run.end() == 0, run.err
    request = gateway.job().request
    spec = request.spec
    assert request.task_id == "t"
    assert dict(spec.envs) == {"A": "1", "B": "3", "KEPT": "from here"}
    assert (spec.timeout.seconds, spec.retries, list(spec.entrypoint)) == (90, 2, ["/bin/sh"])
    assert (spec.workdir, spec.user, spec.network, list(spec.command)) == ("/w", "u:g", "none", ["a", "b"])
    assert run.out.decode() == f"{gateway.job().job_id}\n"


def test_detach_with_json_prints_the_answer(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", "--detach", "--json")
    assert run.end() == 0
    answer = json.loads(run.out)
    assert answer["jobId"] == gateway.job().job_id
    assert answer["queueJobId"] == answer["executionId"]
    assert answer["spec"] is None


def test_json_is_all_that_stdout_gets(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", "--json")
    job = gateway.job()
    job.write(stdout=b"out", stderr=b"err")
    job.end("FAILED", 3, error=Failure(reason=Failure.NONZERO_EXIT, message="exit code 3"))
    assert run.end() == 3
    document = json.loads(run.out)
    assert (document["state"], document["exitCode"], document["stdoutBytes"]) == ("FAILED", 3, 3)
    assert "out" in run.err
    assert "err" in run.err


@pytest.mark.parametrize(
    ("end", "expected", "said"),
    [
        (("TIMED_OUT", 143, Failure.TIMEOUT), 124, "ran longer than its timeout"),
        (("STOPPED", 0, Failure.STOP_REQUESTED), 143, "was stopped"),
        (("FAILED", None, Failure.IMAGE_NOT_FOUND), 125, "failed: told by the test"),
        (("FAILED", 137, Failure.OOM_KILLED), 137, "failed: told by the test"),
        (("EXPIRED", None, Failure.START_DEADLINE), 125, "did not start in time"),
    ],
)
def test_other_ends(gateway: FakeGateway, start: Any, end: Any, expected: int, said: str) -> None:
    state, code, reason = end
    run = start("i:1")
    gateway.job().end(state, code, error=Failure(reason=reason, message="told by the test"))
    assert run.end() == expected
    assert said in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_job_and_waits_for_its_end(
    gateway: FakeGateway, start: Any, number: signal.Signals, expected: int
) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"working\n")
    wait_until(lambda: run.out == b"working\n")
    run.signal(number)
    wait_until(lambda: job.stops == 1)
    assert f"stopping job {job.job_id}" in run.err
    job.write(stdout=b"last words\n")
    job.end("STOPPED", 0, error=Failure(reason=Failure.STOP_REQUESTED, message="a stop was asked for"))
    assert run.end() == expected
    assert run.out == b"working\nlast words\n"
    assert "was stopped" in run.err


def test_the_second_signal_leaves_at_once_and_names_the_job(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    run.signal(signal.SIGINT)
    wait_until(lambda: job.stops == 1)
    run.signal(signal.SIGINT)
    assert run.end() == 130
    assert f"left job {job.job_id}, which is being stopped" in run.err
    assert "Traceback" not in run.err


def test_two_signals_at_once_still_stop_the_job(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    run.signal(signal.SIGINT)
    run.signal(signal.SIGTERM)
    assert run.end() in {130, 143}
    assert job.stops == 1


def test_a_gateway_that_is_away_does_not_hold_the_second_signal(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    gateway.stop()
    run.signal(signal.SIGINT)
    wait_until(lambda: "stopping job" in run.err)
    run.signal(signal.SIGINT)
    assert run.end() == 130
    assert f"left job {job.job_id}; nobody has answered to its stop" in run.err


def test_a_job_that_ended_meanwhile_keeps_its_exit_code(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    run.signal(signal.SIGINT)
    wait_until(lambda: job.stops == 1)
    job.end("SUCCEEDED", 0)
    assert run.end() == 0


def test_why_it_waits_is_said_once(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.wait_for("no agent of pool `default` is connected")
    wait_until(lambda: run.err)
    assert run.err == "easyq: waiting: no agent of pool `default` is connected\n"
    job.write(stdout=b"x")
    job.end()
    assert run.end() == 0
    assert run.err.count("waiting") == 1


def test_a_job_that_starts_soon_says_nothing(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.wait_for("starts in a moment", Waiting.STARTING)
    job.write(stdout=b"x")
    job.end()
    assert run.end() == 0
    assert run.err == ""


def test_a_restart_of_the_gateway_loses_and_doubles_nothing(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"before\n")
    wait_until(lambda: run.out == b"before\n")
    gateway.stop()
    job.write(stdout=b"meanwhile\n")
    wait_until(lambda: "lost the connection" in run.err)
    gateway.start()
    job.write(stdout=b"after\n")
    job.end()
    assert run.end() == 0
    assert run.out == b"before\nmeanwhile\nafter\n"
    assert run.err.count("\n") == 1, run.err


def test_further_attempts_are_told(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", "--retries", "1")
    job = gateway.job()
    job.write(stdout=b"1")
    job.end("FAILED", 9, retrying=True)
    wait_until(lambda: "exit code 9" in run.err)
    job.attempt()
    job.write(stdout=b"2")
    job.end()
    assert run.end() == 0
    assert run.out == b"12"


def test_a_reader_that_leaves_ends_it_and_not_the_job(gateway: FakeGateway, start: Any) -> None:
    reader, writer = os.pipe()
    run = start("i:1", stdout=writer)
    os.close(writer)
    os.close(reader)
    job = gateway.job()
    job.write(stdout=b"x" * 10)
    assert run.end() == 141
    assert f"job {job.job_id} goes on" in run.err
    assert "Traceback" not in run.err
    assert "Exception" not in run.err
    assert job.stops == 0


def test_a_refusal_is_one_line_with_its_fields(gateway: FakeGateway, start: Any) -> None:
    gateway.failures.append(
        status(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the job is not valid",
            reason="INVALID_FIELDS",
            fields={"spec.image": "is no image reference"},
        )
    )
    run = start("I M")
    assert run.end() == 125
    assert run.err == "easyq: the job is not valid (spec.image: is no image reference)\n"


def test_fields_that_the_message_tells_are_not_told_twice(gateway: FakeGateway, start: Any) -> None:
    problem = "spec.image: is no image reference"
    fields = {"spec.image": "is no image reference"}
    gateway.failures.append(status(grpc.StatusCode.INVALID_ARGUMENT, problem, reason="INVALID_FIELDS", fields=fields))
    run = start("I M")
    assert run.end() == 125
    assert run.err == f"easyq: {problem}\n"
