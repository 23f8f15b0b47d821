"""The checker finds nothing in a history in which nothing went wrong, and each thing that did in one where it did."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.nemesis.checks import check, summary
from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.programs import Program
from tests.chaos.nemesis.world import read_world
from tests.unit.nemesis.histories import (
    ANCHOR,
    BEFORE,
    CRON,
    DUE,
    FLAKY,
    HALTED,
    PICKY,
    PLAIN,
    QUEUED,
    SECOND,
    command,
    corrupted,
    execution,
    find,
    good,
    job_record,
    log,
    post,
    run,
    skip,
)

Change = Callable[[list[Event]], None]


def test_nothing_is_wrong_where_nothing_went_wrong() -> None:
    assert check(read_world(good())) == []


def update(kind: str, where: dict[str, Any], **changes: Any) -> Change:
    return lambda events: find(events, kind, **where).update(changes)


def drop(kind: str, **where: Any) -> Change:
    return lambda events: events.remove(find(events, kind, **where))


def add(*more: Event) -> Change:
    return lambda events: events.extend(more)


def stop_of(job: str, **more: Any) -> Change:
    return update("stop", {"job": job}, **more)


def schedule(**changes: Any) -> Change:
    return lambda events: find(events, "job", job=CRON)["schedule"].update(changes)


def execution_of(name: str, **changes: Any) -> Change:
    return update("execution", {"execution": name}, **changes)


def both(*changes: Change) -> Change:
    def apply(events: list[Event]) -> None:
        for change in changes:
            change(events)

    return apply


CORRUPTIONS: dict[str, tuple[str, Change]] = {
    "a job is gone": ("lost", drop("job", job=PLAIN)),
    "a job hangs": ("stuck", update("job", {"job": PLAIN}, state="QUEUED")),
    "an execution hangs": ("stuck", execution_of(f"{PLAIN}-1", state="RUNNING", exit_code=None)),
    "a stopped recurring job goes on": (
        "stuck",
        both(
            update("job", {"job": CRON}, state="ACTIVE"),
            add(
                {"kind": "stop", "job": CRON, "outcome": "answered", "result": "STOPPING", "executions": 3, "ended": 1}
            ),
        ),
    ),
    "a recurring job stands still": ("stuck", add({"kind": "standstill", "job": CRON})),
    "a key has two jobs": ("key", add(job_record(1, "other", "limited", "EXPIRED"))),
    "a key was answered with two jobs": ("key", add(post(1, "other"))),
    "one request made two jobs": ("unasked", add(job_record(2, "other", "limited", "EXPIRED"))),
    "nobody asked for it": ("unasked", add(job_record(99, "other", "limited", "EXPIRED"))),
    "a refused request made a job": ("unasked", update("post", {"n": 2}, outcome="refused")),
    "the API lists one twice": ("listed-twice", add(execution(PLAIN, 1, "SUCCEEDED"))),
    "two containers for one execution": (
        "doubled",
        add({**find(good(), "docker", execution=f"{PLAIN}-1"), "container": "again", "host": "b"}),
    ),
    "a container was started twice": (
        "doubled",
        add({**find(good(), "docker", execution=f"{PLAIN}-1"), "at": 5 * SECOND}),
    ),
    "a program began twice": ("doubled", add(find(good(), "witness", execution=f"{PLAIN}-1"))),
    "a container of an unknown execution": (
        "unknown-run",
        add({**find(good(), "witness", execution=f"{PLAIN}-1"), "execution": "who"}),
    ),
    "Docker started what nobody knows": (
        "unknown-run",
        add({**find(good(), "docker", execution=f"{PLAIN}-1"), "execution": "who", "container": "x"}),
    ),
    "a container saw another fence": ("fence", update("witness", {"execution": f"{PLAIN}-1"}, fence=2)),
    "a fence does not grow": ("fence", execution_of(f"{FLAKY}-3", fence=2)),
    "an attempt is missing": ("attempts", drop("execution", execution=f"{FLAKY}-2")),
    "an older attempt began later": ("fence", update("witness", {"execution": f"{FLAKY}-1", "word": "start"}, up=99)),
    "it succeeded and never ran": ("no-run", drop("witness", execution=f"{PLAIN}-1", word="start")),
    "it succeeded before its end": ("no-run", drop("witness", execution=f"{PLAIN}-1", word="end")),
    "it ran though it had expired": ("expired-run", add(*run(DUE, 1, "pooled", 50, 51))),
    "a retry began while its predecessor ran": (
        "overlap",
        both(
            update("docker", {"execution": f"{FLAKY}-1", "action": "die"}, at=4 * SECOND),
            update("docker", {"execution": f"{FLAKY}-1", "action": "destroy"}, at=4 * SECOND),
        ),
    ),
    "fires that skip ran at once": (
        "overlap",
        update("docker", {"execution": f"{CRON}-2", "action": "start"}, at=10 * SECOND + 5),
    ),
    "more than a limit": ("limit", update("docker", {"execution": f"{PLAIN}-1", "action": "start"}, at=6 * SECOND)),
    "more than a pool": ("limit", add(*run(BEFORE, 1, "pooled", 1, 2.5), *run(DUE, 1, "pooled", 2, 3, host="b"))),
    "more than the slots": (
        "limit",
        add(*run("x", 1, "free", 1.5, 9), *run("y", 1, "free", 1.5, 9), *run("z", 1, "free", 1.5, 9)),
    ),
    "a wrong exit code": ("exit", execution_of(f"{FLAKY}-1", exit_code=8)),
    "it failed for a made-up reason": ("exit", execution_of(f"{FLAKY}-1", reason="IMAGE_NOT_FOUND", exit_code=None)),
    "a job ended otherwise than its attempt": ("end", update("job", {"job": FLAKY}, state="FAILED")),
    "it was stopped and nobody asked": ("end", stop_of(HALTED, outcome="refused")),
    "it expired without a deadline": ("end", update("intent", {"n": 5}, deadline=False)),
    "it gave up with retries left": (
        "end",
        both(
            update("job", {"job": FLAKY}, state="FAILED"),
            execution_of(f"{FLAKY}-3", state="FAILED", reason="NONZERO_EXIT", exit_code=7),
        ),
    ),
    "a lost one was not run again": (
        "end",
        both(
            update("job", {"job": FLAKY}, state="FAILED"),
            execution_of(f"{FLAKY}-3", state="LOST", reason="HOST_LOST", exit_code=None),
        ),
    ),
    "a lost host used up a retry": (
        "retries",
        execution_of(f"{FLAKY}-3", trigger="RETRY", retries_used=2, infra_used=0),
    ),
    "too many retries": ("retries", update("intent", {"n": 2}, retries=0)),
    "an attempt after a success": ("retries", execution_of(f"{FLAKY}-1", state="SUCCEEDED", reason="", exit_code=0)),
    "an end changed": ("changed", update("seen", {}, state="LOST", exit_code=None)),
    "an ended one is gone": ("changed", update("seen", {}, execution="gone")),
    "it began after STOPPED": ("stop", add(*run(BEFORE, 1, "pooled", 4, 5))),
    "STOPPED was answered, and it succeeded": (
        "stop",
        both(update("job", {"job": BEFORE}, state="SUCCEEDED"), execution_of(f"{BEFORE}-1", state="SUCCEEDED")),
    ),
    "a new attempt began after STOPPING": (
        "stop",
        add(*run(HALTED, 2, "free", 5, 6), execution(HALTED, 2, "STOPPED", trigger="INFRA_RETRY", infra_used=1)),
    ),
    "a log lacks its end": (
        "log",
        add(log(f"{PLAIN}-1", "stdout", Program(number=1, stdout=40).output("stdout")[:-1])),
    ),
    "a log has other bytes": ("log", add(log(f"{PLAIN}-1", "stderr", b"x" * 16))),
    "a lost one's log has other bytes": ("log", add(log(f"{FLAKY}-2", "stdout", b"1000000\n2"))),
    "a log can't be read": ("log", drop("log", execution=f"{PLAIN}-1")),
    "logs are not marked as complete": ("log", execution_of(f"{PLAIN}-1", logs_complete=False)),
    "a container runs on": ("left-over", update("end", {}, alive=["x"])),
    "a fire was missed": (
        "cron-missed",
        both(drop("skip", reason="OVERLAP"), drop("skip", reason="OVERLAP"), schedule(skipped=1)),
    ),
    "a fire is missing in the counts": ("cron-missed", schedule(skipped=3)),
    "a schedule is gone": ("cron-missed", update("job", {"job": CRON}, schedule=None)),
    "a fire ran twice": ("cron-doubled", execution_of(f"{CRON}-2", fire=ANCHOR + 1500)),
    "a fire at a wrong time": ("cron-doubled", execution_of(f"{CRON}-2", fire=ANCHOR + 3501)),
    "a fire before it was decided": ("cron-doubled", schedule(decided=ANCHOR + 5500)),
    "a fire ran and was skipped": ("cron-doubled", add(skip("OVERLAP", 3500))),
    "a fire was skipped twice": ("cron-doubled", add(skip("OVERLAP", 5500, 7500, 2))),
    "a retry of no fire": ("cron-doubled", execution_of(f"{CRON}-2", trigger="RETRY", retries_used=1)),
    "a skip counts wrong": ("cron-skip", update("skip", {"reason": "COALESCED"}, count=2)),
    "a skip at a wrong time": ("cron-skip", add(skip("OVERLAP", 5501))),
    "a skip that its policy does not have": (
        "cron-skip",
        lambda events: find(events, "intent", n=6)["cron"].update(overlap="ALLOW"),
    ),
    "a skip for overlap with nothing open": (
        "cron-skip",
        both(drop("skip", reason="OVERLAP"), update("skip", {"reason": "OVERLAP"}, decided=ANCHOR + 99_000)),
    ),
    "a misfire that was in time": ("cron-skip", update("skip", {"reason": "MISFIRED"}, decided=ANCHOR + 6_400)),
    "one waits, and nothing was open": (
        "cron-skip",
        both(
            update("skip", {"reason": "MISFIRED"}, reason="ONE_WAITS", decided=ANCHOR + 99_000),
        ),
    ),
    "it ran on another host than it asked for": ("host", update("intent", {"n": 8}, agent_labels={"host": "a"})),
    "a retry that nobody asked for": ("hand-doubled", drop("command", job=PICKY)),
    "a run by hand is another one": ("hand-lost", update("command", {"job": PICKY}, execution="other")),
    "two triggers made one": (
        "hand-doubled",
        update(
            "command", {"job": QUEUED, "verb": "trigger", "execution": ""}, outcome="answered", execution=f"{QUEUED}-2"
        ),
    ),
    "a trigger that was to wait never ran": ("hand-lost", execution_of(f"{QUEUED}-4", trigger="SCHEDULE")),
    "a refused trigger ran": (
        "hand-doubled",
        both(
            update("command", {"job": QUEUED, "outcome": "unknown"}, outcome="refused"),
            add(execution(QUEUED, 6, "SUCCEEDED", trigger="MANUAL")),
        ),
    ),
    "a run by hand has a time": ("cron-doubled", execution_of(f"{QUEUED}-4", fire=ANCHOR + 9500)),
    "a retry follows no run by hand": (
        "cron-doubled",
        both(*(execution_of(f"{QUEUED}-{number}", trigger="SCHEDULE", fire=1) for number in (2, 4))),
    ),
    "it decided while it was paused": ("paused", update("rest", {}, decided=ANCHOR + 3500)),
    "two of one that queues were open": ("overlap", add({"kind": "crowd", "job": QUEUED, "executions": ["x", "y"]})),
    "a fire that waited is gone": (
        "cron-missed",
        lambda events: find(events, "job", job=QUEUED)["schedule"].update(waiting=None),
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_went_wrong_is_found(name: str) -> None:
    rule, change = CORRUPTIONS[name]
    rules = {violation.rule for violation in check(read_world(corrupted(change)))}
    assert rule in rules


def test_an_unanswered_request_may_have_made_a_job() -> None:
    made = [job_record(7, "perhaps", "free", "EXPIRED"), execution("perhaps", 1, "EXPIRED", reason="START_DEADLINE")]
    events = [*good(), *made]
    find(events, "intent", n=7)["deadline"] = True
    assert check(read_world(events)) == []


def test_a_lost_one_may_linger_beyond_its_fault_and_no_other() -> None:
    events = good()
    # It never dies, and its successor begins: as it is while its agent and the watchdog are stopped.
    assert not [e for e in events if e.get("execution") == f"{FLAKY}-2" and e.get("action") == "die"]
    assert check(read_world(events)) == []
    # Had it begun before anything broke, and been followed before: that is no lingering.
    find(events, "fault", fault="kill").update(began=20 * SECOND, ended=21 * SECOND)
    find(events, "fault", fault="clock").update(began=20 * SECOND, ended=21 * SECOND)
    assert {violation.rule for violation in check(read_world(events))} == {"overlap", "limit"}


def test_a_daemon_that_went_down_may_not_tell_of_ends() -> None:
    def change(events: list[Event]) -> None:
        for action in ("die", "destroy"):
            events.remove(find(events, "docker", execution=f"{PLAIN}-1", action=action))

    events = corrupted(change)
    assert "limit" in {violation.rule for violation in check(read_world(events))}
    down = {"kind": "fault", "fault": "daemon-kill", "target": "dockerd-a", "began": 2 * SECOND, "ended": 3 * SECOND}
    assert check(read_world([*events, down])) == []


def test_the_summary_counts() -> None:
    events = corrupted(CORRUPTIONS["a job is gone"][1])
    world = read_world(events)
    found = summary(world, check(world))
    assert (found.jobs, found.executions, found.lost) == (7, 17, 1)
    assert found.faults == {"kill": 1, "clock": 1}
    assert found.violations >= 1


def test_a_trigger_that_waits_may_be_superseded_where_a_later_fire_takes_its_place() -> None:
    def change(events: list[Event]) -> None:
        events.append(command(QUEUED, "trigger"))
        events.append(command(QUEUED, "trigger"))

    events = corrupted(change)
    assert {violation.rule for violation in check(read_world(events))} == {"hand-lost"}
    find(events, "intent", n=9)["cron"].update(overlap="REPLACE")
    assert check(read_world(events)) == []


def test_a_clock_that_jumps_excuses_what_was_decided_meanwhile() -> None:
    events = corrupted(update("skip", {"reason": "MISFIRED"}, decided=ANCHOR + 6_400))
    assert {violation.rule for violation in check(read_world(events))} == {"cron-skip"}
    now = (ANCHOR + 6_400) * 1_000_000
    jump = {"kind": "fault", "fault": "clock", "target": "clock", "detail": "-90000", "began": now, "ended": now}
    assert check(read_world([*events, jump])) == []


def test_a_daemon_that_hangs_takes_no_container_with_it() -> None:
    events = corrupted(CORRUPTIONS["more than a limit"][1])
    hangs = {"kind": "fault", "fault": "daemon-hang", "target": "dockerd-a", "began": 0, "ended": 20 * SECOND}
    assert "limit" in {violation.rule for violation in check(read_world([*events, hangs]))}
