"""What `easyq doctor` makes of what it finds, times before lines, and the backlog of `submit_many`."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.backlog import Backlog, to_item
from easyq.cli.checks import Disk, needs_engine, of_disk, of_hanging, of_port, of_status, of_versions
from easyq.cli.listeners import Listener
from easyq.cli.logs import Stamps
from easyq.cli.probe import Kind, Sight
from easyq.cli.status_views import status_view
from easyq.cli.table import Screen
from easyq.errors import EasyQError, NotFound
from easyq.v1.farm_service_pb2 import Agent, Problem, Status
from easyq.v1.job_service_pb2 import BatchResult, CreateJobResponse, ErrorBody
from easyq.v1.log_service_pb2 import LogChunk, LogStream
from easyq.v1.spec_pb2 import JobSpec

GIB = 1024**3
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [(50 * GIB, 100 * GIB, "ok"), (4 * GIB, 100 * GIB, "warn"), (GIB, 10 * GIB, "warn"), (GIB // 10, 10 * GIB, "fail")],
)
def test_disks(free: int, total: int, state: str) -> None:
    found = of_disk(Disk(what="data", path="/data", free=free, total=total))
    assert found.state == state
    assert (found.todo == "") == (state == "ok")


def test_ports() -> None:
    assert of_port(10000, "rest", taken=False, by_easyq=False).state == "ok"
    assert of_port(10000, "rest", taken=True, by_easyq=True).state == "ok"
    taken = of_port(10000, "rest", taken=True, by_easyq=False)
    assert (taken.state, "easyq up --rest-port N" in taken.todo) == ("warn", True)


def test_a_farm_that_accepts_and_runs_nothing() -> None:
    status = Status(version="1", accepting=True)
    status.services.add(name="dispatcher", address="d", message="no Redis")
    status.problems.append(Problem(subject="dispatcher", message="The dispatcher at d can't: see its log."))
    status.problems.append(Problem(subject="agents", message="No agent is connected: start one"))
    found = {one.name: one for one in of_status(status, NOW)}
    assert {name: one.state for name, one in found.items()} == {
        "server": "fail",
        "dispatcher": "fail",
        "redis": "warn",
        "hosts": "fail",
        "agents": "warn",
        "clock": "skip",
    }
    assert all(one.todo for one in found.values() if one.state in {"warn", "fail"})
    assert (found["dispatcher"].message, found["dispatcher"].todo) == ("The dispatcher at d can't", "see its log.")


def test_operations_ports() -> None:
    status = Status(version="1", accepting=True, running=True)
    add = status.operations.add
    add(service="gateway", instance="g", address="127.0.0.1:1", alive=True, ready=True)
    add(service="store", instance="s", address="127.0.0.1:2", alive=True, ready=True, why="the rules file is wrong")
    add(service="dispatcher", instance="d", why="no answer within 3 s")
    add(service="runner", instance="host-1", alive=True, ready=False, why="no engine")
    found = [(one.state, one.message) for one in of_status(status, NOW) if one.name == "operations"]
    assert found == [
        ("ok", "gateway: 127.0.0.1:1, alive, ready"),
        ("warn", "store: 127.0.0.1:2, alive, ready: the rules file is wrong"),
        ("warn", "dispatcher: its operations port is not known, not alive, not ready: no answer within 3 s"),
        ("warn", "host-1: no operations port, alive, not ready: no engine"),
    ]
    lines = status_view(status).lines(Screen(columns=None))
    assert lines[2].split() == ["SERVICE", "INSTANCE", "OPERATIONS", "PORT", "ALIVE", "READY", "WHY"]
    assert [line.split(maxsplit=5) for line in lines[3:]] == [
        ["gateway", "g", "127.0.0.1:1", "yes", "yes"],
        ["store", "s", "127.0.0.1:2", "yes", "degraded", "the rules file is wrong"],
        ["dispatcher", "d", "-", "no", "no", "no answer within 3 s"],
        ["runner", "host-1", "-", "yes", "no", "no engine"],
    ]


def test_status_says_how_it_is_and_what_is_in_the_way() -> None:
    status = Status(version="1")
    assert status_view(status).lines(Screen(columns=None)) == ["EasyQ 1 refuses jobs:"]
    status.accepting = True
    status.problems.add(subject="agents", message="No agent is connected: start one")
    assert status_view(status).lines(Screen(columns=None)) == [
        "EasyQ 1 accepts jobs, but nothing would run them:",
        "  No agent is connected: start one",
    ]
    status.running = True
    status.ClearField("problems")
    assert status_view(status).lines(Screen(columns=None)) == ["EasyQ 1 accepts jobs, and would run them"]


def test_since_when_something_is_wrong() -> None:
    status = Status()
    status.problems.add(subject="h", message="Agent h takes no new work: why").since.FromSeconds(int(NOW) - 5)
    [found] = [one for one in of_status(status, NOW) if one.name == "h"]
    assert found.message.startswith("Agent h takes no new work (since ")
    assert found.message.endswith("Z, 5s ago)")
    assert found.todo == "why"


@pytest.mark.parametrize(("behind", "state"), [(0, "ok"), (-10, "ok"), (3, "warn"), (-100, "warn")])
def test_clocks(behind: int, state: str) -> None:
    agent = Agent(agent_id="h", state=Agent.LIVE, healthy=True)
    agent.last_beat_at.FromSeconds(int(NOW) + behind)
    [clock] = [one for one in of_status(Status(agents=[agent]), NOW) if one.name == "clock"]
    assert clock.state == state


def test_a_store_that_keeps_no_beats_is_the_only_thing_told() -> None:
    agent = Agent(agent_id="h", state=Agent.LIVE, healthy=True, slots=1)
    agent.last_beat_at.FromSeconds(int(NOW) - 39)
    status = Status(version="1", agents=[agent])
    status.services.add(name="store", address="s", message="the disk is full")
    status.unknown.add(field="agents", why="the store keeps no beats")
    found = {one.name: one for one in of_status(status, NOW)}
    assert {name: one.state for name, one in found.items()} == {
        "server": "fail",
        "store": "fail",
        "hosts": "warn",
        "clock": "skip",
    }
    assert found["hosts"].message == "which take work can't be told now: the store keeps no beats"
    assert "the store's problem first" in found["hosts"].todo


def test_a_store_that_hangs_is_told_once_with_the_words_of_the_status() -> None:
    """Who, since when, and what to do; not what follows from it."""
    status = Status(version="1")
    status.services.add(name="store", address="unix:/s", message="no answer within 3 s")
    why = "The store at unix:/s is too busy to answer in time, or frozen (no answer within 3 s): jobs may be refused."
    status.problems.add(subject="store", message="the dispatcher can't reach the store: unix:/s: timed out")
    status.problems.add(subject="store", message=why).since.FromSeconds(int(NOW) - 60)
    status.unknown.add(field="agents", why="the store does not answer")
    stores = [one for one in of_status(status, NOW) if one.name == "store"]
    assert [one.state for one in stores] == ["fail"]
    assert stores[0].message.startswith(why.partition(": jobs")[0] + " (since ")
    assert (stores[0].message[-10:], stores[0].todo) == ("Z, 1m ago)", "jobs may be refused.")


def test_a_redis_that_is_away_is_told_once() -> None:
    status = Status(version="1", accepting=True)
    status.services.add(name="dispatcher", address="d", message="Redis: Timeout")
    status.problems.add(subject="redis", message="no job is assigned: Redis: Timeout")
    status.unknown.add(field="breakers", why="Redis can't be asked")
    found = list(of_status(status, NOW))
    assert [(one.state, one.message, one.todo) for one in found if one.name == "redis"] == [
        ("warn", "no job is assigned", "Redis: Timeout")
    ]
    assert [(one.state, one.message) for one in found if one.name == "breaker"] == [
        ("skip", "which are open can't be told now: Redis can't be asked")
    ]


def test_whether_an_engine_here_is_missed() -> None:
    here = "unix:///var/run/docker.sock"
    assert needs_engine(Status(), here)
    unknown = Status()
    unknown.unknown.add(field="agents", why="the store does not answer")
    assert not needs_engine(unknown, here)
    agent = Agent(agent_id="h", state=Agent.LIVE, message="Docker at /other.sock does not answer")
    assert not needs_engine(Status(agents=[agent]), here)
    agent.message = f"Docker at {here} does not answer"
    assert needs_engine(Status(agents=[agent]), here)


def test_an_easyq_that_hangs() -> None:
    stopped = of_hanging("a:1", "default", "process 7 (x)", 7, stopped=True, after=5)
    assert (stopped.state, stopped.todo) == ("fail", "let it go on: kill -CONT 7")
    assert "EasyQ hangs: process 7 (x) listens at a:1" in stopped.message
    assert "kill -USR2 7" in of_hanging("a:1", "default", "process 7 (x)", 7, stopped=False, after=5).todo
    assert "sudo" in of_hanging("a:1", "default", "a process of the user u", 0, stopped=False, after=5).todo


def test_which_programs_are_easyq() -> None:
    def is_easyq(*argv: str) -> bool:
        return Listener(pid=1, user="u", argv=argv).is_easyq

    assert is_easyq("/venv/bin/python", "-m", "easyq_gateway")
    assert is_easyq("python3.11", "-I", "/venv/bin/easyq", "gateway")
    assert is_easyq("easyq", "up")
    assert not is_easyq("nc", "-l", "10001")
    assert not is_easyq("/venv/bin/python", "-m", "http.server", "10000")
    assert not is_easyq()
    assert Listener(pid=0, user="root").words == "a process of the user root"
    assert Listener(pid=3, user="u", argv=("nc", "-l")).words == "process 3 (nc -l)"


def test_versions() -> None:
    old = Agent(agent_id="h", version="0.9")
    assert [one.state for one in of_versions("1", "1", [])] == ["ok"]
    assert [one.state for one in of_versions("2", "1", [])] == ["warn"]
    [found] = of_versions("1", "1", [old])
    assert "0.9 on h" in found.message


def test_what_a_look_at_an_address_tells() -> None:
    assert "its gRPC port is 10001 by default: try --server h:10001" in Sight(Kind.HTTP).words("h:10000")
    assert "10001 by default" not in Sight(Kind.HTTP).words("h:10001")
    assert Sight(Kind.OTHER).words("h:1") == ""
    assert all(Sight(kind).words("h:1") for kind in (Kind.NO_HOST, Kind.REFUSED, Kind.SILENT))


# ---------------------------------------------------------------------------------------------------------------- times


def chunk(
    data: bytes, *, at: int, stream: LogStream.Name.ValueType = LogStream.STDOUT, execution: str = "e"
) -> LogChunk:
    return LogChunk(execution_id=execution, stream=stream, data=data, at=Timestamp(seconds=at))


def test_times_before_lines() -> None:
    chunks = [
        chunk(b"a\nb", at=0),
        chunk(b"e\n", at=1, stream=LogStream.STDERR),
        chunk(b"c\n", at=2),
        chunk(b"\nd", at=3),
        chunk(b"next\n", at=4, execution="f"),
        chunk(b"f\n", at=5, stream=LogStream.STDERR),
    ]
    stamps, shown = Stamps(), {LogStream.STDOUT: b"", LogStream.STDERR: b""}
    for one in chunks:
        shown[one.stream] += stamps.put_before(one).data.replace(b"1970-01-01T00:00:0", b"").replace(b".000Z", b"s")
    assert shown[LogStream.STDOUT] == b"0s a\n0s bc\n3s \n3s d\n4s next\n"
    assert shown[LogStream.STDERR] == b"1s e\n5s f\n"


# -------------------------------------------------------------------------------------------------------------- backlog


def test_what_has_no_answer_is_sent_again_under_its_key() -> None:
    backlog = Backlog(most=3)
    for index in range(3):
        backlog.add(to_item(JobSpec(image=str(index)), task="t", key=f"k{index}"))
    assert backlog.full
    sent = [backlog.next() for _ in range(4)]
    assert [one and one.item.idempotency_key for one in sent] == ["k0", "k1", "k2", None]
    assert backlog.accept(BatchResult(job=CreateJobResponse(job_id="j"))).index == 0
    backlog.rewind()
    again = [backlog.next(), backlog.next(), backlog.next()]
    assert [one and one.item.idempotency_key for one in again] == ["k1", "k2", None]
    refused = backlog.accept(BatchResult(error=ErrorBody(code="NOT_FOUND", reason="TASK_NOT_FOUND", message="no")))
    assert (refused.index, type(refused.error), refused.job) == (1, NotFound, None)
    backlog.accept(BatchResult(job=CreateJobResponse()))
    with pytest.raises(EasyQError, match="more often"):
        backlog.accept(BatchResult())
    assert (backlog.waits, backlog.done) == (False, False)
    backlog.closed = True
    assert backlog.done
    with pytest.raises(ValueError, match="at least one"):
        Backlog(most=0)
