"""What `easyq doctor` makes of what it finds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from easyq.cli import words

if TYPE_CHECKING:
    from easyq.v1.farm_service_pb2 import Agent, Problem, ServiceStatus, Status

State = Literal["ok", "warn", "fail", "skip"]

_LEAST_FREE = 2 * 1024**3
_LEAST_SHARE = 0.05
_MOST_SKEW = 2.0
# An agent beats every 5 s.
_LONGEST_SILENCE = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at: how it is, and what to do (empty: nothing)."""

    name: str
    state: State
    message: str
    todo: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """Room where something is kept, in bytes."""

    what: str
    path: str
    free: int
    total: int


def of_status(status: Status, now: float) -> Iterator[Check]:
    """What the server tells of itself."""
    if status.accepting and status.running:
        yield Check(name="server", state="ok", message="accepts jobs, and would run them")
    elif status.accepting:
        yield Check(
            name="server",
            state="fail",
            message="accepts jobs, but nothing would run them",
            todo="see what is told below",
        )
    else:
        yield Check(name="server", state="fail", message="refuses jobs", todo="see what is told below")
    yield from _services(status, now)
    yield from _operations(status)
    yield from _hosts(status)
    yield from _problems(status, now)
    yield from _clock(status, now)


def _keeps_beats(status: Status) -> bool:
    return all(service.healthy for service in status.services if service.name == "store")


def _services(status: Status, now: float) -> Iterator[Check]:
    for service in status.services:
        if service.healthy and service.message:
            yield Check(
                name=service.name,
                state="warn",
                message=f"{service.address} works, but not all of it: {service.message}",
                todo="see its log",
            )
        elif service.healthy:
            yield Check(name=service.name, state="ok", message=f"answers at {service.address}")
        elif (problem := _problem_of(status, service)) is not None:
            yield _of_problem(problem, name=service.name, state="fail", now=now)
        else:
            yield Check(
                name=service.name,
                state="fail",
                message=f"{service.address}: {service.message or 'does not answer'}",
                todo=f"start it (`easyq {service.name}`) or see its log",
            )
    # Only dispatchers talk to Redis, and they say so where they can't: below, as a problem.
    dispatchers = [service for service in status.services if service.name == "dispatcher"]
    if any(problem.subject == "redis" for problem in status.problems):
        return
    if any(service.healthy for service in dispatchers):
        yield Check(name="redis", state="ok", message="a dispatcher works with it")
    elif dispatchers:
        yield Check(
            name="redis",
            state="warn",
            message="not known while no dispatcher works",
            todo="see the dispatcher's problem first; it names Redis where that is the cause",
        )


def _operations(status: Status) -> Iterator[Check]:
    """Where operators' programs look at each process, and what they find there."""
    for port in status.operations:
        who = port.instance if port.service == "runner" else port.service
        at = port.address or ("no operations port" if port.alive else "its operations port is not known")
        told = "ready" if port.ready else "not ready"
        text = f"{who}: {at}, {'alive' if port.alive else 'not alive'}, {told}{f': {port.why}' if port.why else ''}"
        if port.alive and port.ready and not port.why:
            yield Check(name="operations", state="ok", message=text)
        else:
            todo = (
                f"curl http://{port.address}/readyz on its machine says it, and so does its log" if port.address else ""
            )
            yield Check(name="operations", state="warn", message=text, todo=todo)


def _problem_of(status: Status, service: ServiceStatus) -> Problem | None:
    """What the server itself says of a service that can't do its work. Others may have the same subject: a dispatcher
    that misses the store, say."""
    begins = f"The {service.name} at {service.address} "
    told = (one for one in status.problems if one.subject == service.name)
    return next((one for one in told if one.message.startswith(begins)), None)


def _of_problem(one: Problem, *, name: str, state: State, now: float) -> Check:
    """A problem in the server's own words: what is wrong, since when, and behind the colon what to do."""
    # What stands in brackets is a reason, which may have colons of its own.
    text, found, todo = one.message.partition("): ")
    if found:
        text += ")"
    else:
        text, _, todo = one.message.partition(": ")
    if one.HasField("since"):
        text += f" (since {words.exact(one.since)}, {words.ago(one.since, now)})"
    return Check(name=name, state=state, message=text, todo=todo)


def _unknown(status: Status) -> dict[str, str]:
    return {one.field: one.why for one in status.unknown}


def _live(agents: Sequence[Agent]) -> list[Agent]:
    # Imported late: the command's help needs no protobuf.
    from easyq.v1.farm_service_pb2 import Agent as Kind

    return [one for one in agents if one.state == Kind.LIVE]


def _hosts(status: Status) -> Iterator[Check]:
    agents = status.agents
    live = _live(agents)
    able = [one for one in live if one.healthy and not one.HasField("cordoned_at") and not one.HasField("drained_at")]
    why = _unknown(status).get("agents")
    if why is not None:
        yield Check(
            name="hosts",
            state="warn",
            message=f"which take work can't be told now: {why}",
            todo="see the store's problem first: hosts that beat are back by themselves",
        )
    elif able:
        slots = sum(one.slots for one in able)
        do = "takes" if len(able) == 1 else "take"
        yield Check(
            name="hosts",
            state="ok",
            message=f"{words.count(len(able), 'host')} with {words.count(slots, 'slot')} {do} work",
        )
    else:
        yield Check(
            name="hosts",
            state="fail",
            message=f"none of {words.count(len(agents), 'host')} takes work",
            todo="start `easyq runner` beside a Docker Engine, or take one back (`easyq hosts uncordon NAME`)",
        )


def _problems(status: Status, now: float) -> Iterator[Check]:
    # A service that can't do its work is told already, and what follows from it needs no line of its own.
    told = {service.name for service in status.services if not service.healthy or service.message}
    for one in status.problems:
        if one.subject not in told:
            yield _of_problem(one, name=one.subject or "farm", state="warn", now=now)
    why = _unknown(status).get("breakers")
    if why is not None:
        yield Check(name="breaker", state="skip", message=f"which are open can't be told now: {why}")


def _clock(status: Status, now: float) -> Iterator[Check]:
    beats = [words.seconds_of(one.last_beat_at) for one in _live(status.agents) if one.HasField("last_beat_at")]
    if not beats:
        yield Check(name="clock", state="skip", message="no beat of a host to compare with")
        return
    behind = max(beats) - now
    if behind > _MOST_SKEW:
        yield Check(
            name="clock",
            state="warn",
            message=f"this machine's clock is {words.span(behind)} behind the store's",
            todo="set both by NTP (`timedatectl set-ntp true`)",
        )
    elif -behind > _LONGEST_SILENCE and not _keeps_beats(status):
        yield Check(name="clock", state="skip", message="no beat is kept while the store can't do its work")
    elif -behind > _LONGEST_SILENCE:
        yield Check(
            name="clock",
            state="warn",
            message=f"the newest beat is {words.span(-behind)} old",
            todo="this clock is ahead of the store's (set both by NTP), or the hosts are silent",
        )
    else:
        yield Check(name="clock", state="ok", message="agrees with the store's")


def of_versions(client: str, server: str, agents: Sequence[Agent]) -> Iterator[Check]:
    """Whether all speak the same version."""
    others = sorted({one.version for one in agents if one.version and one.version != server})
    if client != server:
        yield Check(
            name="versions",
            state="warn",
            message=f"client {client}, server {server}",
            todo="install the same version here: pip install --upgrade easyq-client",
        )
    elif others:
        names = ", ".join(sorted(one.agent_id for one in agents if one.version in others)[:3])
        yield Check(
            name="versions",
            state="warn",
            message=f"server {server}, but {', '.join(others)} on {names}",
            todo="drain these hosts one by one, and start their runners anew with the server's version",
        )
    else:
        yield Check(name="versions", state="ok", message=f"{server} everywhere")


def of_disk(disk: Disk) -> Check:
    """Whether there is room left."""
    text = f"{disk.what}: {words.size(disk.free)} of {words.size(disk.total)} free at {disk.path}"
    if disk.free < _LEAST_FREE // 10:
        return Check(name="disk", state="fail", message=text, todo=f"make room at {disk.path} now")
    if disk.free < _LEAST_FREE or disk.free < disk.total * _LEAST_SHARE:
        return Check(
            name="disk",
            state="warn",
            message=text,
            todo=f"make room at {disk.path} (docker system prune; easyq up --image-cache bounds images)",
        )
    return Check(name="disk", state="ok", message=text)


def needs_engine(status: Status, host: str) -> bool:
    """Whether a Docker Engine that does not answer at `host` (a URL) is missed: there is no host, or one says that it
    can't reach just that. Else the hosts have engines of their own."""
    if not status.agents:
        return "agents" not in _unknown(status)
    place = host.partition("://")[2]
    return any(place in one.message for one in _live(status.agents) if not one.healthy)


def of_hanging(address: str, source: str, who: str, pid: int, *, stopped: bool, after: float) -> Check:
    """An EasyQ of this machine that holds its port and is silent; `who` it is in words, `after`: seconds."""
    message = f"EasyQ hangs: {who} listens at {address} ({source}) and has not answered within {after:g} s"
    if stopped:
        message += "; it is stopped (SIGSTOP, or a debugger)"
        todo = f"let it go on: kill -CONT {pid}"
    elif pid:
        todo = (
            f"see its log, and the load of this machine; `kill -USR2 {pid}` writes what it does to a file. Ended by "
            f"`kill -KILL {pid}`, it is started again by whoever runs it (`easyq up`, systemd), and no job is lost"
        )
    else:
        todo = "see its log, and the load of this machine; as its user (`sudo`) doctor tells more"
    return Check(name="address", state="fail", message=message, todo=todo)


def of_port(port: int, what: str, *, taken: bool, by_easyq: bool, who: str = "") -> Check:
    """Whether `easyq up` could have its port; `who` has it, if that is known."""
    if by_easyq:
        return Check(name="ports", state="ok", message=f"{port} ({what}): EasyQ has it{who and f', {who}'}")
    if taken:
        return Check(
            name="ports",
            state="warn",
            message=f"{port} ({what}): {who or 'another program'} has it",
            todo=f"end that program if it is no EasyQ, or choose another port: easyq up --{what}-port N",
        )
    return Check(name="ports", state="ok", message=f"{port} ({what}): free")
