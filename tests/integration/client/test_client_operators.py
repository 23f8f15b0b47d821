"""What operators do, by the client and by `easyq hosts`, against a gateway on a socket."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from easyq import errors
from easyq.cli.group import root
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1.farm_service_pb2 import Agent
from easyq.v1.job_pb2 import Job
from tests.fakes.public_api import FakeGateway, fake_gateway, status


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as made:
        made.agents += [
            Agent(agent_id="host-1", state=Agent.LIVE, healthy=True, slots=4, running=2, pools=["default", "big"]),
            Agent(agent_id="host-22", state=Agent.PARKED, message="Docker Engine\ndoes not answer"),
        ]
        yield made


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[Client]:
    with Client(gateway.address) as made:
        yield made


@pytest.fixture
def job_id(client: Client) -> str:
    return client.submit(job_spec("i", cron="@daily")).job_id


# -------------------------------------------------------------------------------------------------------------- client


def test_agents(client: Client) -> None:
    assert [agent.agent_id for agent in client.agents()] == ["host-1", "host-22"]
    assert client.agent("host-1").slots == 4
    assert client.status().version == "1"
    with pytest.raises(errors.NotFound) as error:
        client.agent("host-3")
    assert error.value.reason == "AGENT_NOT_FOUND"


def test_upkeep(client: Client, gateway: FakeGateway) -> None:
    assert client.cordon("host-1").HasField("cordoned_at")
    assert not client.uncordon("host-1").HasField("cordoned_at")
    assert not client.drain("host-1").HasField("drain_deadline")
    assert client.drain("host-1", deadline="10m").drain_deadline.seconds == 1_900_000_600
    assert gateway.asked[-1].deadline.seconds == 600
    with pytest.raises(ValueError, match="is not a duration"):
        client.drain("host-1", deadline="soon")
    answer = client.declare_dead("host-1")
    assert (answer.agent.state, answer.lost) == (Agent.DEAD, 2)


def test_recurring_jobs(client: Client, gateway: FakeGateway, job_id: str) -> None:
    assert client.pause(job_id).state == Job.PAUSED
    assert client.explain(job_id).state == Job.PAUSED
    assert client.resume(job_id).state == Job.ACTIVE
    assert len(client.schedule(job_id).next_fires) == 10
    assert len(client.schedule(job_id, coming=2).next_fires) == 2
    assert (client.trigger(job_id).execution_id, client.retry(job_id).execution_id) == ("e", "e")
    assert client.delete(job_id, force=True).stopping
    assert {request.job_id for request in gateway.asked} == {job_id}
    with pytest.raises(errors.NotFound):
        client.pause("nobody")


def test_what_is_harmless_is_repeated_and_nothing_else(client: Client, gateway: FakeGateway, job_id: str) -> None:
    gateway.failures.append(status(grpc.StatusCode.UNAVAILABLE, "away", reason="UNAVAILABLE"))
    client.cordon("host-1")
    assert len(gateway.asked) == 2
    calls: list[Any] = [client.trigger, client.retry, client.delete]
    for call in calls:
        gateway.asked.clear()
        gateway.failures.append(status(grpc.StatusCode.UNAVAILABLE, "away", reason="UNAVAILABLE"))
        with pytest.raises(errors.Unavailable):
            call(job_id)
        assert len(gateway.asked) == 1


# -------------------------------------------------------------------------------------------------------- command line


def easyq(capfd: pytest.CaptureFixture[str], *arguments: str, answer: str | None = None) -> tuple[Result, str, str]:
    """`easyq hosts …`: how it ended, its stdout and its stderr."""
    outcome = CliRunner().invoke(root, ["hosts", *arguments], prog_name="easyq", input=answer)
    written = capfd.readouterr()
    return outcome, outcome.stdout + written.out, outcome.stderr + written.err


def test_a_list_of_hosts(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--server", gateway.address], ["ls", "--server", gateway.address]):
        outcome, out, _ = easyq(capfd, *arguments)
        assert outcome.exit_code == 0
        assert out.splitlines() == [
            "HOST     STATE   RUNNING  SLOTS  POOLS        REMARK",
            "host-1   LIVE          2      4  default,big",
            "host-22  PARKED        0      0  -            Docker Engine does not answer",
        ]


def test_a_list_for_programs(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = easyq(capfd, "--server", gateway.address, "--json")
    assert [agent["agentId"] for agent in json.loads(out)["items"]] == ["host-1", "host-22"]


def test_the_old_name(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["agents", "--server", gateway.address, "cordon", "host-1"]
    assert CliRunner().invoke(root, arguments, prog_name="easyq").exit_code == 0
    assert capfd.readouterr().out == "host-1 takes nothing new; it runs 2\n"


def test_commands(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["cordon", "host-1"], "host-1 takes nothing new; it runs 2"),
        (["uncordon", "host-1"], "host-1 takes new work"),
        (["drain", "host-1"], "host-1 drains; it runs 2"),
        (["drain", "host-1", "--deadline", "10m"], "host-1 drains until 2030-03-17T17:56:40Z; it runs 2"),
        (["declare-dead", "host-1", "--yes"], "host-1 is dead; 2 executions are lost"),
    ):
        outcome, out, err = easyq(capfd, "--server", gateway.address, *arguments)
        assert (outcome.exit_code, out, err) == (0, f"{said}\n", ""), arguments
    names = [type(request).__name__ for request in gateway.asked]
    drain = "DrainAgentRequest"
    assert names == ["CordonAgentRequest", "UncordonAgentRequest", drain, drain, "DeclareAgentDeadRequest"]


def test_remarks(gateway: FakeGateway, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # which would bound a pipe, too
    gateway.agents[0].cordoned_at.GetCurrentTime()
    gateway.agents[1].drained_at.GetCurrentTime()
    gateway.agents.append(Agent(agent_id="host-3", state=9, message="x" * 100))  # type: ignore[arg-type]
    _, out, _ = easyq(capfd, "--server", gateway.address)
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["cordoned", "back", "x" * 100]
    gateway.agents[0].silent_since.GetCurrentTime()
    gateway.agents[0].message = "silent since 14:30"
    _, silent, _ = easyq(capfd, "--server", gateway.address)
    row = silent.splitlines()[1]
    assert (row.split()[1], row.endswith("silent since 14:30")) == ("SILENT", True)
    assert "drained; uncordon it and start its agent to have it back" in out


def test_taking_back_a_host_whose_agent_has_ended(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    outcome, out, _ = easyq(capfd, "--server", gateway.address, "uncordon", "host-22")
    assert (outcome.exit_code, "takes new work once its agent runs again" in out, "SIGHUP" in out) == (0, True, True)


def test_a_host_is_given_up_only_after_a_yes(gateway: FakeGateway, capfd: pytest.CaptureFixture[str]) -> None:
    for answer in ("n\n", "\n", ""):
        outcome, _, err = easyq(capfd, "--server", gateway.address, "declare-dead", "host-1", answer=answer)
        assert outcome.exit_code == 1
        assert "gone for good?" in err
    assert gateway.asked == []
    outcome, _, _ = easyq(capfd, "--server", gateway.address, "declare-dead", "host-1", answer="y\n")
    assert (outcome.exit_code, len(gateway.asked)) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["cordon", "nobody"], 4, "easyq: there is no such agent"),
        (["cordon"], 2, "Missing argument 'NAME'"),
        (["cordon", "\udcff"], 2, "is not valid UTF-8"),
        (["drain", "host-1", "--deadline", "soon"], 2, "'soon' is not a duration"),
        (["frobnicate", "host-1"], 2, "No such command 'frobnicate'"),
    ],
)
def test_refusals(
    gateway: FakeGateway, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    outcome, _, err = easyq(capfd, "--server", gateway.address, *arguments)
    assert outcome.exit_code == code
    assert said in err


def test_nobody_answers(capfd: pytest.CaptureFixture[str]) -> None:
    outcome, out, err = easyq(capfd, "--server", "127.0.0.1:1")
    assert (outcome.exit_code, out) == (3, "")
    assert "can't reach EasyQ at 127.0.0.1:1" in err
    assert "`easyq up` starts an EasyQ" in err
