"""A small history in which nothing went wrong, to be corrupted by tests."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.programs import Program

SECOND = 1_000_000_000
PLAIN, FLAKY, HALTED, BEFORE, DUE, CRON = "plain", "flaky", "halted", "before", "due", "cron"
PICKY, QUEUED = "picky", "queued"
ANCHOR = 1_000_000_000_500


def intent(n: int, task: str, **more: Any) -> Event:
    program = Program(number=n, **more.pop("program", {"stdout": 40, "stderr": 16}))
    return {
        "kind": "intent",
        "n": n,
        "task": task,
        "key": "",
        "program": program.as_json(),
        "retries": 0,
        "infra_retries": 3,
        "retry_on": [],
        "on_lost": "RERUN",
        "timeout": False,
        "deadline": False,
        "agent_labels": {},
        "cron": None,
        **more,
    }


def post(n: int, job: str, outcome: str = "answered") -> Event:
    return {"kind": "post", "n": n, "job": job, "outcome": outcome, "status": 200, "began": 0, "ended": 1}


def job_record(n: int, job: str, task: str, state: str, **more: Any) -> Event:
    return {"kind": "job", "job": job, "task": task, "state": state, "n": n, "key": "", "schedule": None, **more}


def execution(job: str, attempt: int, state: str, **more: Any) -> Event:
    record = {
        "kind": "execution",
        "execution": f"{job}-{attempt}",
        "job": job,
        "attempt": attempt,
        "fence": attempt,
        "trigger": "ENQUEUE",
        "state": state,
        "exit_code": 0 if state == "SUCCEEDED" else None,
        "reason": "",
        "retries_used": 0,
        "infra_used": 0,
        "fire": None,
        "finished": None,
        "logs_complete": True,
    }
    return {**record, **more}


def run(job: str, attempt: int, task: str, begin: float, end: float, *, host: str = "a") -> list[Event]:
    """Docker and the container tell of one run; seconds."""
    name = f"{job}-{attempt}"
    common = {"kind": "docker", "host": host, "container": f"c-{name}", "execution": name, "job": job, "task": task}
    line = {"kind": "witness", "execution": name, "attempt": attempt, "fence": attempt}
    return [
        {**common, "action": "start", "at": int(begin * SECOND)},
        {**line, "word": "start", "up": begin},
        {**line, "word": "end", "up": end},
        {**common, "action": "die", "at": int(end * SECOND)},
        {**common, "action": "destroy", "at": int(end * SECOND) + 1},
    ]


def logs(n: int, execution_id: str) -> list[Event]:
    return [log(execution_id, stream, Program(number=n, stdout=40, stderr=16).output(stream)) for stream in STREAMS]


def log(execution_id: str, stream: str, data: bytes) -> Event:
    digest = hashlib.sha256(data).hexdigest()
    return {"kind": "log", "execution": execution_id, "stream": stream, "size": len(data), "sha256": digest}


STREAMS = ("stdout", "stderr")


def good() -> list[Event]:
    """One job of each kind, all as it should be."""
    flaky = {"stdout": 40, "stderr": 16, "bad_until": 2, "bad_code": 7}
    cron = {"every": 2000, "aligned": True, "overlap": "SKIP", "misfire": "ONCE", "deadline": 5000}
    fires = [ANCHOR + 1500, ANCHOR + 3500, ANCHOR + 7500]
    return [
        {
            "kind": "setup",
            "seed": 1,
            "atomic": True,
            "slots": 2,
            "hosts": ["a", "b"],
            "limits": [["limited", 1]],
            "pools": [["small", "pooled", 1]],
        },
        intent(1, "limited", key="k1"),
        post(1, PLAIN, "unknown"),
        post(1, PLAIN),
        post(1, PLAIN),
        intent(2, "limited", program=flaky, retries=2),
        post(2, FLAKY),
        intent(3, "free"),
        post(3, HALTED),
        intent(4, "pooled"),
        post(4, BEFORE),
        intent(5, "pooled", deadline=True),
        post(5, DUE),
        intent(6, "free", cron=cron),
        post(6, CRON),
        intent(7, "free"),
        post(7, "", "unknown"),
        {"kind": "fault", "number": 1, "fault": "kill", "target": "runner-a", "began": 4 * SECOND, "ended": 5 * SECOND},
        {"kind": "fault", "number": 2, "fault": "clock", "target": "clock", "began": 9 * SECOND, "ended": 10 * SECOND},
        # One that fails twice and is lost in between.
        *run(PLAIN, 1, "limited", 1, 2),
        *run(FLAKY, 1, "limited", 2, 3),
        *run(FLAKY, 2, "limited", 3.5, 9)[:2],
        *run(FLAKY, 3, "limited", 6, 7, host="b"),
        {"kind": "seen", "execution": f"{FLAKY}-1", "state": "FAILED", "exit_code": 7, "fence": 1},
        job_record(1, PLAIN, "limited", "SUCCEEDED", key="k1"),
        execution(PLAIN, 1, "SUCCEEDED"),
        *logs(1, f"{PLAIN}-1"),
        job_record(2, FLAKY, "limited", "SUCCEEDED"),
        execution(FLAKY, 1, "FAILED", exit_code=7, reason="NONZERO_EXIT"),
        execution(FLAKY, 2, "LOST", reason="HOST_LOST", trigger="RETRY", retries_used=1, logs_complete=False),
        execution(FLAKY, 3, "SUCCEEDED", trigger="INFRA_RETRY", retries_used=1, infra_used=1),
        *logs(2, f"{FLAKY}-1"),
        log(f"{FLAKY}-2", "stdout", Program(number=2, stdout=40).output("stdout")[:9]),
        *logs(2, f"{FLAKY}-3"),
        # One that was stopped while it ran, one before, and one that came too late.
        *run(HALTED, 1, "free", 1, 4),
        {
            "kind": "stop",
            "n": 3,
            "job": HALTED,
            "outcome": "answered",
            "result": "STOPPING",
            "executions": 1,
            "began": 2 * SECOND,
            "ended": 3 * SECOND,
        },
        job_record(3, HALTED, "free", "STOPPED"),
        execution(HALTED, 1, "STOPPED", reason="STOP_REQUESTED"),
        {
            "kind": "stop",
            "n": 4,
            "job": BEFORE,
            "outcome": "answered",
            "result": "STOPPED",
            "executions": 1,
            "began": 2 * SECOND,
            "ended": 3 * SECOND,
        },
        job_record(4, BEFORE, "pooled", "STOPPED"),
        execution(BEFORE, 1, "STOPPED", reason="STOP_REQUESTED"),
        job_record(5, DUE, "pooled", "EXPIRED"),
        execution(DUE, 1, "EXPIRED", reason="START_DEADLINE"),
        # Five times of a recurring job: three ran, two were skipped.
        job_record(
            6,
            CRON,
            "free",
            "STOPPED",
            schedule={
                "anchor": ANCHOR,
                "decided": ANCHOR + 9500,
                "next": ANCHOR + 11500,
                "runs": 3,
                "skipped": 2,
                "waiting": None,
            },
        ),
        *(
            event
            for number, fire in enumerate(fires, 1)
            for event in (
                *run(CRON, number, "free", 10 * number, 10 * number + 1),
                execution(CRON, number, "SUCCEEDED", trigger="SCHEDULE", fire=fire, finished=fire + 1_900),
                *logs(6, f"{CRON}-{number}"),
            )
        ),
        skip("OVERLAP", 5500),
        skip("OVERLAP", 5500),
        skip("COALESCED", 9500, decided=15_000),
        *by_hand(),
        {"kind": "end", "settled": True, "alive": []},
    ]


def by_hand() -> list[Event]:
    """One that asked for a host and was retried there; one whose fires wait for each other, paused, and triggered."""
    cron = {"every": 2000, "aligned": True, "overlap": "QUEUE", "misfire": "SKIP", "deadline": 1000}
    return [
        intent(8, "free", agent_labels={"host": "b"}),
        post(8, PICKY),
        command(PICKY, "retry", "answered", f"{PICKY}-2"),
        *run(PICKY, 1, "free", 41, 42, host="b"),
        *run(PICKY, 2, "free", 43, 44, host="b"),
        job_record(8, PICKY, "free", "SUCCEEDED"),
        execution(PICKY, 1, "SUCCEEDED"),
        execution(PICKY, 2, "SUCCEEDED", trigger="MANUAL"),
        *logs(8, f"{PICKY}-1"),
        *logs(8, f"{PICKY}-2"),
        intent(9, "free", cron=cron),
        post(9, QUEUED),
        command(QUEUED, "pause"),
        {"kind": "rest", "job": QUEUED, "since": ANCHOR + 2000, "decided": ANCHOR + 1500},
        {"kind": "rest", "job": QUEUED, "since": ANCHOR + 2000, "decided": ANCHOR + 1500},
        command(QUEUED, "trigger", "answered", f"{QUEUED}-2"),
        command(QUEUED, "trigger", "refused"),
        command(QUEUED, "trigger", "unknown"),
        command(QUEUED, "resume"),
        command(QUEUED, "trigger"),
        job_record(
            9,
            QUEUED,
            "free",
            "ACTIVE",
            schedule={
                "anchor": ANCHOR,
                "decided": ANCHOR + 9500,
                "next": ANCHOR + 11_500,
                "runs": 2,
                "skipped": 2,
                "waiting": ANCHOR + 9500,
            },
        ),
        *(
            event
            for number, (trigger, fire) in enumerate(
                [("SCHEDULE", ANCHOR + 1500), ("MANUAL", None), ("INFRA_RETRY", None), ("MANUAL", None)], 1
            )
            for event in (
                *run(QUEUED, number, "free", 50 + 2 * number, 51 + 2 * number),
                execution(
                    QUEUED,
                    number,
                    "FAILED" if number == 2 else "SUCCEEDED",
                    reason="HOST_FAILED" if number == 2 else "",
                    trigger=trigger,
                    fire=fire,
                    finished=ANCHOR + 9000,
                    infra_used=int(number == 3),
                ),
                *logs(9, f"{QUEUED}-{number}"),
            )
        ),
        skip("MISFIRED", 3500, 5500, 2, job=QUEUED, decided=6_600),
        execution(QUEUED, 5, "SUCCEEDED", trigger="SCHEDULE", fire=ANCHOR + 7500, finished=ANCHOR + 9100),
        *run(QUEUED, 5, "free", 61, 62),
        *logs(9, f"{QUEUED}-5"),
    ]


def command(job: str, verb: str, outcome: str = "answered", execution_id: str = "") -> Event:
    return {"kind": "command", "job": job, "verb": verb, "outcome": outcome, "execution": execution_id}


def skip(
    reason: str, first: int, last: int = 0, count: int = 1, *, job: str = CRON, decided: int | None = None
) -> Event:
    return {
        "kind": "skip",
        "job": job,
        "reason": reason,
        "first": ANCHOR + first,
        "last": ANCHOR + (last or first),
        "count": count,
        "decided": ANCHOR + (first if decided is None else decided),
    }


def find(events: list[Event], kind: str, **what: Any) -> Event:
    """The first event of a kind with these values."""
    return next(e for e in events if e["kind"] == kind and all(e.get(name) == value for name, value in what.items()))


def corrupted(change: Callable[[list[Event]], None]) -> list[Event]:
    events = copy.deepcopy(good())
    change(events)
    return events
