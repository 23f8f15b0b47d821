"""The programs of examples/ in Go and Node, with clients made from the protos, run jobs as their READMEs say."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.fakes.public_api import FakeGateway, fake_gateway, status
from tests.support.examples import Checkout, commands
from tests.support.farm import Rest, UpFarm
from tests.support.farm.up import clean_environment
from tests.support.hosts import EXAMPLE_IMAGE
from tests.support.waiting import wait_until

Run = Callable[..., subprocess.CompletedProcess[bytes]]

# Building takes long where nothing is in the caches yet.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module", params=["go", "node"])
def program(request: pytest.FixtureRequest, checkout: Checkout) -> list[str]:
    """The command of a program, built."""
    return checkout.go() if request.param == "go" else checkout.node()


@pytest.fixture
def run(program: list[str], farm: UpFarm) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*program, *arguments], env=environment(farm), capture_output=True, timeout=60, check=False
        )

    return call


def environment(farm: UpFarm) -> dict[str, str]:
    return {**clean_environment(), "EASYQ_SERVER": farm.grpc_address}


def test_what_the_readme_shows(checkout: Checkout, program: list[str], farm: UpFarm) -> None:
    folder = Path(program[-1]).parent
    first, *lines = commands(folder / "README.md")
    assert first == f"cd {folder.relative_to(checkout.folder)}"
    # What builds it was done, line by line.
    begin = next(number for number, line in enumerate(lines) if "busybox" in line)
    assert [line.split("#")[0].strip() for line in lines[:begin]] == checkout.built[folder.name]
    script = "\n".join(lines[begin:])
    script = script.replace("busybox:1", EXAMPLE_IMAGE).replace("queue.example.com:10001", farm.grpc_address)
    shell = ["sh", "-c", script]
    done = subprocess.run(shell, cwd=folder, env=environment(farm), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n3\nHello, World\n", b"oops\n")


def test_both_outputs_and_the_exit_code(run: Run, rest: Rest, task: str) -> None:
    script = 'echo "out $A $B"; echo "err $A" >&2; printf no-line; exit 3'
    done = run("--task", task, "-e", "A=1", "-e", "B=x=y z", EXAMPLE_IMAGE, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out 1 x=y z\nno-line", b"err 1\n")
    [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    assert (job["state"], job["spec"]["envs"]) == ("FAILED", {"A": "1", "B": "x=y z"})


def test_large_output_comes_whole(run: Run, task: str) -> None:
    # 3 MB of each, in a number of chunks.
    script = "i=0; while [ $i -lt 3 ]; do head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; i=$((i+1)); done"
    done = run("--task", task, EXAMPLE_IMAGE, "sh", "-c", script)
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, 3_000_000, 3_000_000)


def test_output_is_followed_live_and_over_a_restart_of_the_gateway(
    program: list[str], farm: UpFarm, rest: Rest, task: str, tmp_path: Path
) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        running = subprocess.Popen(
            [*program, "--task", task, EXAMPLE_IMAGE, "sh", "-c", script],
            env=environment(farm),
            stdout=stdout,
            stderr=stderr,
        )
        try:
            wait_until(lambda: out.read_bytes() == b"ready\n", 60)
            farm.kill("gateway")
            wait_until(lambda: rest.call("GET", "/healthcheck").status == 200, 60, message="the gateway is back")
            [job] = rest.get(f"/tasks/{task}/jobs")["items"]
            assert job["state"] == "RUNNING"
            assert rest.call("POST", f"/jobs/{job['jobId']}/stop").status == 200
            code = running.wait(60)
        finally:
            running.kill()
            running.wait()
    assert (code, out.read_bytes(), err.read_bytes()) == (5, b"ready\nbye\n", b"")


# ------------------------------------------------------------------------------------ what seldom happens, by a fake


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as made:
        yield made


def start(program: list[str], gateway: FakeGateway) -> subprocess.Popen[bytes]:
    command = [*program, "--server", gateway.address, "image", "command"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())


def ended(running: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    try:
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    return running.returncode, out, err


def test_streams_that_break_lose_and_double_nothing(program: list[str], gateway: FakeGateway) -> None:
    gateway.breaks.extend([3, 0, 6])
    # A killed gateway breaks them otherwise, above.
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    gateway.broken = status(code, "the reader took nothing for 60 s", reason="OVERLOADED")
    running = start(program, gateway)
    job = gateway.job()
    out, err = (bytes(range(first, first + 100)) for first in (0, 100))
    job.write(stdout=out, stderr=err)
    job.end("FAILED", 1, retrying=True)
    job.attempt()
    job.write(stdout=b"again")
    job.end("SUCCEEDED", 0)
    assert ended(running) == (0, out + b"again", err)
    assert len(gateway.log_requests) == 4


def test_a_submit_is_repeated_under_one_key(program: list[str], gateway: FakeGateway) -> None:
    gateway.failures.extend([status(grpc.StatusCode.UNAVAILABLE, "not now", reason="STORE_UNAVAILABLE")] * 2)
    running = start(program, gateway)
    gateway.job().end("FAILED", 7)
    assert ended(running) == (7, b"", b"")
    assert [len(job.request.idempotency_key) > 16 for job in gateway.jobs] == [True]


def test_errors_are_one_line(program: list[str], gateway: FakeGateway) -> None:
    running = start(program, gateway)
    job = gateway.job()
    job.message.error.message = "can't pull it:\nnobody there"
    job.end("FAILED", None)
    why = f"run: job {job.job_id} FAILED without an exit code: can't pull it: nobody there\n".encode()
    assert ended(running) == (125, b"", why)

    gateway.failures.append(status(grpc.StatusCode.INVALID_ARGUMENT, "image:\nis bad", reason="INVALID_FIELDS"))
    code, out, err = ended(start(program, gateway))
    assert (code, out, err.count(b"\n")) == (125, b"", 1)
    assert err.endswith(b": image: is bad\n")

    gateway.stop()
    code, out, err = ended(start(program, gateway))
    assert (code, out, err.count(b"\n")) == (125, b"", 1)
    assert b"navailable" in err or b"UNAVAILABLE" in err

    for arguments in ([], ["-e", "no-value", "image"], ["--no-such-option", "image"]):
        done = subprocess.run([*program, *arguments], capture_output=True, timeout=60, check=False)
        assert done.returncode == 2
        assert b"usage: " in done.stderr


def test_the_reader_of_the_output_may_leave(program: list[str], gateway: FakeGateway) -> None:
    gateway.chunk = 100_000
    running = start(program, gateway)
    gateway.job().write(stdout=b"x" * 3_000_000)
    assert running.stdout is not None
    assert running.stderr is not None
    with running:
        assert running.stdout.read(1) == b"x"
        running.stdout.close()
        said = running.stderr.read()
    assert running.returncode != 0
    assert said.count(b"\n") <= 1, said
