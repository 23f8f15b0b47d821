"""What must not be, found in a world. Pure: each check is a function from the world to its violations.

Requests whose outcome is not known may have happened or not; both is right.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.nemesis.by_hand import BY_HAND
from tests.chaos.nemesis.cron import cron_violations
from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.violation import Violation
from tests.chaos.nemesis.world import ENDS, TOLD, Interval, World, pool_of

__all__ = ["CHECKS", "Summary", "Violation", "check", "summary"]

# What the program itself brought about.
_PROGRAM = frozenset({"NONZERO_EXIT", "OOM_KILLED", "TIMEOUT"})
# What fails for good, whatever is tried again: nothing of the load does.
_HOPELESS = frozenset({"IMAGE_NOT_FOUND", "INVALID_CONTAINER", "NOT_ALLOWED"})


# ------------------------------------------------------------------------------------------------ what was asked for
def lost_jobs(world: World) -> Iterator[Violation]:
    """Each answered job is there."""
    answered = {post["job"]: post["n"] for post in world.posts if post["outcome"] == "answered"}
    for job, number in answered.items():
        if job not in world.jobs:
            yield Violation("lost", job, f"job {number} was answered, and nobody knows it")


def stuck_jobs(world: World) -> Iterator[Violation]:
    """Each job has ended; a recurring one where its stop was answered."""
    stopped = {stop["job"] for stop in world.stops if stop["outcome"] == "answered"}
    for job, record in world.jobs.items():
        if record["state"] not in ENDS and (not world.is_recurring(job) or job in stopped):
            yield Violation("stuck", job, f"is still {record['state']}")
    for execution in world.executions.values():
        if execution["state"] not in ENDS | {"LOST"} and world.jobs.get(execution["job"], {}).get("state") in ENDS:
            yield Violation("stuck", execution["execution"], f"is still {execution['state']}, its job has ended")
    for job in world.standstill:
        yield Violation("stuck", job, "decided on no further time once nothing was broken any more")


def one_job_each(world: World) -> Iterator[Violation]:
    """A key has one job, whatever was repeated; without one, a request makes one at most; a refused one none."""
    answered: dict[int, set[str]] = defaultdict(set)
    tried: Counter[int] = Counter()
    for post in world.posts:
        if post["outcome"] == "answered":
            answered[post["n"]].add(post["job"])
        if post["outcome"] != "refused":
            tried[post["n"]] += 1
    for n, jobs in answered.items():
        if world.intents[n]["key"] and len(jobs) > 1:
            yield Violation("key", str(n), f"one key was answered with several jobs: {sorted(jobs)}")
    made: dict[int | None, list[str]] = defaultdict(list)
    for job, record in world.jobs.items():
        made[record["n"]].append(job)
    for number, found in made.items():
        if number is None or number not in world.intents:
            yield from (Violation("unasked", job, "nobody asked for this job") for job in found)
        elif world.intents[number]["key"] and len(found) > 1:
            yield Violation("key", str(number), f"one key has several jobs: {sorted(found)}")
        elif len(found) > tried[number]:
            yield Violation("unasked", str(number), f"{tried[number]} requests made {len(found)} jobs")
    for record in world.repeated:
        yield Violation("listed-twice", str(record.get("execution") or record["job"]), "the API lists it twice")


# ---------------------------------------------------------------------------------------------------- containers
def no_second_start(world: World) -> Iterator[Violation]:
    """At most one container is ever started for an execution, and once."""
    containers: dict[str, set[str]] = defaultdict(set)
    starts: Counter[str] = Counter()
    for event in world.docker:
        if event["action"] == "start":
            starts[event["container"]] += 1
            containers[event["execution"]].add(event["container"])
    for execution, found in containers.items():
        if len(found) > 1:
            yield Violation("doubled", execution, f"{len(found)} containers were started for it")
        elif any(starts[container] > 1 for container in found):
            yield Violation("doubled", execution, "its container was started more than once")
    witnessed = Counter(line["execution"] for line in world.witness if line["word"] == "start")
    for execution, count in witnessed.items():
        if count > 1:
            yield Violation("doubled", execution, f"its program began {count} times")


def witnesses_are_known(world: World) -> Iterator[Violation]:
    """Each line of a container, and each start that Docker tells of, belongs to an execution of the API."""
    for line in world.witness:
        execution = world.executions.get(line["execution"])
        if execution is None:
            yield Violation("unknown-run", line["execution"], "a container ran for an execution that nobody knows")
        elif (line["attempt"], line["fence"]) != (execution["attempt"], execution["fence"]):
            ran, known = (line["attempt"], line["fence"]), (execution["attempt"], execution["fence"])
            yield Violation("fence", line["execution"], f"ran as attempt and fence {ran}, and is known as {known}")
    for event in world.docker:
        if event["action"] == "start" and event["execution"] not in world.executions:
            yield Violation("unknown-run", event["execution"], f"Docker on {event['host']} started it; nobody knows it")


def ends_are_witnessed(world: World) -> Iterator[Violation]:
    """What is said to have ended by itself did run; what expired never did."""
    starts = {line["execution"] for line in world.witness if line["word"] == "start"}
    ends = {line["execution"] for line in world.witness if line["word"] == "end"}
    began = starts | {one.execution for one in world.intervals}
    for execution_id, execution in world.executions.items():
        told = execution["state"] == "SUCCEEDED" or execution["reason"] == "NONZERO_EXIT"
        if told and execution_id not in starts:
            yield Violation("no-run", execution_id, f"is {execution['state']}, and no container ever said it began")
        elif told and execution_id not in ends:
            yield Violation("no-run", execution_id, f"is {execution['state']}, and its program never came to its end")
        elif execution["state"] == "EXPIRED" and execution_id in began:
            yield Violation("expired-run", execution_id, "is EXPIRED, and it ran")


def fences_grow(world: World) -> Iterator[Violation]:
    """Attempts of a job count from 1 without gaps, and its fences grow with them; in time too, for a plain job.

    In time not for a LOST one, whose start may have been under way when its agent was stopped.
    """
    begins = {line["execution"]: line["up"] for line in world.witness if line["word"] == "start"}
    for job in world.jobs:
        executions = world.executions_of(job)
        if [execution["attempt"] for execution in executions] != list(range(1, len(executions) + 1)):
            yield Violation("attempts", job, f"has the attempts {[execution['attempt'] for execution in executions]}")
        for before, after in pairwise(executions):
            if after["fence"] <= before["fence"]:
                yield Violation("fence", job, f"has the fence {after['fence']} after {before['fence']}")
        if world.is_recurring(job):
            continue
        known = [execution["execution"] for execution in executions if execution["state"] != "LOST"]
        ran = [begins[execution] for execution in known if execution in begins]
        if ran != sorted(ran):
            yield Violation("fence", job, "an attempt began before an older one")


def one_after_the_other(world: World) -> Iterator[Violation]:
    """No two containers of a plain job at once, nor of a recurring one but where all may; a LOST one may linger.

    Nor does the API show two open executions of such a recurring job: what waits for another one is not there yet.
    """
    by_job: dict[str, list[Interval]] = defaultdict(list)
    for one in world.counted_intervals():
        by_job[one.job].append(one)
    for job, intervals in by_job.items():
        intent = world.intent_of(job)
        if intent is None or (intent.get("cron") and intent["cron"]["overlap"] == "ALLOW"):
            continue
        for before, after in pairwise(intervals):
            if before.covers(after.began):
                yield Violation("overlap", job, f"{after.execution} began while {before.execution} ran")
    # Elsewhere what is read at once may be of several moments.
    for crowd in world.crowds if world.setup["atomic"] else ():
        yield Violation("overlap", crowd["job"], f"had several open at once: {crowd['executions']}")


def limits_hold(world: World) -> Iterator[Violation]:
    """Slots, pools and limits, at every instant that Docker tells of."""
    setup, counted = world.setup, world.counted_intervals()
    groups = [
        *(
            (f"slots of {host}", setup["slots"], [one for one in counted if one.host == host])
            for host in setup["hosts"]
        ),
        *(
            (f"limit {regex}", most, [one for one in counted if re.fullmatch(regex, one.task)])
            for regex, most in setup["limits"]
        ),
        *(
            (f"pool {name}", most, [one for one in counted if pool_of(setup, one.task) == name])
            for name, _regex, most in setup["pools"]
            if most
        ),
    ]
    for title, most, intervals in groups:
        running, worst = _most_at_once(intervals)
        if running > most:
            names = sorted(one.execution for one in worst)
            yield Violation("limit", title, f"{running} ran at once, {most} may: {names}")


def _most_at_once(intervals: list[Interval]) -> tuple[int, list[Interval]]:
    # At one instant, ends come first.
    moments = sorted(
        [(one.began, 1, number) for number, one in enumerate(intervals)]
        + [(one.ended, 0, number) for number, one in enumerate(intervals) if one.ended is not None]
    )
    running: set[int] = set()
    most: set[int] = set()
    for _at, begins, number in moments:
        if begins:
            if intervals[number].ended != intervals[number].began:
                running.add(number)
        else:
            running.discard(number)
        if len(running) > len(most):
            most = set(running)
    return len(most), [intervals[number] for number in most]


# ------------------------------------------------------------------------------------------------------------ ends
def ends_are_right(world: World) -> Iterator[Violation]:
    """Exit codes are the program's own, and a job ends as its newest attempt did, with nothing left to try."""
    for execution in world.executions.values():
        program = world.program_of(execution["job"])
        if program is None:
            continue
        if execution["state"] == "SUCCEEDED" or execution["reason"] == "NONZERO_EXIT":
            expected = program.exit_code(execution["attempt"])
            if execution["exit_code"] != expected:
                yield Violation("exit", execution["execution"], f"exited {execution['exit_code']}, not {expected}")
        elif execution["reason"] in _HOPELESS:
            yield Violation("exit", execution["execution"], f"failed for {execution['reason']}")
    for job, record in world.jobs.items():
        executions = world.executions_of(job)
        if world.is_recurring(job) or record["state"] not in ENDS or not executions:
            continue
        intent = world.intent_of(job)
        if intent is not None and (problem := _wrong_end(world, record, intent, executions[-1])):
            yield Violation("end", job, problem)


def _wrong_end(world: World, job: Event, intent: Event, last: Event) -> str:
    state = job["state"]
    asked = any(stop["outcome"] != "refused" for stop in world.stops_of(job["job"]))
    if state == "STOPPED":
        return "" if asked else "is STOPPED, and nobody asked for it"
    if state == "EXPIRED":
        return "" if intent["deadline"] else "is EXPIRED, and has no deadline"
    if last["state"] == "LOST" or (last["state"] == "FAILED" and last["reason"] not in _PROGRAM):
        given_up = last["infra_used"] >= intent["infra_retries"] or intent["on_lost"] == "FAIL"
        return "" if asked or given_up else f"ended with {last['state']} {last['reason']}, and had attempts left"
    if last["state"] != state:
        return f"is {state}, its newest attempt {last['state']}"
    if state == "SUCCEEDED" or asked:
        return ""
    rules = intent["retry_on"]
    worth_it = not rules or ("timeout" in rules if state == "TIMED_OUT" else str(last["exit_code"]) in rules)
    if worth_it and last["retries_used"] < intent["retries"]:
        return f"ended with {state}, and had retries left: {last['retries_used']} of {intent['retries']} used"
    return ""


def retries_are_the_programs(world: World) -> Iterator[Violation]:
    """What the infrastructure breaks uses up no retry of the user's, and the other way round."""
    for job, executions in _series(world):
        intent = world.intent_of(job)
        for before, after in pairwise(executions):
            program = before["state"] == "TIMED_OUT" or (before["state"] == "FAILED" and before["reason"] in _PROGRAM)
            trigger = "RETRY" if program else "INFRA_RETRY"
            counts = (before["retries_used"] + program, before["infra_used"] + (not program))
            if after["trigger"] != trigger or (after["retries_used"], after["infra_used"]) != counts:
                told = f"{after['trigger']} {after['retries_used']}+{after['infra_used']}"
                wanted = f"{trigger} {counts[0]}+{counts[1]}"
                yield Violation("retries", job, f"attempt {after['attempt']} is {told}, should be {wanted}")
            if before["state"] in {"SUCCEEDED", "STOPPED", "EXPIRED"}:
                yield Violation("retries", job, f"attempt {after['attempt']} follows one that is {before['state']}")
        if intent is not None and executions[-1]["retries_used"] > intent["retries"]:
            yield Violation("retries", job, f"used {executions[-1]['retries_used']} of {intent['retries']} retries")


def _series(world: World) -> Iterator[tuple[str, list[Event]]]:
    """Job, and attempts of which each was made because of the one before it. A run by hand begins a series."""
    for job in world.jobs:
        found: dict[object, list[Event]] = defaultdict(list)
        by_hand = 0
        for execution in world.executions_of(job):
            by_hand += execution["trigger"] == "MANUAL"
            # A run by hand of a recurring job has no time; one that has any is of a fire.
            found[execution["fire"] or f"by hand {by_hand}"].append(execution)
        cron = (world.intent_of(job) or {}).get("cron")
        for key, executions in found.items():
            # Where they may run side by side, nobody can tell whose attempts those are.
            if not (cron and cron["overlap"] == "ALLOW" and by_hand > 1 and isinstance(key, str)):
                yield job, executions


def ends_stay(world: World) -> Iterator[Violation]:
    """What was once seen to have ended stays as it ended."""
    for seen in world.seen:
        now = world.executions.get(seen["execution"])
        was = {name: seen[name] for name in ("state", "exit_code", "fence")}
        if now is None:
            yield Violation("changed", seen["execution"], f"was {was['state']}, and is gone")
        elif was != {name: now[name] for name in was}:
            yield Violation("changed", seen["execution"], f"was {was}, and is {now['state']} {now['exit_code']}")


def stops_are_final(world: World) -> Iterator[Violation]:
    """Nothing starts after STOPPED was answered; after STOPPING, nothing that was not there already."""
    starts: dict[str, list[Interval]] = defaultdict(list)
    for one in world.intervals:
        starts[one.job].append(one)
    for stop in world.stops:
        if stop["outcome"] != "answered" or stop["job"] not in world.jobs:
            continue
        later = [one for one in starts[stop["job"]] if one.began > stop["ended"]]
        if stop["result"] == "STOPPED":
            if later:
                yield Violation("stop", stop["job"], f"{later[0].execution} began after STOPPED was answered")
            if (state := world.jobs[stop["job"]]["state"]) != "STOPPED":
                yield Violation("stop", stop["job"], f"was answered STOPPED, and is {state}")
        for one in later:
            execution = world.executions.get(one.execution)
            if execution is not None and execution["attempt"] > stop["executions"]:
                yield Violation(
                    "stop", stop["job"], f"attempt {execution['attempt']} began after STOPPING was answered"
                )


# ------------------------------------------------------------------------------------------------------------ logs
def logs_are_whole(world: World) -> Iterator[Violation]:
    """To the byte where the program came to its end; else a beginning of it. What was LOST may lack its end."""
    for execution_id, execution in world.executions.items():
        program = world.program_of(execution["job"])
        if program is None:
            continue
        whole = execution["state"] in TOLD and execution["reason"] in {"", "NONZERO_EXIT"}
        if whole and not execution["logs_complete"]:
            yield Violation("log", execution_id, "is not marked as complete")
        for stream in ("stdout", "stderr"):
            log = world.logs.get((execution_id, stream))
            if log is None:
                if whole:
                    yield Violation("log", execution_id, f"{stream} could not be read")
                continue
            expected = program.output(stream)
            if whole and log["size"] != len(expected):
                yield Violation("log", execution_id, f"{stream} has {log['size']} bytes of {len(expected)}")
            elif log["sha256"] != hashlib.sha256(expected[: log["size"]]).hexdigest():
                yield Violation("log", execution_id, f"{stream} differs from what was written, in {log['size']} bytes")


def nothing_left(world: World) -> Iterator[Violation]:
    """No container runs on once everything has ended."""
    for execution in world.end.get("alive", []):
        yield Violation("left-over", execution, "its container still runs at the end")


def right_hosts(world: World) -> Iterator[Violation]:
    """What asked for a host by its label ran there."""
    for one in world.intervals:
        wanted = (world.intent_of(one.job) or {}).get("agent_labels", {}).get("host", one.host)
        if one.host != wanted:
            yield Violation("host", one.execution, f"ran on {one.host}, and asked for {wanted}")


CHECKS: tuple[Callable[[World], Iterator[Violation]], ...] = (
    lost_jobs,
    stuck_jobs,
    one_job_each,
    no_second_start,
    witnesses_are_known,
    ends_are_witnessed,
    fences_grow,
    one_after_the_other,
    limits_hold,
    ends_are_right,
    retries_are_the_programs,
    ends_stay,
    stops_are_final,
    logs_are_whole,
    nothing_left,
    right_hosts,
    cron_violations,
    *BY_HAND,
)


def check(world: World) -> list[Violation]:
    return [violation for one in CHECKS for violation in one(world)]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers of a run."""

    faults: Counter[str]
    jobs: int
    executions: int
    # Executions that were given up, and run again.
    again: int
    lost: int
    doubled: int
    stuck: int
    violations: int


def summary(world: World, violations: list[Violation]) -> Summary:
    rules = Counter(violation.rule for violation in violations)
    return Summary(
        faults=Counter(fault["fault"] for fault in world.faults),
        jobs=len(world.jobs),
        executions=len(world.executions),
        again=sum(e["trigger"] == "INFRA_RETRY" for e in world.executions.values()),
        lost=rules["lost"] + rules["cron-missed"] + rules["hand-lost"],
        doubled=rules["doubled"] + rules["cron-doubled"] + rules["key"] + rules["unknown-run"] + rules["hand-doubled"],
        stuck=rules["stuck"],
        violations=len(violations),
    )
