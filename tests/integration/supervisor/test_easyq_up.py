"""`easyq up` and `easyq down` as processes, with services that do nothing: what the supervisor itself promises."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from easyq_supervisor.example import called_as
from tests.fakes.services import KINDS, install
from tests.support import process
from tests.support.farm.up import clean_environment
from tests.support.missing import missing
from tests.support.waiting import wait_until

EASYQ = Path(sys.executable).parent / "easyq"
ROOT = Path(__file__).parents[3]


class Up:
    """One `easyq up` on a folder; `env` tells the fake services what to do."""

    def __init__(self, folder: Path, *arguments: str, ports: tuple[str, ...] = (), **env: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        fakes = folder / "fakes"
        if not fakes.exists():
            install(fakes)
        number = len(list(folder.glob("out-*")))
        self._out, self._err = folder / f"out-{number}", folder / f"err-{number}"
        ports = (*(ports or ("--rest-port", "0", "--grpc-port", "0")), "--metrics-port", "0")
        self.process = process.spawn(
            [EASYQ, "up", "--data", self.data, *ports, "--engine", "none", *arguments],
            log=self._err,
            stdout=self._out,
            env={**clean_environment(), "PYTHONPATH": f"{fakes}:{ROOT}", **env},
            death_signal=signal.SIGTERM,
        )

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    def lines(self, source: str) -> list[str]:
        """What a source has said: of a service the lines that are no events of it, of `up` its messages."""
        events = [json.loads(line) for line in self.err.splitlines(keepends=True) if line.endswith("\n")]
        return [one["message"] if source == "up" else one["text"] for one in events if one["service"] == source]

    def wait_ready(self) -> "Up":
        wait_until(lambda: self.out or self.process.poll() is not None, 20, message="ready")
        assert self.out.startswith("ready "), self.err
        return self

    def pids(self, source: str) -> list[int]:
        """Of all lives of a fake service."""
        return [int(line.split()[1]) for line in self.lines(source) if line.startswith("started ")]

    def settings(self, source: str) -> dict[str, str]:
        lines = wait_until(lambda: [line for line in self.lines(source) if line.startswith("started ")])
        settings: dict[str, str] = json.loads(lines[-1].split(maxsplit=2)[2])
        return settings

    @property
    def rules(self) -> dict[str, Any]:
        """The rules file, once the dispatcher knows where it is."""
        return tomllib.loads(Path(self.settings("dispatcher")["RULES"]).read_text(encoding="utf-8"))

    def redis_pids(self) -> list[int]:
        return [pid for pid in process.processes_naming(self.data) if b"valkey-server" in _program(pid)]

    def end(self, timeout: float = 60) -> int:
        return self.process.wait(timeout)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        return process.end(self.process, sig)


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return b""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = process.make_folder("sup")
    yield made
    process.remove_folder(made)


@pytest.fixture
def up(folder: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, **options: Any) -> Up:
        started.append(Up(folder, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def write(file: Path, text: str) -> None:
    """As a whole, as an editor does: nobody reads half of it."""
    draft = file.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def easyq(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EASYQ, *arguments], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_one_line_on_stdout_and_each_line_of_stderr_is_an_event_that_names_its_source(up: Callable[..., Up]) -> None:
    farm = up(FAKE_RUNNER="flood").wait_ready()
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", farm.out)
    wait_until(lambda: all(farm.pids(kind) for kind in KINDS))
    assert farm.settings("gateway")["REST_LISTEN"] == farm.out.removeprefix("ready http://").strip()
    assert farm.stop() == 0
    events = [json.loads(line) for line in farm.err.splitlines()]
    assert {one["service"] for one in events} == {*KINDS, "up"}
    assert all({"event", "level", "timestamp"} <= set(one) for one in events)
    assert {"listening", "ready", "stopping"} <= {one["event"] for one in events}
    assert {one["event"] for one in events if one["service"] != "up"} == {"output"}
    assert "no newline at the end" in farm.lines("runner")
    assert sum(line.count("x") for line in farm.lines("runner")) >= 200_000


def test_what_a_newcomer_needs_comes_first_and_operators_have_one_line(up: Callable[..., Up]) -> None:
    farm = up("--pool", "idle=idle-.*").wait_ready()
    first, second, *_ = farm.lines("up")
    rest = farm.settings("gateway")["REST_LISTEN"]
    grpc = farm.settings("gateway")["GRPC_LISTEN"]
    assert first == (
        f"starting EasyQ at http://{rest} (pages and REST); once it is ready: "
        f"{called_as(str(EASYQ), shutil.which('easyq'))} run --server {grpc} easyq-example:1 -- echo Hello from EasyQ"
    )
    metrics = json.loads((farm.data / "up.json").read_text(encoding="utf-8"))["metrics"]
    assert second.startswith(f"/metrics, /livez and /readyz: gateway {metrics['gateway']}, scheduler :")
    assert [url.rpartition(":")[2] for url in metrics.values()] == re.findall(r":(\d+)", second)
    assert farm.err.count("/metrics") == 1


def test_the_folder_is_private_and_sockets_are_in_it(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    assert farm.data.stat().st_mode & 0o777 == 0o700
    run = farm.data / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    assert farm.settings("store")["LISTEN"] == f"unix:{run}/store.sock"
    url = farm.settings("dispatcher")["REDIS"]
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        assert client.config_get("port")["port"] == "0"
        assert client.config_get("save")["save"] == ""


def test_all_end_in_order(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    wait_until(lambda: all(farm.pids(kind) for kind in KINDS))
    [valkey] = wait_until(farm.redis_pids)
    assert farm.stop() == 0
    ends = {kind: int(line.split()[1]) for kind in KINDS for line in farm.lines(kind) if line.startswith("stopped ")}
    *first, before_last, last = sorted(ends, key=lambda kind: ends[kind])
    assert set(first) == {"gateway", "scheduler", "runner"}
    assert (before_last, last) == ("dispatcher", "store")
    assert not process.alive(valkey)
    assert not (farm.data / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_is_told_and_mended(up: Callable[..., Up], kind: str) -> None:
    farm = up().wait_ready()
    wait_until(lambda: farm.pids(kind))
    os.kill(farm.pids(kind)[0], signal.SIGKILL)
    wait_until(lambda: len(farm.pids(kind)) == 2)
    assert f"{kind} was killed by SIGKILL; it is started again in 0.1 s" in farm.lines("up")
    assert farm.out.count("\n") == 1


def test_a_crash_of_redis_is_mended(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    [first] = wait_until(farm.redis_pids)
    url = farm.settings("dispatcher")["REDIS"]
    os.kill(first, signal.SIGKILL)
    [second] = wait_until(lambda: [pid for pid in farm.redis_pids() if pid != first])
    assert second != first

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    wait_until(answers)


def test_one_that_crashes_at_once_is_tried_with_growing_pauses(up: Callable[..., Up]) -> None:
    farm = up(FAKE_SCHEDULER="crash").wait_ready()
    wait_until(lambda: len(farm.pids("scheduler")) >= 4)
    told = [line for line in farm.lines("up") if line.startswith("scheduler ended with status 3")]
    pauses = [float(line.split()[-2]) for line in told]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert farm.stop() == 0


def test_one_that_refuses_its_settings_ends_it_all(up: Callable[..., Up]) -> None:
    farm = up(FAKE_STORE="refuse")
    assert farm.end() == 1
    assert "store can't start, and trying again would not help; its last lines above say why" in farm.lines("up")
    assert not [pid for kind in KINDS for pid in farm.pids(kind) if process.alive(pid)]


def test_one_that_is_deaf_is_killed_within_the_grace(up: Callable[..., Up]) -> None:
    farm = up("--grace", "3", FAKE_DISPATCHER="deaf").wait_ready()
    wait_until(lambda: farm.pids("dispatcher"))
    assert farm.stop() == 0
    assert any(line.startswith("dispatcher did not end within") for line in farm.lines("up"))
    assert not process.alive(farm.pids("dispatcher")[0])


def test_a_second_signal_forces(up: Callable[..., Up]) -> None:
    farm = up("--grace", "60", FAKE_DISPATCHER="deaf").wait_ready()
    wait_until(lambda: farm.pids("dispatcher"))
    farm.process.send_signal(signal.SIGINT)
    wait_until(lambda: any(line.startswith("SIGINT: stopping") for line in farm.lines("up")))
    farm.process.send_signal(signal.SIGINT)
    assert farm.end() == 130
    assert not process.alive(farm.pids("dispatcher")[0])


def test_nothing_outlives_its_own_death(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    wait_until(lambda: all(farm.pids(kind) for kind in KINDS))
    pids = [*(farm.pids(kind)[0] for kind in KINDS), *wait_until(farm.redis_pids)]
    farm.process.kill()
    farm.end()
    wait_until(lambda: not any(process.alive(pid) for pid in pids))
    again = up().wait_ready()
    assert again.stop() == 0


def test_a_second_one_names_the_first(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    second = easyq("up", "--data", str(farm.data), "--engine", "none")
    assert second.returncode == 1
    assert f"held by another easyq up, pid {farm.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1


def test_nobody_needs_to_read_it(folder: Path) -> None:
    """Neither stdout nor stderr has a reader, and it was started under nohup."""
    install(folder / "fakes")
    command = f"nohup {EASYQ} up --data {folder}/data --rest-port 0 --grpc-port 0 --engine none"
    read, write = os.pipe()
    process_ = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {command}"],
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=write,
        env={**clean_environment(), "PYTHONPATH": f"{folder}/fakes:{ROOT}"},
    )
    os.close(write)
    os.close(read)
    try:
        wait_until((folder / "data/up.json").exists, 20)
        wait_until((folder / "data/run/redis.sock").exists, 20)
        process_.send_signal(signal.SIGHUP)
        done = easyq("down", "--data", str(folder / "data"))
        assert done.returncode == 0, done.stderr
        assert process_.wait(60) == 0
    finally:
        process_.kill()
        process_.wait()


def test_a_port_that_is_taken_is_told(up: Callable[..., Up]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        farm = up(ports=("--rest-port", str(port), "--grpc-port", "0"))
        assert farm.end() == 1
    assert f"port {port} is in use; --rest-port takes another" in farm.err
    assert "Traceback" not in farm.err


def test_down(up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    done = easyq("down", "--data", str(farm.data))
    assert (done.returncode, done.stderr) == (0, f"easyq: stopped (pid {farm.process.pid})\n")
    assert farm.end() == 0
    again = easyq("down", "--data", str(farm.data))
    assert (again.returncode, again.stderr) == (0, f"easyq: no EasyQ runs on {farm.data}\n")
    assert easyq("down", "--data", str(farm.data), "--stop-jobs").returncode == 1


def test_a_config_file_says_all_of_it_and_flags_win(up: Callable[..., Up], folder: Path) -> None:
    config = folder / "easyq.toml"
    config.write_text(
        'pool = ["gpu=gpu-.*:2"]\nlimit = ["mail=1"]\nslots = 7\nlog-level = "warning"\n'
        'docker-host = ["unix:///nowhere/a", "gpu=unix:///nowhere/b"]\nredis = "redis://127.0.0.1:1"\n',
        encoding="utf-8",
    )
    farm = up("--config", str(config), "--slots", "3").wait_ready()
    wait_until(lambda: farm.pids("runner-2") and farm.pids("dispatcher"))
    first, second = farm.settings("runner-1"), farm.settings("runner-2")
    assert (first["DOCKER_HOST"], first["POOLS"], first["SLOTS"]) == ("unix:///nowhere/a", "default", "3")
    assert (second["DOCKER_HOST"], second["POOLS"], second["LOG_LEVEL"]) == ("unix:///nowhere/b", "gpu", "warning")
    assert first["AGENT_ID"] != second["AGENT_ID"]
    assert farm.rules == {
        "pool": [{"name": "gpu", "pattern": "gpu-.*", "max_running": 2}],
        "limit": [{"pattern": "mail", "max_running": 1}],
    }
    assert farm.settings("dispatcher")["REDIS"] == "redis://127.0.0.1:1"
    assert farm.redis_pids() == []


def test_the_config_file_is_read_again_when_it_changes(up: Callable[..., Up], folder: Path) -> None:
    config = folder / "easyq.toml"
    config.write_text('limit = ["mail=1"]\n[[default]]\npattern = "mail"\nretries = 2\n', encoding="utf-8")
    farm = up("--config", str(config), "--weight", "fast=3").wait_ready()
    assert farm.settings("gateway")["RULES"] == farm.settings("dispatcher")["RULES"] == str(farm.data / "rules.toml")
    weight = [{"pattern": "fast", "weight": 3}]
    default = [{"pattern": "mail", "retries": 2}]
    assert farm.rules == {"limit": [{"pattern": "mail", "max_running": 1}], "weight": weight, "default": default}
    write(config, 'limit = ["mail=7"]\nslots = 3\n')
    wait_until(lambda: farm.rules == {"limit": [{"pattern": "mail", "max_running": 7}], "weight": weight})
    wait_until(lambda: f"{config}: a change of slots needs a restart: easyq down, then easyq up" in farm.lines("up"))
    assert f"{config} was read again: limit 'mail': max_running 1 → 7; default 'mail' gone" in farm.lines("up")
    write(config, 'limit = ["mail=8"]\nlimit = 3\n')
    [refused] = wait_until(lambda: [line for line in farm.lines("up") if line.startswith("REFUSED: ")])
    assert f"{config}: Cannot overwrite a value (at line 2, column " in refused
    assert farm.rules["limit"] == [{"pattern": "mail", "max_running": 7}]
    note = farm.data / "rules.toml.refused"
    wait_until(note.exists)
    assert str(config) in note.read_text(encoding="utf-8")
    # What took its place is no file at all: it is looked at, and not waited for.
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    fifo.replace(config)
    told = f"REFUSED: {config}: it is a FIFO, not a regular file"
    wait_until(lambda: any(line.startswith(told) for line in farm.lines("up")))
    write(config, 'limit = ["mail=9"]\n')
    wait_until(lambda: farm.rules["limit"] == [{"pattern": "mail", "max_running": 9}])
    wait_until(lambda: not note.exists())
    # Nobody was started again for all that.
    assert all(len(farm.pids(kind)) == 1 for kind in KINDS)
    assert farm.stop() == 0


def test_sighup_has_the_config_file_read_again(up: Callable[..., Up], folder: Path) -> None:
    config = folder / "easyq.toml"
    config.touch()
    farm = up("--config", str(config)).wait_ready()
    farm.process.send_signal(signal.SIGHUP)
    wait_until(lambda: f"{config} was read again: no rule has changed" in farm.lines("up"))
    assert farm.stop() == 0


def _ended(pid: int) -> tuple[int, ...]:
    """A child's id and status, once it has ended; nothing before."""
    found = os.waitpid(pid, os.WNOHANG)
    return found if found[0] else ()


def test_the_end_of_its_terminal_ends_it(folder: Path) -> None:
    install(folder / "fakes")
    environment = {**clean_environment(), "PYTHONPATH": f"{folder}/fakes:{ROOT}"}
    command = [str(EASYQ), "up", "--data", f"{folder}/data", "--rest-port", "0", "--grpc-port", "0", "--engine", "none"]
    pid, terminal = pty.fork()
    if pid == 0:
        # As a shell leaves it, whatever whoever runs the tests ignores.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(EASYQ, command, environment)  # noqa: S606 - no shell is wanted
    try:
        said = b""
        while b"ready http" not in said:
            said += os.read(terminal, 65_536)
        # On a terminal that is there it is a wish like any other.
        os.kill(pid, signal.SIGHUP)
        while b"there is no config file to be read again" not in said:
            said += os.read(terminal, 65_536)
        os.close(terminal)
        ended, status = wait_until(lambda: _ended(pid), 20)
        assert (ended, os.waitstatus_to_exitcode(status)) == (pid, 0)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise
    assert not (folder / "data/run").exists()


def test_an_agent_that_was_drained_stays_away_until_it_is_wanted(up: Callable[..., Up]) -> None:
    farm = up(FAKE_RUNNER="drained").wait_ready()
    [told] = wait_until(lambda: [line for line in farm.lines("up") if " was drained, " in line])
    agent = farm.settings("runner")["AGENT_ID"]
    assert told.startswith(f"agent {agent} was drained, or told to stop, and has ended; it is not started again.")
    assert told.endswith(f"{farm.out.split()[1]}/agents/{agent}/drain && kill -HUP {farm.process.pid}")
    os.kill(wait_until(lambda: farm.pids("scheduler"))[0], signal.SIGKILL)
    wait_until(lambda: len(farm.pids("scheduler")) == 2)
    assert len(farm.pids("runner")) == 1
    farm.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(farm.pids("runner")) == 2)
    assert not any("runner ended" in line for line in farm.lines("up"))
    assert farm.stop() == 0


def test_any_other_service_that_ends_by_itself_is_started_again(up: Callable[..., Up]) -> None:
    farm = up(FAKE_SCHEDULER="drained").wait_ready()
    wait_until(lambda: len(farm.pids("scheduler")) >= 2)
    assert "scheduler ended with status 0; it is started again in 0.1 s" in farm.lines("up")


def test_agents_are_told_what_they_offer(up: Callable[..., Up], folder: Path) -> None:
    config = folder / "easyq.toml"
    config.write_text(
        'docker-host = ["unix:///nowhere/a", {url = "unix:///b", name = "big", labels = {gpu = "a100"}, gpus = 2}]',
        encoding="utf-8",
    )
    offers = ("--label", "zone=z", "--cpus", "2.5", "--memory", "3g", "--image-cache", "20g", "--gpus", "0")
    farm = up("--config", str(config), *offers).wait_ready()
    wait_until(lambda: farm.pids("runner-1") and farm.pids("runner-2"))
    first, second = farm.settings("runner-1"), farm.settings("runner-2")
    told = [first[name] for name in ("LABELS", "CPUS", "MEMORY", "GPUS", "IMAGE_CACHE")]
    assert told == ["zone=z", "2.5", "3g", "0", "20g"]
    told = [second[name] for name in ("LABELS", "CPUS", "GPUS", "AGENT_ID")]
    assert told == ["zone=z,gpu=a100", "2.5", "2", "big"]
    assert second["DATA"] == str(farm.data / "agents/big")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slots", "0"], "--slots"),
        (["--weight", "x=0"], "--weight"),
        (["--label", "x"], "is not KEY=VALUE"),
        (["--memory", "much"], "--memory"),
        (["--limit", "(=2"], "is no regex"),
        (["--pool", "x"], "is not NAME=REGEX"),
        (["--rest-port", "99999"], "--rest-port"),
        (["--docker-host", "gpu=unix:///x"], "no pool is named 'gpu'"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(folder: Path, arguments: list[str], said: str) -> None:
    done = easyq("up", "--data", str(folder / "data"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (folder / "data").exists()


def test_a_broken_or_unknown_config_is_refused_by_name(folder: Path) -> None:
    config = folder / "easyq.toml"
    for text, said in (("slots = ", "easyq.toml: "), ("slotz = 3", "'slotz' is no setting of easyq up")):
        config.write_text(text, encoding="utf-8")
        done = easyq("up", "--config", str(config))
        assert done.returncode == 2
        assert said in done.stderr
    config.unlink()
    os.mkfifo(config)
    done = easyq("up", "--config", str(config))
    assert (done.returncode, "easyq.toml: it is a FIFO, not a regular file" in done.stderr) == (2, True)


def test_a_refusal_of_the_run_before_is_forgotten(up: Callable[..., Up], folder: Path) -> None:
    (folder / "data").mkdir(mode=0o700)
    note = folder / "data" / "rules.toml.refused"
    note.touch()
    up().wait_ready()
    assert not note.exists()


def test_a_data_folder_that_can_not_be_made(folder: Path) -> None:
    (folder / "file").touch()
    done = easyq("up", "--data", str(folder / "file/data"))
    assert done.returncode == 2
    assert json.loads(done.stderr)["message"].startswith(f"the data folder {folder}/file/data can't be used: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A data folder on a disk of its own, of 16 MB."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "easyq-test", str(data)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        missing("a disk for a test to mount", "run the tests as root")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


def test_a_disk_that_is_almost_full_is_told_before_anything_starts(small_disk: Path, up: Callable[..., Up]) -> None:
    farm = up().wait_ready()
    first = json.loads(farm.err.splitlines()[0])
    assert re.fullmatch(rf"warning: only 1\d MB are free on the disk of {small_disk}: .*", first["message"])
    assert (first["event"], first["level"]) == ("disk_nearly_full", "warning")
    assert farm.stop() == 0


def test_a_disk_that_is_full_is_refused(small_disk: Path) -> None:
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(2**20))
    done = easyq("up", "--data", str(small_disk), "--engine", "none")
    assert done.returncode == 2
    told = json.loads(done.stderr)
    assert told["message"].startswith(f"the data folder {small_disk} can't be used: No space left on device")
    assert told["event"] == "cannot_start"
    assert done.stderr.count("\n") == 1
    assert not (small_disk / "run").exists()


def test_a_pool_that_no_agent_joins_is_told(up: Callable[..., Up]) -> None:
    farm = up("--pool", "gpu=gpu-.*", "--pool", "cpu=cpu", "--docker-host", "cpu=unix:///nowhere/a.sock").wait_ready()
    [warning] = [line for line in farm.lines("up") if line.startswith("warning: ")]
    assert "'gpu'" in warning
    assert "'gpu-.*'" in warning
    assert "--docker-host gpu=URL" in warning


def test_the_help_says_what_a_regex_is_matched_with() -> None:
    told = " ".join(easyq("up", "--help").stdout.split())
    pool, limit = told.partition("--pool")[2], told.partition("--limit")[2]
    assert "whole name REGEX matches" in pool.partition("--limit")[0]
    assert "whole name REGEX matches" in limit.partition("--engine")[0]


def test_without_docker_it_says_what_is_missing_and_what_to_do(up: Callable[..., Up]) -> None:
    farm = up(DOCKER_HOST="unix:///nowhere/docker.sock").wait_ready()
    [missing] = [line for line in farm.lines("up") if line.startswith("no Docker Engine answers at")]
    assert "no Docker Engine answers at unix:///nowhere/docker.sock" in missing
    assert "--docker-host" in missing
    assert "DOCKER_HOST" not in farm.settings("runner")


def test_a_docker_host_that_was_named_and_is_away_is_told_as_well(up: Callable[..., Up]) -> None:
    farm = up("--docker-host", "unix:///nowhere/a.sock").wait_ready()
    told = "no Docker Engine answers at unix:///nowhere/a.sock: what is to run there waits. Start it, or name another."
    wait_until(lambda: told in farm.lines("up"))
