"""The runner's decisions: adoption, endings, outcomes, starts, leases, lifetimes, identity."""

from dataclasses import replace

import pytest

from easyq_runner.domain import lease, lifetime, starting
from easyq_runner.domain.adoption import Adoption, adopt
from easyq_runner.domain.identity import Choice, Identity, choose
from easyq_runner.domain.journal import (
    DaemonSeen,
    EndingBegun,
    ExecutionRecord,
    Finished,
    Forgotten,
    JournalState,
    SeenRunning,
    Settled,
    StartIntent,
    fold,
    unfold,
)
from easyq_runner.domain.lease import Lease, LeaseNote
from easyq_runner.domain.lifetime import MEMORY, Evidence, Trace
from easyq_runner.domain.outcome import (
    Ending,
    Snapshot,
    Status,
    away_too_long,
    choose_ending,
    classify,
    exit_words,
    is_trusted,
    start_unknown,
)
from easyq_runner.domain.records import (
    ExecutionKey,
    FailureReason,
    Finish,
    GiveBack,
    OutcomeKind,
)
from easyq_runner.domain.starting import Obstacle, Wishes, obstacle, word_for

KEY = ExecutionKey("e", 1)
FINISH = Finish(outcome=OutcomeKind.EXITED, exit_code=0)
INTENDED = ExecutionRecord(key=KEY, container_id="c", lifetime="l")
DONE = replace(INTENDED, finish=FINISH)


# -------------------------------------------------------------------------------------------------------- adoption
@pytest.mark.parametrize(
    ("status", "record", "expected"),
    [
        (Status.CREATED, None, Adoption.START),
        (Status.CREATED, ExecutionRecord(key=KEY), Adoption.START),
        (Status.CREATED, INTENDED, Adoption.AWAIT_START),
        (Status.RUNNING, INTENDED, Adoption.FOLLOW),
        (Status.PAUSED, None, Adoption.FOLLOW),
        (Status.RESTARTING, None, Adoption.FOLLOW),
        (Status.EXITED, INTENDED, Adoption.CONCLUDE),
        (Status.DEAD, None, Adoption.CONCLUDE),
        (Status.REMOVING, INTENDED, Adoption.VANISHED),
        (Status.EXITED, DONE, Adoption.REPORT),
        (None, DONE, Adoption.REPORT),
        (None, ExecutionRecord(key=KEY, finish=FINISH), Adoption.REPORT),
        (None, INTENDED, Adoption.VANISHED),
        (None, ExecutionRecord(key=KEY), Adoption.FORGET),
        (None, None, Adoption.FORGET),
        (None, replace(DONE, settled=True), Adoption.FORGET),
        (Status.CREATED, ExecutionRecord(key=KEY, settled=True), Adoption.REMOVE),
        (Status.EXITED, replace(DONE, settled=True), Adoption.REMOVE),
    ],
)
def test_adoption(status: Status | None, record: ExecutionRecord | None, expected: Adoption) -> None:
    assert adopt(status, record) is expected


# --------------------------------------------------------------------------------------------------------- journal
def test_journal_folds_what_was_appended_and_unfolds_to_the_same() -> None:
    other, third = ExecutionKey("e", 2), ExecutionKey("f", 1)
    daemon = DaemonSeen(lifetime="l2", trace=Trace(newest_event=5), live_restore=True)
    state = fold(
        [
            DaemonSeen(lifetime="l1", trace=Trace(), live_restore=False),
            StartIntent(key=KEY, container_id="c", lifetime="l1"),
            daemon,
            SeenRunning(key=KEY, lifetime="l2"),
            EndingBegun(key=KEY, ending=Ending.STOP),
            Finished(key=KEY, finish=FINISH),
            Settled(key=KEY),
            StartIntent(key=other, container_id="d", lifetime="l2", began_at=7.5, boot_id="b"),
            StartIntent(key=third, container_id="x", lifetime="l2"),
            Forgotten(key=third),
            Forgotten(key=ExecutionKey("never", 1)),
        ]
    )
    assert state == JournalState(
        executions={
            KEY: ExecutionRecord(
                key=KEY, container_id="c", lifetime="l2", ending=Ending.STOP, finish=FINISH, settled=True
            ),
            other: ExecutionRecord(key=other, container_id="d", lifetime="l2", began_at=7.5, boot_id="b"),
        },
        daemon=daemon,
    )
    assert (state.executions[other].began_in("b"), state.executions[other].began_in("later")) == (7.5, None)
    assert state.executions[KEY].began_in("b") is None
    assert fold(unfold(state)) == state
    assert len(unfold(state)) == 6
    bare = fold([Settled(key=KEY)])
    assert fold(unfold(bare)) == bare


def test_a_start_after_a_give_back_is_a_new_beginning() -> None:
    """The answer to the give-back was lost, and the same assignment came again."""
    state = fold([Settled(key=KEY), StartIntent(key=KEY, container_id="c", lifetime="l")])
    assert state.executions[KEY] == INTENDED


# --------------------------------------------------------------------------------------------------------- outcome
EXITED = Snapshot(
    container_id="c", labels={}, status=Status.EXITED, started_at=1_000, finished_at=3_500, image_id="sha256:i"
)


@pytest.mark.parametrize(
    ("lost", "stop", "overdue", "expected"),
    [
        (False, False, False, None),
        (False, False, True, Ending.TIMEOUT),
        (False, True, True, Ending.STOP),
        (True, True, True, Ending.LOST),
    ],
)
def test_weightiest_ending(lost: bool, stop: bool, overdue: bool, expected: Ending | None) -> None:
    assert choose_ending(lost=lost, stop=stop, overdue=overdue) is expected


@pytest.mark.parametrize(
    ("same", "live", "code", "expected"),
    [(True, False, 255, True), (False, False, 0, False), (False, True, 0, True), (False, True, 255, False)],
)
def test_exit_codes_that_count(same: bool, live: bool, code: int, expected: bool) -> None:
    assert is_trusted(same_lifetime=same, live_restore=live, exit_code=code) is expected


@pytest.mark.parametrize(
    ("changes", "trusted", "ending", "outcome", "code", "reason"),
    [
        ({}, True, None, "EXITED", 0, None),
        ({"exit_code": 3}, True, None, "EXITED", 3, "NONZERO_EXIT"),
        ({"exit_code": 137, "oom_killed": True}, True, None, "EXITED", 137, "OOM_KILLED"),
        # Docker shows exit code 0 for what never ran.
        ({"status": Status.CREATED, "started_at": None}, True, None, "LOST", None, "START_UNKNOWN"),
        # A child of the program was killed, and the program took it well.
        ({"oom_killed": True}, True, None, "EXITED", 0, None),
        ({}, False, None, "LOST", None, "DAEMON_LOST"),
        ({"exit_code": 143}, True, Ending.STOP, "STOPPED", 143, "STOP_REQUESTED"),
        ({"exit_code": 0}, False, Ending.STOP, "STOPPED", None, "STOP_REQUESTED"),
        ({"exit_code": 137}, True, Ending.TIMEOUT, "TIMED_OUT", 137, "TIMEOUT"),
        ({"exit_code": 137}, True, Ending.LOST, "LOST", None, "HOST_LOST"),
    ],
)
def test_classification(
    *,
    changes: dict[str, object],
    trusted: bool,
    ending: Ending | None,
    outcome: str,
    code: int | None,
    reason: str | None,
) -> None:
    finish = classify(replace(EXITED, **changes), trusted=trusted, ending=ending, limit=2.0)  # type: ignore[arg-type]
    assert (finish.outcome, finish.exit_code) == (OutcomeKind[outcome], code)
    assert (finish.failure.reason.name if finish.failure else None) == reason
    assert (finish.container_id, finish.image_digest) == ("c", "sha256:i")
    assert finish.ran_for == (None if "started_at" in changes else 2.5)
    assert finish.oom_killed == changes.get("oom_killed", False)


def test_containers_that_are_gone() -> None:
    gone = classify(None, trusted=False, ending=None, limit=None)
    assert gone.failure is not None
    assert (gone.outcome, gone.failure.reason) == (OutcomeKind.LOST, FailureReason.CONTAINER_VANISHED)
    assert classify(None, trusted=False, ending=Ending.STOP, limit=None).outcome is OutcomeKind.STOPPED
    forced = replace(EXITED, status=Status.REMOVING, exit_code=137)
    for going in (forced, replace(forced, status=Status.DEAD)):
        gone = classify(going, trusted=True, ending=None, limit=None)
        assert gone.failure is not None
        assert (gone.outcome, gone.exit_code) == (OutcomeKind.LOST, None)
        assert gone.failure.reason is FailureReason.CONTAINER_VANISHED
    # It had ended by itself before somebody removed it.
    ended = classify(replace(forced, exit_code=3), trusted=True, ending=None, limit=None)
    assert (ended.outcome, ended.exit_code) == (OutcomeKind.EXITED, 3)
    late = classify(None, trusted=False, ending=Ending.TIMEOUT, limit=None)
    assert (late.outcome, late.ran_for) == (OutcomeKind.TIMED_OUT, None)


def test_words_for_people() -> None:
    assert exit_words(3) == "exit code 3"
    assert exit_words(137) == "exit code 137 (as after SIGKILL)"
    for finish in (start_unknown(), away_too_long(30)):
        assert finish.failure is not None
        assert finish.failure.message


def test_snapshots() -> None:
    created = replace(EXITED, status=Status.CREATED, started_at=None, finished_at=None)
    assert created.never_ran
    assert not replace(created, started_at=1).never_ran
    assert not EXITED.never_ran
    assert replace(EXITED, finished_at=None).ran_for is None
    # Its start was noted after its end.
    assert replace(EXITED, finished_at=0).ran_for == 0.001
    assert replace(EXITED, finished_at=1_002.5).ran_for == pytest.approx(0.0025)


# --------------------------------------------------------------------------------------------------------- starting
@pytest.mark.parametrize(
    ("wishes", "now", "deadline", "expected"),
    [
        (Wishes(), 5.0, None, None),
        (Wishes(), 5.0, 6.0, None),
        (Wishes(), 6.0, 6.0, Obstacle.EXPIRED),
        (Wishes(leave=True), 6.0, 6.0, Obstacle.LEAVING),
        (Wishes(leave=True, lost=True), 0.0, None, Obstacle.LOST),
        (Wishes(lost=True, stop=True), 0.0, None, Obstacle.STOPPED),
        (Wishes(stop=True, kill=True), 0.0, None, Obstacle.KILLED),
    ],
)
def test_obstacles(wishes: Wishes, now: float, deadline: float | None, expected: Obstacle | None) -> None:
    assert obstacle(wishes, now=now, deadline=deadline) is expected


def test_words_on_what_was_never_started() -> None:
    assert word_for(Obstacle.KILLED) is None
    assert isinstance(word_for(Obstacle.LOST), GiveBack)
    assert isinstance(word_for(Obstacle.LEAVING), GiveBack)
    for what, kind in ((Obstacle.STOPPED, OutcomeKind.STOPPED), (Obstacle.EXPIRED, OutcomeKind.EXPIRED)):
        word = word_for(what)
        assert isinstance(word, Finish)
        assert (word.outcome, word.exit_code, word.ran_for) == (kind, None, None)
    assert starting.infra_failed(FailureReason.HOST_FAILED, "x").outcome is OutcomeKind.INFRA_FAILED
    rejected = starting.rejected(FailureReason.NOT_ALLOWED, "x")
    assert rejected.outcome is OutcomeKind.REJECTED
    for code, told in ((0, None), (126, 126), (127, 127), (128, None)):
        assert starting.no_program(rejected, code) == replace(rejected, exit_code=told)


# ------------------------------------------------------------------------------------------------------------ lease
def test_lease_without_a_beat_allows_nothing_and_loses_nothing() -> None:
    assert not Lease().may_start(100.0)
    assert not Lease().is_lost(1e9)
    assert Lease().silence(5.0) == 0.0


def test_lease_ages_from_when_the_beat_was_sent() -> None:
    held = lease.renew(Lease(start_within=15, lost_after=120), 100.0)
    assert (held.may_start(114.9), held.may_start(115.0)) == (True, False)
    assert (held.is_lost(219.9), held.is_lost(220.0)) == (False, True)
    assert held.silence(110.0) == 10.0
    assert lease.renew(held, 90.0).renewed_at == 100.0  # answers out of order
    assert lease.renew(held, 110.0).renewed_at == 110.0


def test_resumed_lease_may_be_lost_and_starts_nothing() -> None:
    note = LeaseNote(boot_id="b", renewed_at=100.0, lost_after=60.0, parked=False)
    resumed = lease.resume(note, boot_id="b", now=150.0)
    assert not resumed.may_start(150.0)
    assert resumed.is_lost(160.0)
    parked = lease.resume(replace(note, parked=True), boot_id="b", now=1_000.0)
    assert not parked.is_lost(1_059.0)
    for none in (lease.resume(note, boot_id="after a reboot", now=5.0), lease.resume(None, boot_id="b", now=5.0)):
        assert none.renewed_at is None
        assert not none.may_start(5.0)


# --------------------------------------------------------------------------------------------------------- lifetime
FULL = tuple(range(1_000, 1_000 + MEMORY))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # The process behind the socket decides where it can be seen.
        (Trace(process="1", newest_event=7), Evidence(process="1"), True),
        (Trace(process="1", newest_event=7), Evidence(process="2", events=(7,)), False),
        # Else what the daemon remembers.
        (Trace(process="1", newest_event=7), Evidence(events=(6, 7, 8)), True),
        (Trace(newest_event=7), Evidence(process="2", events=(8, 9), bridge="b"), False),
        (Trace(newest_event=7), Evidence(), False),
        # A memory that is full may have forgotten it: then the bridge decides, if there is one.
        (Trace(newest_event=7, bridge="b"), Evidence(events=FULL, bridge="b"), True),
        (Trace(newest_event=7, bridge="b"), Evidence(events=FULL, bridge="c"), False),
        (Trace(newest_event=7), Evidence(events=FULL), False),
        (Trace(), Evidence(), False),
        (Trace(bridge="b"), Evidence(bridge="b"), True),
    ],
)
def test_lifetimes(before: Trace, now: Evidence, expected: bool) -> None:
    assert lifetime.is_same(before, now) is expected


def test_trace_keeps_the_newest_event() -> None:
    assert lifetime.trace_of(Evidence(process="p", bridge="b", events=(3, 9, 4))) == Trace(
        process="p", bridge="b", newest_event=9
    )
    assert lifetime.trace_of(Evidence()) == Trace()


# --------------------------------------------------------------------------------------------------------- identity
@pytest.mark.parametrize(
    ("known", "configured", "daemon", "expected"),
    [
        (None, "", "d", Choice(identity=Identity(agent_id="fresh", daemon_id="d"))),
        (None, "mine", "", Choice(identity=Identity(agent_id="mine"))),
        (
            Identity(agent_id="a", daemon_id="d"),
            "",
            "d",
            Choice(identity=Identity(agent_id="a", daemon_id="d")),
        ),
        (Identity(agent_id="a", daemon_id="d"), "", "", Choice(identity=Identity(agent_id="a", daemon_id="d"))),
        (Identity(agent_id="a"), "a", "d", Choice(identity=Identity(agent_id="a", daemon_id="d"))),
        # Another daemon, another agent; but for a name that the settings demand.
        (
            Identity(agent_id="a", daemon_id="old"),
            "",
            "d",
            Choice(identity=Identity(agent_id="fresh", daemon_id="d"), set_journal_aside=True),
        ),
        (
            Identity(agent_id="a", daemon_id="old"),
            "a",
            "d",
            Choice(identity=Identity(agent_id="a", daemon_id="d"), set_journal_aside=True),
        ),
        (
            Identity(agent_id="a", daemon_id="d"),
            "b",
            "d",
            Choice(identity=Identity(agent_id="b", daemon_id="d"), set_journal_aside=True),
        ),
    ],
)
def test_identity(known: Identity | None, configured: str, daemon: str, expected: Choice) -> None:
    assert choose(known, configured=configured, daemon_id=daemon, fresh="fresh") == expected
