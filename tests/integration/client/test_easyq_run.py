"""`easyq run` as a process of its own against a gateway whose jobs do what the test says."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from easyq.v1.job_pb2 import Failure, Waiting
from tests.fakes.public_api import FakeGateway, fake_gateway, status
from tests.support.signals import hears_signals
from tests.support.waiting import wait_until

EASYQ = Path(sys.executable).parent / "easyq"


class Run:
    """A running `easyq run`, whose outputs go to files, so that it never waits for a reader; unless `redirect` has a
    shell lead them elsewhere."""

    def __init__(self, folder: Path, server: str, *arguments: str, **options: Any) -> None:
        # With it nothing would be buffered, whatever the code does.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        if "path" in options:
            environment["PYTHONPATH"] = os.pathsep.join([str(options["path"]), environment.get("PYTHONPATH", "")])
        shell = ["sh", "-c", f'exec "$0" "$@" {options["redirect"]}'] if "redirect" in options else []
        self._files = [folder / "out", folder / "err"]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                hears_signals(
                    [*shell, EASYQ, "run", "--server", server, *arguments], ignored=options.get("ignored", "")
                ),
                stdin=subprocess.DEVNULL,
                stdout=options.get("stdout", out),
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
        return self.process.wait(60)


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
        (("TIMED_OUT", 143, Failure.TIMEOUT), 124, "timed out"),
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


@pytest.mark.parametrize(("reason", "doubt"), [("UNAVAILABLE", True), ("OVERLOADED", False)])
def test_an_enqueue_without_an_answer_is_told_as_such(
    gateway: FakeGateway, start: Any, reason: str, doubt: bool
) -> None:
    code = grpc.StatusCode.UNAVAILABLE if doubt else grpc.StatusCode.RESOURCE_EXHAUSTED
    gateway.failures += [status(code, "the store can't be reached now", reason=reason)] * 9
    run = start("--task", "mail", "i:1")
    assert run.end() == 125
    assert ("whether the job was enqueued is not known: easyq ps -a --task mail" in run.err) is doubt
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
    wait_until(lambda: job.stops == 1, message="the process may have gone before its stop was read")


def test_a_closed_terminal_leaves_the_job_and_says_so(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    run.signal(signal.SIGHUP)
    assert run.end() == 129
    assert run.err == f"easyq: left job {job.job_id}, which goes on\n"
    assert job.stops == 0


def test_nohup_is_heeded(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", ignored="HUP")
    job = gateway.job()
    job.write(stdout=b"x")
    wait_until(lambda: run.out == b"x")
    run.signal(signal.SIGHUP)
    run.signal(signal.SIGINT)
    wait_until(lambda: job.stops == 1)
    job.end("STOPPED", 0)
    assert run.end() == 130


@pytest.mark.parametrize("module", ["click", "grpc"])
def test_ctrl_c_while_it_still_imports_is_quiet(start: Any, tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'reached')!r}).touch()\ntime.sleep(60)\n", encoding="utf-8"
    )
    run = start("i:1", path=tmp_path)
    wait_until((tmp_path / "reached").exists)
    run.signal(signal.SIGINT)
    assert run.end() == 130
    assert run.err == ""


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """Listens, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_ctrl_c_before_a_job_exists(mute: socket.socket, tmp_path: Path) -> None:
    run = Run(tmp_path, f"127.0.0.1:{mute.getsockname()[1]}", "i:1")
    try:
        connection, _ = mute.accept()
        run.signal(signal.SIGINT)
        wait_until(lambda: "stopping the job as soon as it is accepted" in run.err)
        mute.close()
        connection.close()
        assert run.end() == 130
        assert "can't reach EasyQ" in run.err
        assert "Traceback" not in run.err
    finally:
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_leaving_before_a_detached_job_is_accepted(
    mute: socket.socket, tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    run = Run(tmp_path, f"127.0.0.1:{mute.getsockname()[1]}", "i:1", "--detach")
    try:
        connection, _ = mute.accept()
        with connection:
            run.signal(number)
            assert run.end() == expected
        assert run.err == "easyq: left before an answer came; the job may have been accepted\n"
    finally:
        run.process.kill()
        run.process.wait()


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


@pytest.mark.parametrize(
    ("redirect", "why"),
    [
        (">&-", "could not write to stdout: it is closed"),
        ("<&- >&-", "could not write to stdout: it is closed"),
        (">/dev/full", "could not write to stdout: No space left on device"),
    ],
)
def test_output_that_can_not_be_written_ends_it_and_not_the_job(
    gateway: FakeGateway, start: Any, redirect: str, why: str
) -> None:
    run = start("i:1", redirect=redirect)
    job = gateway.job()
    job.write(stdout=b"x" * 10)
    assert run.end() == 125
    assert run.err == f"easyq: {why}; job {job.job_id} goes on\n"
    assert job.stops == 0


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_streams_that_nothing_is_written_to_may_be_closed_or_full(
    gateway: FakeGateway, start: Any, redirect: str
) -> None:
    run = start("i:1", redirect=redirect)
    job = gateway.job()
    job.end("FAILED", 3, error=Failure(reason=Failure.OOM_KILLED, message="said on stderr, where there is one"))
    assert run.end() == 3
    assert "Traceback" not in run.err


def test_stderr_that_can_not_be_written_ends_it_too(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", redirect="2>/dev/full")
    gateway.job().write(stderr=b"x")
    assert run.end() == 125


@pytest.mark.parametrize("options", [["--detach"], ["--detach", "--json"]])
@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_an_id_that_can_not_be_printed_is_told(
    gateway: FakeGateway, start: Any, redirect: str, options: list[str]
) -> None:
    run = start("i:1", *options, redirect=redirect)
    assert run.end() == 125
    assert run.err.startswith("easyq: could not write to stdout: ")
    assert run.err.endswith(f"; job {gateway.job().job_id} goes on\n")
    assert run.err.count("\n") == 1


def test_an_id_that_nobody_reads_is_told(gateway: FakeGateway, start: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = start("i:1", "--detach", stdout=writer)
    os.close(writer)
    assert run.end() == 141
    assert run.err == f"easyq: nobody reads the output any more; job {gateway.job().job_id} goes on\n"


def test_a_result_that_can_not_be_printed_is_told(gateway: FakeGateway, start: Any) -> None:
    run = start("i:1", "--json", redirect=">/dev/full")
    job = gateway.job()
    job.end()
    assert run.end() == 125
    assert run.err == f"easyq: could not write to stdout: No space left on device; job {job.job_id} has ended\n"


def test_help_that_can_not_be_printed_is_one_line(start: Any) -> None:
    run = start("--help", redirect=">/dev/full")
    assert run.end() == 125
    assert run.err == "easyq: could not write to stdout: No space left on device\n"


def test_a_usage_error_that_can_not_be_printed_keeps_its_status(start: Any) -> None:
    assert start("i:1", "--retries", "no", redirect="2>/dev/full").end() == 125
    assert start("i:1", "--retries", "no", redirect="2>&-").end() == 125


def test_a_reader_that_made_the_pipe_non_blocking_gets_everything(gateway: FakeGateway, start: Any) -> None:
    gateway.chunk = 1 << 16
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    run = start("i:1", stdout=writer)
    os.close(writer)
    job = gateway.job()
    data = os.urandom(1 << 19)
    job.write(stdout=data)
    job.end()
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == data
    assert run.end() == 0


@pytest.mark.parametrize(
    "arguments", [[b"\xff"], [b"i", b"\xff"], [b"-e", b"A=\xff", b"i"], [b"-u", b"\xff", b"i"], [b"--task=\xff", b"i"]]
)
def test_arguments_that_are_no_text_are_refused(gateway: FakeGateway, start: Any, arguments: list[bytes]) -> None:
    run = start(*arguments)
    assert run.end() == 125
    assert "is not valid UTF-8" in run.err.splitlines()[-1]
    assert "Traceback" not in run.err
    assert not gateway.jobs


def test_a_file_of_variables_that_is_no_text_is_named_with_the_line(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"A=1\nB=\xff\n")
    run = start("i:1", "--env-file", str(file))
    assert run.end() == 125
    assert run.err == f"easyq: {file}:2: byte 3 of the line is not valid UTF-8\n"


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
