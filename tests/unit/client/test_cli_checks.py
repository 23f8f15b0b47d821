"""What `easyq doctor` makes of what it finds, and the backlog of `submit_many`."""

import pytest

from easyq.backlog import Backlog, to_item
from easyq.cli.checks import Disk, of_disk, of_port, of_status, of_versions
from easyq.cli.logs import last_lines
from easyq.cli.probe import Kind, Sight
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


@pytest.mark.parametrize(("behind", "state"), [(0, "ok"), (-10, "ok"), (3, "warn"), (-100, "warn")])
def test_clocks(behind: int, state: str) -> None:
    agent = Agent(agent_id="h", state=Agent.LIVE, healthy=True)
    agent.last_beat_at.FromSeconds(int(NOW) + behind)
    [clock] = [one for one in of_status(Status(agents=[agent]), NOW) if one.name == "clock"]
    assert clock.state == state


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


# ----------------------------------------------------------------------------------------------------------------- tail


def chunk(data: bytes, stream: LogStream.Name.ValueType = LogStream.STDOUT, execution: str = "e") -> LogChunk:
    return LogChunk(execution_id=execution, stream=stream, data=data)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", [b"1\n2\n3\n", b"1\n2\n3", b"\n\n\n", b"", b"one", b"a\r\nb\xff\n\x00"])
def test_the_last_lines(text: bytes, size: int) -> None:
    lines = text.splitlines(keepends=True) if b"\r" not in text else [b"a\r\n", b"b\xff\n", b"\x00"]
    for count in range(5):
        pieces = [chunk(text[at : at + size]) for at in range(0, len(text), size)]
        kept = b"".join(one.data for one in last_lines(pieces, count))
        assert kept == b"".join(lines[-count:] if count else []), (count, size)


def test_the_last_lines_of_each_stream_and_execution() -> None:
    pieces = [chunk(b"1\n2\n"), chunk(b"e\nf\n", LogStream.STDERR), chunk(b"3\n"), chunk(b"4\n5\n", execution="f")]
    assert [one.data for one in last_lines(pieces, 1)] == [b"3\n", b"f\n", b"5\n"]


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
