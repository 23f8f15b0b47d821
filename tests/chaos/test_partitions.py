"""Agents that only part of the farm can hear, or that hear only part of it, or whose peers vanish without a word.

Three agents are cut off side by side, each in another direction; a spare one is there for what runs again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.links import LinkedFarm, Links, Place
from tests.e2e.fires import ms
from tests.support.farm import DockerObserver, Program, Witness, counted
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

# Seconds. An agent that is silent for LEASE is given nothing, and after LOST_AFTER it is given up.
LEASE, LOST_AFTER, MARGIN = 2, 4, 1
# For what is awaited: that it comes at all, on a machine that is busy.
PATIENCE = 40
DIRECTIONS = ("up", "down", "both")
SPARE = "spare"
# More than may travel with a finish: it must have come by the agent's own link to the store.
LOG = 200_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def hosts(dockerd: DockerFactory) -> list[DockerHost]:
    """Not those of other farms of this run: an agent takes the containers of its farm's name for its own."""
    return [dockerd("split-a"), dockerd("split-b")]


@pytest.fixture(scope="module")
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


@pytest.fixture(scope="module")
def cut_farm(hosts: list[DockerHost], links: Links, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedFarm]:
    """Four agents of two slots; the spare one joins the pools of all others, and is cordoned until it is needed."""
    data = tmp_path_factory.mktemp("store")
    places = [Place(label=name, url=hosts[0].url, pools=name) for name in DIRECTIONS]
    places.append(Place(label=SPARE, url=hosts[1].url, pools=",".join(DIRECTIONS)))
    with RedisServer(redis_binary()) as redis:
        farm = LinkedFarm(
            places,
            links=links,
            redis=redis.url,
            store={"database": f"sqlite:///{data}/easyq.db", "lost_margin": f"{MARGIN}", "lost_interval": "0.2"},
            slots=6,
            settings={
                "dispatcher": {
                    "lost_after": f"{LOST_AFTER}s",
                    "lease": f"{LEASE}",
                    "beat_every": "0.5",
                    "pools": "\n".join(f"{name}={name}-.*" for name in DIRECTIONS),
                },
            },
        )
        for label in DIRECTIONS:
            farm.agent(label).settings["slots"] = "2"
        with farm:
            yield farm


@pytest.fixture
def farm(cut_farm: LinkedFarm) -> LinkedFarm:
    """Whole, with the spare agent out of the way."""
    cut_farm.links.heal(reset=True)
    for service in cut_farm.services:
        service.start()
    for label in (*DIRECTIONS, SPARE):
        wait_until(lambda label=label: is_live(cut_farm, label), PATIENCE, message=f"agent {label} is there")  # type: ignore[misc]
    cut_farm.rest.post(f"/agents/agent-{SPARE}/cordon")
    return cut_farm


def is_live(farm: LinkedFarm, label: str) -> bool:
    answer = farm.rest.call("GET", f"/agents/agent-{label}")
    return answer.status == 200 and answer.json()["state"] == "LIVE"


@pytest.fixture
def observer(hosts: list[DockerHost]) -> Iterator[DockerObserver]:
    with DockerObserver(hosts) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Posted:
    """A job of one direction's agent, and what it runs."""

    direction: str
    job_id: str
    program: Program
    farm: LinkedFarm

    @property
    def now(self) -> dict[str, Any]:
        job: dict[str, Any] = self.farm.rest.job(self.job_id)
        return job

    @property
    def first(self) -> dict[str, Any]:
        execution: dict[str, Any] = self.now["executions"][0]
        return execution

    @property
    def waiting_for(self) -> str:
        return str((self.now["waiting"] or {}).get("reason", ""))

    def check_output(self, execution: dict[str, Any]) -> None:
        found = self.farm.rest.output(self.job_id, "stdout", execution["executionId"])
        assert found == self.program.stdout, (self.direction, len(found), len(self.program.stdout))
        assert execution["logsComplete"], (self.direction, execution)


class Poster:
    """Posts programs with witnesses of their own below `folder`."""

    def __init__(self, farm: LinkedFarm, folder: Path, task: str) -> None:
        self._farm = farm
        self._task = task
        self.witness = Witness(folder / task)

    def post(self, direction: str, script: str, stdout: bytes = b"") -> Posted:
        program = Program(
            script=f"{Witness.START}; {script}; {Witness.END}",
            stdout=stdout,
            witness=self.witness,
            more={"stopGrace": "0s"},
        )
        job = self._farm.rest.enqueue(f"{direction}-{self._task}", program.spec)
        return Posted(direction=direction, job_id=job["jobId"], program=program, farm=self._farm)

    def allow(self, name: str) -> None:
        """Lets scripts go on that wait for a file of this name."""
        (self.witness.folder / name).touch()

    def fences(self) -> dict[str, int]:
        """What each execution's container was told."""
        lines = [line.split() for line in self.witness.trace.read_text(encoding="ascii").splitlines()]
        return {line[1]: int(line[2]) for line in lines if line[0] == "start"}


@pytest.fixture
def poster(farm: LinkedFarm, task: str) -> Poster:
    return Poster(farm, farm.mounts, task)


def until(name: str) -> str:
    """Shell that waits for a file of the witness's folder."""
    return f"until [ -e /witness/{name} ]; do sleep 0.1; done"


def on_first_run(script: str) -> str:
    return f'if [ "$EASYQ_FENCE" = 1 ]; then {script}; fi'


def numbers(size: int, start: int = 0) -> str:
    """Shell that writes what `counted(size, start)` gives; whole lines."""
    return f"seq {1_000_000 + start} {1_000_000 + start + size // 8 - 1}"


def wait_running(jobs: list[Posted]) -> None:
    for job in jobs:
        wait_until(lambda job=job: job.now["state"] == "RUNNING" and job.first["startedAt"], PATIENCE)  # type: ignore[misc]


def died(observer: DockerObserver, execution: str) -> int:
    """When the execution's container ended, ns."""
    found = wait_until(
        lambda: [one for one in observer.events("die") if one.execution_id == execution],
        PATIENCE,
        message=f"the container of {execution} ends",
    )
    return found[0].nanoseconds


def cut(farm: LinkedFarm, direction: str, link: str) -> None:
    for name in farm.ways(direction) if link == "dispatcher" else [f"{direction}-store"]:
        farm.links.cut(name, direction)


def left(farm: LinkedFarm, label: str) -> int:
    """How often the agent has left a dispatcher, and a dispatcher the agent; the smaller of both."""
    by_agent = farm.agent(label).log.count('"event":"link_broken"')
    told = [json.loads(line) for one in farm.dispatchers for line in one.log.splitlines() if '"agent_gone"' in line]
    gone = [line for line in told if line["agent"] == f"agent-{label}"]
    return min(by_agent, len(gone))


def test_no_rerun_while_the_first_runs_whichever_direction_to_the_dispatcher_is_cut(
    farm: LinkedFarm, hosts: list[DockerHost], poster: Poster, observer: DockerObserver
) -> None:
    """hashicorp/nomad#4979, #16515: re-run after a partition although the first still runs."""
    # Two run on each agent: one that would never end, and one that comes to its end while nobody hears of it.
    endless = [poster.post(one, f"{on_first_run(until('never'))}; {numbers(LOG)}", counted(LOG)) for one in DIRECTIONS]
    late = [poster.post(one, f"{on_first_run(until('late'))}; {numbers(800)}", counted(800)) for one in DIRECTIONS]
    wait_running(running := [*endless, *late])
    waiting = [poster.post(one, numbers(800), counted(800)) for one in DIRECTIONS]
    for job in waiting:
        wait_until(lambda job=job: job.waiting_for == "NO_FREE_SLOT", PATIENCE)  # type: ignore[misc]
    sessions = {one: farm.shown(one)["session"] for one in DIRECTIONS}
    found = {one: left(farm, one) for one in DIRECTIONS}

    for one in DIRECTIONS:
        cut(farm, one, "dispatcher")
    # Both ends find it within the lease, long before anything is given up.
    for one in DIRECTIONS:
        wait_until(lambda one=one: left(farm, one) > found[one], PATIENCE, message=f"{one}: both ends have let go")  # type: ignore[misc]
    assert {job.first["state"] for job in running} == {"RUNNING"}
    poster.allow("late")
    for job in late:
        died(observer, job.first["executionId"])
    # Given up: there is only an agent that takes nothing.
    for job in waiting:
        wait_until(lambda job=job: job.waiting_for == "CORDONED", PATIENCE)  # type: ignore[misc]
    assert {one: farm.shown(one)["state"] for one in DIRECTIONS} == dict.fromkeys(DIRECTIONS, "DEAD")
    farm.rest.call("DELETE", f"/agents/agent-{SPARE}/cordon")
    ended = farm.rest.wait_all([job.job_id for job in [*running, *waiting]], PATIENCE)
    assert {job["state"] for job in ended} == {"SUCCEEDED"}

    # The first run's container was dead before the store gave it up, and that was before the next one began.
    fences = poster.fences()
    for job in running:
        first, second = job.now["executions"]
        assert (first["state"], first["error"]["reason"], first["host"]) == (
            "LOST",
            "HOST_LOST",
            f"agent-{job.direction}",
        )
        assert (second["trigger"], second["host"]) == ("INFRA_RETRY", f"agent-{SPARE}")
        assert died(observer, first["executionId"]) / 1e6 <= ms(first["finishedAt"]), job.direction
        [began] = [e.nanoseconds for e in observer.events("start") if e.execution_id == second["executionId"]]
        assert died(observer, first["executionId"]) < began, job.direction
        assert fences[first["executionId"]] < fences[second["executionId"]]
        job.check_output(second)
    for job in waiting:
        [only] = job.now["executions"]
        job.check_output(only)
    before = {job.job_id: job.now["lastModifiedAt"] for job in running}

    # What was held back arrives all at once, and changes nothing.
    farm.links.heal()
    for one in DIRECTIONS:
        wait_until(
            lambda one=one: (shown := farm.shown(one))["state"] == "LIVE" and shown["session"] != sessions[one],  # type: ignore[misc]
            PATIENCE,
            message=f"the agent with {one} cut is back",
        )
    for job in running:
        label = f"easyq.execution={job.first['executionId']}"
        wait_until(lambda label=label: not any(host.containers(label=label) for host in hosts), PATIENCE)  # type: ignore[misc]
    assert {job.job_id: job.now["lastModifiedAt"] for job in running} == before
    assert [[e["state"] for e in job.now["executions"]] for job in running] == [["LOST", "SUCCEEDED"]] * len(running)
    poster.witness.assert_none_twice()


def test_an_agent_without_the_store_works_on_and_is_not_lost_whichever_direction_is_cut(
    farm: LinkedFarm, poster: Poster, observer: DockerObserver
) -> None:
    """It beats by its dispatcher: nothing is given up, and what was written comes late and whole."""
    script = f"{numbers(LOG)}; {until('go')}; {numbers(LOG, LOG // 8)}"
    long = [poster.post(one, script, counted(2 * LOG)) for one in DIRECTIONS]
    for job in long:
        wait_until(lambda job=job: farm.rest.output(job.job_id, "stdout") == counted(LOG), PATIENCE)  # type: ignore[misc]
    before = {one: farm.shown(one) for one in DIRECTIONS}

    for one in DIRECTIONS:
        cut(farm, one, "store")
    # What has nothing to write needs no store.
    quiet = [poster.post(one, "true") for one in DIRECTIONS]
    assert {job["state"] for job in farm.rest.wait_all([job.job_id for job in quiet], PATIENCE)} == {"SUCCEEDED"}
    poster.allow("go")
    for job in long:
        died(observer, job.first["executionId"])
    # For longer than after silence of the agent itself.
    for one in DIRECTIONS:
        until_ms = ms(before[one]["lastBeatAt"]) + 1000 * (LOST_AFTER + MARGIN + 2)
        wait_until(lambda one=one, at=until_ms: ms(farm.shown(one)["lastBeatAt"]) > at, PATIENCE)  # type: ignore[misc]
    assert [(job.now["executionCount"], job.first["state"]) for job in long] == [(1, "RUNNING")] * len(long)

    farm.links.heal()
    ended = farm.rest.wait_all([job.job_id for job in long], PATIENCE)
    assert {(job["state"], job["executionCount"]) for job in ended} == {("SUCCEEDED", 1)}
    for job in long:
        job.check_output(job.first)
    # None of them came and went meanwhile.
    assert {one: farm.shown(one)["session"] for one in DIRECTIONS} == {one: before[one]["session"] for one in before}
    poster.witness.assert_none_twice()


def test_a_peer_that_vanishes_without_a_word_is_left_for_another(farm: LinkedFarm, poster: Poster) -> None:
    """Half-open connections: of one agent to its dispatcher, which takes new ones and never answers; of another one to
    the store, which only the old connection does not reach."""
    script = f"{numbers(LOG)}; {until('go')}; {numbers(LOG, LOG // 8)}"
    alone, stranded = (poster.post(one, script, counted(2 * LOG)) for one in ("up", "down"))
    for job in (alone, stranded):
        wait_until(lambda job=job: farm.rest.output(job.job_id, "stdout") == counted(LOG), PATIENCE)  # type: ignore[misc]
    before = {one: farm.shown(one)["session"] for one in ("up", "down")}

    farm.links.strand("down-store")
    number = dispatcher_of(farm, "up")
    farm.links.cut(farm.ways("up")[number], "both")
    farm.dispatchers[number].kill()
    wait_until(lambda: farm.shown("up")["session"] != before["up"], PATIENCE, message="it has gone to the other one")
    assert dispatcher_of(farm, "up") != number
    assert (alone.now["executionCount"], alone.first["state"]) == (1, "RUNNING")
    poster.allow("go")
    # By the way that is left, before anything heals.
    ended = farm.rest.wait_all([alone.job_id, stranded.job_id], PATIENCE)
    assert {(job["state"], job["executionCount"]) for job in ended} == {("SUCCEEDED", 1)}
    for job in (alone, stranded):
        job.check_output(job.first)
    for one in ("up", "down"):
        assert "cut_off_from_farm" not in farm.agent(one).log.rpartition('"welcomed"')[2]
    poster.witness.assert_none_twice()


def dispatcher_of(farm: LinkedFarm, label: str) -> int:
    """The number of the one that has welcomed the agent last."""
    told = [line for line in farm.agent(label).log.splitlines() if '"event":"welcomed"' in line][-1]
    address = json.loads(told)["dispatcher"]
    ways = zip(farm.ways(label), farm.dispatchers, strict=True)
    return [farm.links.between(way, one.address) for way, one in ways].index(address)
