"""What `easyq doctor` makes of what it finds, times before lines, and the backlog of `submit_many`."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.backlog import Backlog, to_item
from easyq.cli.checks import Disk, of_disk, of_port, of_status, of_versions
from easyq.cli.logs import Stamps
from easyq.cli.probe import Kind, Sight
from easyq.cli.status_views import status_view
from easyq.cli.table import Screen
from easyq.errors import EasyQError, NotFound
from easyq.v1.farm_service_pb2 import Agent, Breaker, Problem, Status
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
    status.breakers.append(Breaker(kind=Breaker.IMAGE, subject="i", failures=3, cause="gone"))
    found = {one.name: one for one in of_status(status, NOW)}
    assert {name: one.state for name, one in found.items()} == {
        "server": "fail",
        "dispatcher": "fail",
        "redis": "warn",
        "hosts": "fail",
        "agents": "warn",
        "breaker": "warn",
        "clock": "skip",
    }
    assert all(one.todo for one in found.values() if one.state in {"warn", "fail"})
    assert found["dispatcher"].todo == "The dispatcher at d can't: see its log."


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
    found = {one.name: one for one in of_status(status, NOW)}
    assert {name: one.state for name, one in found.items()} == {
        "server": "fail",
        "store": "fail",
        "hosts": "ok",
        "clock": "skip",
    }
    status.agents[0].state = Agent.DEAD
    hosts = next(one for one in of_status(status, NOW) if one.name == "hosts")
    assert (hosts.state, "the store's problem first" in hosts.todo) == ("warn", True)


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
