"""The watchdog: what it decides, what it is told, and what it kills, on an engine that the tests make up."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from easyq_runner.adapters.lease_file import FileLeaseNotes
from easyq_runner.adapters.past_lives import decode_lives, encode_lives
from easyq_runner.adapters.watch_pipe import Ear, Teller, ToldLeaseNotes, decode, encode
from easyq_runner.domain.labels import labels_of
from easyq_runner.domain.lease import LeaseNote, newest, time_left
from easyq_runner.domain.lives import PastLives
from easyq_runner.domain.records import ExecutionKey, OnLost, Terms
from easyq_runner.domain.watch import Ward, final_status, is_doomed, names_of, next_delay
from easyq_runner.watchdog.engine import Engine, NoAnswer
from easyq_runner.watchdog.guard import Guard
from easyq_runner.watchdog.say import Speaker
from tests.fakes.runner_engine import FakeAgentClock
from tests.fakes.runner_rig import Rig
from tests.support.missing import require_program

NOTE = LeaseNote(boot_id="boot", renewed_at=100.0, lost_after=60.0, parked=False)
WARD = Ward(farm="f", agent_id="a", engine="unix:///x", tls=None, lease="/d/lease", console=False)


def labels(
    execution: str = "e", *, farm: str = "f", agent: str = "a", on_lost: OnLost = OnLost.RERUN, trace: str = ""
) -> dict[str, str]:
    terms = Terms(
        key=ExecutionKey(execution, 1),
        task_id="t",
        job_id="j",
        attempt=1,
        fence=1,
        log_limit=1,
        on_lost=on_lost,
        trace=trace,
    )
    return labels_of(terms, farm=farm, agent_id=agent, users={})


# ------------------------------------------------------------------------------------------------------------ decisions
def test_time_left_is_counted_from_the_last_renewal() -> None:
    assert time_left(NOTE, boot_id="boot", now=100.0) == 60.0
    assert time_left(NOTE, boot_id="boot", now=161.0) == -1.0


@pytest.mark.parametrize("note", [None, replace(NOTE, parked=True), replace(NOTE, boot_id="before the reboot")])
def test_lease_that_cannot_be_lost(note: LeaseNote | None) -> None:
    assert time_left(note, boot_id="boot", now=1e9) is None


def test_newest_of_two_notes() -> None:
    later, parked = replace(NOTE, renewed_at=101.0), replace(NOTE, parked=True)
    assert newest(NOTE, later) == newest(later, NOTE) == later
    assert newest(NOTE, parked) == newest(parked, NOTE) == parked
    assert newest(parked, later) == later  # a hello after the park
    assert newest(None, NOTE) == newest(NOTE, None) == NOTE
    assert newest(None, None) is None


@pytest.mark.parametrize(
    ("found", "doomed"),
    [
        (labels(), True),
        (labels(on_lost=OnLost.FAIL), True),
        (labels(on_lost=OnLost.WAIT), False),
        (labels(farm="another"), False),
        (labels(agent="another"), False),
        ({}, False),
        ({"easyq.farm": "f", "easyq.agent": "a"}, False),  # like ours, and not whole
    ],
)
def test_who_dies_with_the_lease(found: dict[str, str], doomed: bool) -> None:
    assert is_doomed(found, WARD) is doomed


@pytest.mark.parametrize(
    ("status", "stopping", "guarding", "final"),
    [
        (0, True, True, 0),  # a clean stop
        (130, True, True, 130),
        (-9, True, True, -9),
        (0, False, True, 0),  # somebody stopped the agent itself
        (2, False, True, 2),  # bad settings
        (1, False, False, 1),  # it could not start
        (1, False, True, None),
        (-9, False, False, None),
        (-9, False, True, None),
    ],
)
def test_end_of_an_agent(status: int, stopping: bool, guarding: bool, final: int | None) -> None:
    assert final_status(status, stopping=stopping, guarding=guarding) == final


def test_restarts_back_off() -> None:
    delay: float | None = None
    delays = [delay := next_delay(delay, lived=0.1) for _ in range(9)]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] == 5.0
    assert next_delay(5.0, lived=60.0) == 0.1


def test_lives_are_counted_and_each_kill_is_untold_until_one_has_told_it() -> None:
    first = PastLives()
    assert (dict(first.ended), first.untold) == ({}, "")
    killed = first.after("SIGKILL", how="was killed by SIGKILL")
    assert (dict(killed.ended), killed.untold) == ({"SIGKILL": 1}, "was killed by SIGKILL")
    # The next one could not even start; it has told its own trouble, and not the one before it.
    failed = killed.after("error", how="")
    assert (dict(failed.ended), failed.untold) == ({"SIGKILL": 1, "error": 1}, "was killed by SIGKILL")
    told = failed.told()
    assert (told.ended, told.untold) == (failed.ended, "")
    assert decode_lives(encode_lives(failed)) == failed
    assert told.after("SIGKILL", how="again") == PastLives(ended={"SIGKILL": 2, "error": 1}, untold="again")


# -------------------------------------------------------------------------------------------------------- what is told
@pytest.mark.parametrize("message", [NOTE, WARD, replace(WARD, tls=("ca", "cert", "key"), console=True)])
def test_what_is_told_arrives(message: Ward | LeaseNote) -> None:
    line = json.dumps(encode(message)).encode() + b"\n"
    ear = Ear()
    heard = [one for byte in line + line for one in ear.hear(bytes([byte]))]
    assert heard == [message, message]


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"nonsense", b'{"note": {"boot_id": 1}}', b'{"ward": 3}', b'{"ward": {}}']
)
def test_what_cannot_be_understood_is_dropped(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
        decode(line)
    assert list(Ear().hear(line + b"\n")) == []


def test_an_agent_never_waits_for_its_watchdog(tmp_path: Path) -> None:
    read, write = os.pipe()
    notes = ToldLeaseNotes(tmp_path / "lease", Teller(write))
    for number in range(2_000):  # more than a pipe holds
        notes.write(replace(NOTE, renewed_at=float(number)))
    os.close(read)
    notes.write(NOTE)  # nobody is there any more
    assert notes.read() == NOTE
    os.close(write)


def test_a_full_disk_does_not_keep_the_note_from_being_renewed(tmp_path: Path) -> None:
    notes = FileLeaseNotes(tmp_path / "lease")
    notes.write(replace(NOTE, renewed_at=123_456.789))
    (tmp_path / "lease.new").mkdir()  # as good as no room for a new file
    for renewed_at in (7.0, 1234567.5):
        notes.write(replace(NOTE, renewed_at=renewed_at))
        assert notes.read() == replace(NOTE, renewed_at=renewed_at)
    (tmp_path / "lease").unlink()
    with pytest.raises(OSError, match="lease"):
        notes.write(NOTE)


def test_marks_of_what_was_ended(tmp_path: Path) -> None:
    notes = FileLeaseNotes(tmp_path / "lease")
    assert not notes.was_ended("c")
    assert notes.marked() == set()
    notes.mark_ended("c")
    notes.mark_ended("d")
    assert (notes.was_ended("c"), notes.was_ended("x"), notes.was_ended("")) == (True, False, False)
    notes.unmark_ended("c")
    notes.unmark_ended("c")
    assert notes.marked() == {"d"}


# -------------------------------------------------------------------------------------------------------- what is done
class FakeDaemon:
    """Docker's API as far as the watchdog needs it, on a unix socket; it filters nothing, as a later one may not."""

    def __init__(self, listening: socket.socket) -> None:
        self.running: dict[str, dict[str, str] | None] = {}
        self.kill_status = 204
        self.broken = False
        self.killed: list[str] = []
        self.lists = 0
        self.on_list: Callable[[], None] = lambda: None
        self._socket = listening
        self._socket.listen(200)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                method, path, _ = request.decode().split(maxsplit=2)
                status, body = self._answer(method, path)
                head = f"HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n"
                connection.sendall(b"" if self.broken else head.encode() + body)

    def _answer(self, method: str, path: str) -> tuple[int, bytes]:
        if method == "GET":
            self.lists += 1
            self.on_list()
            return 200, json.dumps([{"Id": one, "Labels": found} for one, found in self.running.items()]).encode()
        container = path.split("/")[2]
        if self.kill_status == 204:
            self.killed.append(container)
            self.running.pop(container, None)
        return self.kill_status, b""

    def close(self) -> None:
        # An accept that went on would serve the next test's socket, once that has the same number.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class Watched:
    """A guard whose agent was heard of `lost_after` seconds before `clock.ahead`."""

    def __init__(self, folder: Path) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{folder}/s")
        self.daemon = FakeDaemon(listening)
        self.clock = FakeAgentClock()
        self.notes = FileLeaseNotes(folder / "lease")
        self.ward = replace(WARD, engine=f"unix://{folder}/s", lease=str(folder / "lease"))
        self.guard = Guard(Speaker(), self.clock)
        self.guard.hear(self.ward)

    def note(self, *, parked: bool = False) -> LeaseNote:
        return LeaseNote(boot_id="boot", renewed_at=self.clock.boot(), lost_after=60.0, parked=parked)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    with closing(made.daemon):
        yield made


def test_kills_what_may_run_elsewhere_and_nothing_else(watched: Watched) -> None:
    watched.daemon.running = {
        "mine": labels(),
        "failing": labels(on_lost=OnLost.FAIL),
        "waiting": labels(on_lost=OnLost.WAIT),
        "of another agent": labels(agent="b"),
        "of another farm": labels(farm="g"),
        "foreign": None,
    }
    watched.notes.write(watched.note())
    assert 0 < watched.guard.run_once() <= 0.5
    assert watched.daemon.lists == 0  # nobody is asked as long as the lease holds
    watched.clock.ahead = 59.9
    assert watched.guard.run_once() < 0.2  # the next look is when it ends
    watched.clock.ahead = 60.0
    watched.guard.run_once()
    assert sorted(watched.daemon.killed) == ["failing", "mine"]
    assert watched.notes.marked() == {"failing", "mine"}


def test_what_starts_later_is_killed_too(watched: Watched) -> None:
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    watched.daemon.running = {"late": labels()}
    watched.guard.run_once()
    assert watched.daemon.killed == ["late"]


def test_parked_or_of_another_boot_or_without_a_note_nothing_is_killed(watched: Watched) -> None:
    watched.daemon.running = {"mine": labels()}
    watched.clock.ahead = 1e6
    watched.guard.run_once()
    note = replace(watched.note(), renewed_at=0.0)
    for harmless in (replace(note, parked=True), replace(note, boot_id="before")):
        watched.notes.write(harmless)
        watched.guard.run_once()
        assert not watched.guard.guarding
    assert watched.daemon.lists == 0
    watched.notes.write(note)
    assert watched.guard.guarding
    watched.guard.run_once()
    assert watched.daemon.killed == ["mine"]


def test_pipe_and_file_stand_in_for_each_other(watched: Watched) -> None:
    """A disk that is full keeps the file old; a watchdog that was stopped has missed what came by the pipe."""
    watched.daemon.running = {"mine": labels()}
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.hear(watched.note())
    watched.guard.run_once()
    watched.clock.ahead = 122.0
    watched.notes.write(watched.note())
    watched.guard.run_once()
    assert watched.daemon.killed == []
    watched.clock.ahead = 182.0
    watched.guard.run_once()
    assert watched.daemon.killed == ["mine"]


def test_notes_of_another_agent_do_not_count(watched: Watched) -> None:
    """The data folder's name was given away: its successor has not been welcomed yet."""
    watched.guard.hear(watched.note())
    assert watched.guard.guarding
    watched.guard.hear(replace(watched.ward, agent_id="b"))
    assert not watched.guard.guarding


def test_engine_that_does_not_answer_is_asked_again(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    watched.daemon.running = {"mine": labels()}
    watched.daemon.broken = True
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    for _ in range(3):
        watched.guard.run_once()
    assert watched.daemon.killed == []
    watched.daemon.broken = False
    watched.guard.run_once()
    assert watched.daemon.killed == ["mine"]
    events = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert events == [
        "lease_lost",
        "engine_does_not_answer_watchdog",  # once
        "engine_answers_watchdog",
        "killed_by_watchdog",
    ]


def test_what_was_killed_is_told_with_its_names(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    trace = "ab" * 16
    watched.daemon.running = {"mine": labels(trace=f"00-{trace}-{'c' * 16}-01")}
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    watched.notes.write(watched.note())
    watched.guard.run_once()
    lost, killed, back = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (lost["event"], killed["event"], back["event"]) == ("lease_lost", "killed_by_watchdog", "lease_is_back")
    assert {one["agent"] for one in (lost, killed, back)} == {"a"}
    names = ("task", "job", "execution", "epoch", "trace_id", "container")
    assert [killed[name] for name in names] == ["t", "j", "e", "1", trace, "mine"]


def test_names_of_a_container() -> None:
    ward = Ward(farm="f", agent_id="a", engine="", tls=None, lease="", console=False)
    assert names_of({}, ward) == {"agent": "a"}
    named = {"agent": "a", "task": "t", "job": "j", "execution": "e", "epoch": "1"}
    assert names_of(labels(), ward) == named
    assert names_of(labels(trace="odd"), ward) == named


def test_lease_that_comes_back_while_the_engine_hangs(watched: Watched) -> None:
    watched.daemon.running = {"mine": labels()}
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.daemon.on_list = lambda: watched.notes.write(watched.note())
    watched.guard.run_once()
    assert (watched.daemon.lists, watched.daemon.killed) == (1, [])


@pytest.mark.parametrize(("status", "marked"), [(409, set()), (404, set()), (500, {"mine"})])
def test_what_had_ended_by_itself_is_not_marked(watched: Watched, status: int, marked: set[str]) -> None:
    watched.daemon.running = {"mine": labels()}
    watched.daemon.kill_status = status
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    assert watched.notes.marked() == marked
    watched.daemon.kill_status = 204
    watched.guard.run_once()
    assert watched.daemon.killed == ["mine"]


def test_marks_of_containers_that_are_gone_are_forgotten(watched: Watched) -> None:
    watched.notes.mark_ended("gone")
    watched.daemon.running = {"mine": labels()}
    watched.notes.mark_ended("mine")
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    assert watched.notes.marked() == {"mine"}


def test_a_mark_that_cannot_be_written_saves_nobody(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "lost").touch()  # no folder can be made there
    watched.daemon.running = {"mine": labels()}
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    assert watched.daemon.killed == ["mine"]


def test_many_are_killed_side_by_side(watched: Watched) -> None:
    watched.daemon.running = {f"c{number}": labels() for number in range(150)}
    watched.notes.write(watched.note())
    watched.clock.ahead = 61.0
    watched.guard.run_once()
    assert len(watched.daemon.killed) == 150


def test_engine_that_cannot_be_reached(tmp_path: Path) -> None:
    engine = Engine(replace(WARD, engine=f"unix://{tmp_path}/none"))
    with pytest.raises(NoAnswer, match="No such file"):
        engine.list()
    assert engine.kill(["a", "b"]) == {"a": 0, "b": 0}


def test_engine_behind_tls(tmp_path: Path) -> None:
    """It shows the client's certificate, and trusts no other authority than the one given."""
    cert, key = (str(tmp_path / name) for name in ("cert.pem", "key.pem"))
    openssl = require_program("openssl", "apt-get install openssl")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", "-x509", *kind, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cert)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    plain = socket.create_server(("127.0.0.1", 0))
    url = f"tcp://127.0.0.1:{plain.getsockname()[1]}"
    with closing(FakeDaemon(context.wrap_socket(plain, server_side=True))) as daemon:
        daemon.running = {"mine": labels()}
        engine = Engine(replace(WARD, engine=url, tls=(cert, cert, key)))
        assert set(engine.list()) == {"mine"}
        assert engine.kill(["mine"]) == {"mine": 204}
        with pytest.raises(NoAnswer, match="certificate"):
            Engine(replace(WARD, engine=url.replace("tcp", "https"))).list()


@pytest.mark.parametrize("change", [{"engine": "ssh://host"}, {"tls": ("/none", "/none", "/none")}])
def test_ward_that_cannot_be_guarded_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    guard = Guard(Speaker(), FakeAgentClock())
    guard.hear(replace(WARD, **change))  # type: ignore[arg-type]
    assert json.loads(capfd.readouterr().err)["event"] == "watchdog_without_engine"
    guard.hear(NOTE)
    guard.run_once()


def test_lines_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker()
    speaker.console = True
    speaker.say("error", "agent_ended", how="was killed by SIGKILL", again_in=0.1)
    told = capfd.readouterr().err
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} \[error  \] agent_ended          how=was killed by SIGKILL again_in=0\.1\n", told
    )


def test_it_is_small() -> None:
    """What it imports is what it costs: nothing of what an agent is made of."""
    program = (
        "import sys, easyq_runner.watchdog.runner\n"
        "heavy = {'grpc', 'google', 'aiohttp', 'asyncio', 'pydantic', 'docker', 'structlog', 'ssl', 'http', 'email'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


# ---------------------------------------------------------------------------------------------------- beside the agent
async def test_what_the_watchdog_has_ended_is_lost_not_failed(rig: Rig) -> None:
    """An agent that wakes finds an exit code 137 that is nobody's fault: it must not use up the user's retries."""
    await rig.ready()
    one, other = rig.run("sleep 60"), rig.run("sleep 60")
    for each in (one, other):
        await rig.farm.is_running(each)
    rig.notes.ended.add(rig.engine.container_of(one.execution_id).container_id)
    for each in (one, other):
        await rig.engine.kill(rig.engine.container_of(each.execution_id).container_id, "SIGKILL")
    for each in (one, other):
        await rig.farm.ended(each)
    assert (one.outcome, one.finish.failure.reason, one.finish.HasField("exit_code")) == ("LOST", 11, False)
    assert (other.outcome, other.finish.exit_code) == ("EXITED", 137)


async def test_what_the_watchdog_ended_while_the_agent_was_dead_is_lost(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    container = rig.engine.container_of(one.execution_id).container_id
    await rig.crash()
    rig.notes.ended.add(container)
    await rig.engine.kill(container, "SIGKILL")
    await rig.start()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 11)


async def test_a_hello_ends_the_park(rig: Rig) -> None:
    """The farm may have heard a hello whose answer got lost: from then on it counts silence, and so must we."""
    await rig.ready()
    await rig.agent.stop(5.0)
    assert rig.notes.note is not None
    assert rig.notes.note.parked
    rig.link.farm = None
    before = rig.clock.boot()
    await rig.start()
    await rig.until(lambda: rig.notes.note is not None and not rig.notes.note.parked)
    assert rig.notes.note.renewed_at >= before
    assert rig.notes.note.lost_after == rig.farm.lost_after
