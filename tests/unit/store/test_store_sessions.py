"""Sessions, silence, and the clock."""

from dataclasses import dataclass, replace

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.clock import StoreClock
from easyq_store.domain.lost import LostWatch, Silent, declare_dead
from easyq_store.domain.records import Agent
from easyq_store.domain.sessions import Beat, Hello, beat, first_session, how_it_stands, next_session, park
from easyq_store.domain.states import AgentState
from tests.support.store_records import T0, agent

HELLO = Hello(agent_id="host-a", daemon_id="daemon-of-host-a", pools=("default",), slots=4)


def test_a_first_session() -> None:
    assert first_session(HELLO, now=T0) == agent()


def test_the_next_session_begins_anew() -> None:
    before = agent(session=4, beats=9, state=AgentState.DEAD, message="silent", healthy=False, write_no=17)
    after = next_session(before, replace(HELLO, slots=8), now=T0 + 5)
    assert after == agent(session=5, slots=8, connected_at=T0 + 5, last_beat_at=T0 + 5, write_no=17)


def test_an_agents_name_is_bound_to_its_daemon() -> None:
    with pytest.raises(FailedPrecondition, match="bound to the Docker Engine daemon-of-host-a, not to other"):
        next_session(agent(), replace(HELLO, daemon_id="other"), now=T0)
    unknown = next_session(agent(), replace(HELLO, daemon_id=""), now=T0)
    assert unknown.daemon_id == "daemon-of-host-a"
    assert next_session(agent(daemon_id=""), HELLO, now=T0).daemon_id == "daemon-of-host-a"


def test_beats() -> None:
    told = Beat(agent_id="host-a", session=1, healthy=False, message="no engine", slots=2)
    after = beat(agent(), told, now=T0 + 5)
    sick = agent(beats=1, last_beat_at=T0 + 5, healthy=False, message="no engine", slots=2)
    assert after == replace(sick, unhealthy_since=T0 + 5)
    kept = beat(agent(), replace(told, slots=0), now=T0)
    assert kept is not None
    assert kept.slots == 4
    assert beat(agent(session=2), told, now=T0) is None
    assert beat(agent(state=AgentState.PARKED), told, now=T0) is None
    assert beat(agent(state=AgentState.DEAD), told, now=T0) is None


def test_parking() -> None:
    assert park(agent(), 1) == agent(state=AgentState.PARKED)
    other, dead = agent(session=2), agent(state=AgentState.DEAD)
    assert park(other, 1) is other
    assert park(dead, 1) is dead


def test_silence_counts_from_the_last_change_that_was_seen() -> None:
    watch = LostWatch(margin=5.0)
    silent = Silent(agent_id="host-a", session=1, beats=0)
    assert watch.observe([agent()], 1000.0) == []
    assert watch.observe([agent()], 1125.0) == []
    assert watch.observe([agent()], 1125.1) == [silent]
    assert watch.observe([agent(beats=1)], 1126.0) == []
    assert watch.observe([agent(beats=1)], 1251.0) == []
    assert watch.observe([agent(session=2, beats=1)], 1300.0) == []
    assert watch.observe([agent(session=2, beats=1)], 1425.0) == []
    assert watch.observe([agent(session=2, beats=1)], 1426.0) != []


def test_what_an_agent_said_last_is_not_repeated_once_it_has_ended() -> None:
    drains = agent(healthy=False, message="draining", drained_at=T0)
    assert how_it_stands(drains) == (False, "draining")
    healthy, message = how_it_stands(park(drains, 1))
    assert (healthy, "drained: its agent has ended; uncordon it" in message) == (False, True)
    # As it is after `uncordon`.
    healthy, message = how_it_stands(replace(park(drains, 1), drained_at=None))
    assert (healthy, message) == (False, "its agent has ended; start the agent again to have it back")
    gone = agent(state=AgentState.DEAD, healthy=False, message="silent for too long")
    assert how_it_stands(gone) == (False, "silent for too long")


@pytest.mark.parametrize("state", [AgentState.PARKED, AgentState.DEAD])
def test_parked_and_dead_sessions_are_never_lost(state: AgentState) -> None:
    watch = LostWatch(margin=0.0)
    watch.observe([agent(state=state)], 0.0)
    assert watch.observe([agent(state=state)], 10_000.0) == []
    assert watch.observe([agent()], 10_000.0) == []  # back: its time begins anew


def test_a_store_that_has_just_started_gives_everyone_the_full_time() -> None:
    assert LostWatch(margin=5.0).observe([agent(last_beat_at=0)], 99_999.0) == []


def test_only_who_did_not_beat_meanwhile_is_declared_dead() -> None:
    silent = Silent(agent_id="host-a", session=1, beats=3)
    dead = declare_dead(agent(beats=3), silent)
    assert (dead.state, dead.healthy) == (AgentState.DEAD, False)
    for other in (agent(beats=4), agent(session=2, beats=3), agent(beats=3, state=AgentState.PARKED)):
        assert declare_dead(other, silent) is other


@dataclass
class Machine:
    """A machine whose clocks stand still until they are moved."""

    wall: int = T0
    steady: float = 50.0

    def now_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        self.wall += int(seconds * 1000)
        self.steady += seconds


def test_the_clock_goes_with_the_machines() -> None:
    machine = Machine()
    clock = StoreClock(machine)
    machine.pass_(1.5)
    assert (clock.now(), clock.behind_ms(), clock.monotonic()) == (T0 + 1500, 0, 51.5)
    machine.wall += 3_600_000
    assert clock.now() == T0 + 1500 + 3_600_000


def test_the_clock_never_runs_backwards_and_never_stands_still() -> None:
    machine = Machine()
    clock = StoreClock(machine)
    machine.wall -= 3_600_000
    assert clock.now() == T0
    machine.pass_(2)
    assert clock.now() == T0 + 2000
    assert clock.behind_ms() == 3_600_000


@dataclass
class Interrupted(Machine):
    """One on which something else has its turn after each look: for so many seconds."""

    turn: float = 0.0

    def now_ms(self) -> int:
        told = super().now_ms()
        self.pass_(self.turn)
        return told

    def monotonic(self) -> float:
        told = super().monotonic()
        self.pass_(self.turn)
        return told


def test_a_look_that_is_interrupted_puts_the_clock_ahead_of_no_later_one() -> None:
    machine = Interrupted()
    clock = StoreClock(machine)
    told = []
    for turn in (0.0, 0.5, 0.0, 0.0, 2.0, 0.0):
        machine.pass_(0.01)
        machine.turn = turn
        told.append(clock.now())
        machine.turn = 0.0
        assert told[-1] <= machine.wall
        assert clock.behind_ms() == 0
    assert told == sorted(told)


def test_the_clock_goes_on_from_the_mark() -> None:
    machine = Machine()
    clock = StoreClock(machine, mark=T0 + 10_000)
    machine.pass_(1)
    assert clock.now() == T0 + 11_000
    clock.raise_to(T0 + 20_000)
    clock.raise_to(T0 + 15_000)
    machine.pass_(1)
    assert clock.now() == T0 + 21_000


def test_an_agent_that_comes_unwell_is_known_to_be_at_once_and_since_when() -> None:
    sick = replace(HELLO, healthy=False, message="no Docker", unhealthy_ms=3)
    first = first_session(sick, now=T0)
    assert (first.healthy, first.message, first.unhealthy_since) == (False, "no Docker", T0 - 3)
    # It has been so all the time, unless it was dead between.
    assert next_session(first, sick, now=T0 + 9).unhealthy_since == T0 - 3
    assert next_session(replace(first, state=AgentState.DEAD), sick, now=T0 + 9).unhealthy_since == T0 + 6
    well = next_session(first, HELLO, now=T0 + 9)
    assert (well.healthy, well.message, well.unhealthy_since) == (True, "", None)
    assert next_session(well, sick, now=T0 + 20).unhealthy_since == T0 + 17


def test_beats_tell_since_when_an_agent_is_unwell() -> None:
    def told(before: Agent, *, healthy: bool, now: int) -> Agent:
        word = Beat(agent_id=before.agent_id, session=before.session, healthy=healthy)
        after = beat(before, word, now=now)
        assert after is not None
        return after

    sick = told(agent(), healthy=False, now=T0 + 1)
    assert sick.unhealthy_since == T0 + 1
    assert told(sick, healthy=False, now=T0 + 2).unhealthy_since == T0 + 1
    assert told(sick, healthy=True, now=T0 + 3).unhealthy_since is None
