"""From what Docker says of an ended container to the word that goes to the store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from easyq_runner.domain.records import Failure, FailureReason, Finish, OutcomeKind

# By containerd and older daemons for "it ended, and nobody knows how".
_UNKNOWN_EXIT = 255
# Seconds: what ran did so for a while.
_SHORTEST = 0.001
_START_UNKNOWN = "the agent, or the Docker Engine, went down while starting it: whether it ran is not known"
_SIGKILL_EXIT = 137


class Status(Enum):
    """Docker's states of a container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"

    @property
    def alive(self) -> bool:
        """Whether its program may run."""
        return self in {Status.RUNNING, Status.PAUSED, Status.RESTARTING}


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A container as `inspect` shows it. Times are milliseconds since the epoch by the daemon's clock, with its
    fractions."""

    container_id: str
    labels: dict[str, str]
    status: Status
    exit_code: int = 0
    oom_killed: bool = False
    # Why it could not be started.
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    image_id: str = ""

    @property
    def never_ran(self) -> bool:
        """Whether no start of it has succeeded so far."""
        return self.status is Status.CREATED and self.started_at is None

    @property
    def ran_for(self) -> float | None:
        """Seconds between start and end, 0.001 at least; None while it has not ended.

        The daemon notes a start when it has heard of it: of a program that ends at once, after its end.
        """
        if self.started_at is None or self.finished_at is None:
            return None
        return max(_SHORTEST, (self.finished_at - self.started_at) / 1000)


class Ending(Enum):
    """Why the agent ends a running container."""

    # Its job was asked to stop.
    STOP = "stop"
    # It ran longer than it may.
    TIMEOUT = "timeout"
    # The agent was cut off for so long that the execution may run elsewhere.
    LOST = "lost"
    # The agent is drained, and its deadline has come.
    DRAIN = "drain"


def choose_ending(*, lost: bool, stop: bool, overdue: bool, drain: bool = False) -> Ending | None:
    """The weightiest reason to end a container now; None lets it run."""
    if lost:
        return Ending.LOST
    if stop:
        return Ending.STOP
    if overdue:
        return Ending.TIMEOUT
    return Ending.DRAIN if drain else None


def is_trusted(*, same_lifetime: bool, live_restore: bool, exit_code: int) -> bool:
    """Whether an exit code is the program's own.

    A daemon that goes down, or comes up after a crash, ends its containers, and a program that handles SIGTERM exits
    0 then. So a code counts if one lifetime of the daemon saw both start and end; or if the daemon leaves containers
    alone over restarts (live-restore) and knows the code.
    """
    return same_lifetime or (live_restore and exit_code != _UNKNOWN_EXIT)


def _killed_by_removal(snapshot: Snapshot) -> bool:
    """Whether a removal by force ended it: Docker marks the container first, then kills it."""
    return snapshot.status in {Status.REMOVING, Status.DEAD} and snapshot.exit_code == _SIGKILL_EXIT


def classify(snapshot: Snapshot | None, *, trusted: bool, ending: Ending | None, limit: float | None) -> Finish:
    """The finish, still without logs. `snapshot` is None if the container is gone; `limit` is the job's timeout."""
    base = _base(snapshot)
    code = snapshot.exit_code if snapshot and trusted else None
    if ending is Ending.STOP:
        return _end(base, OutcomeKind.STOPPED, code, FailureReason.STOP_REQUESTED, "stopped by request")
    if ending is Ending.TIMEOUT:
        return _end(base, OutcomeKind.TIMED_OUT, code, FailureReason.TIMEOUT, f"ran longer than {limit or 0:g} s")
    if ending is Ending.LOST:
        message = "its host was cut off from the farm for too long and ended it"
        return _end(base, OutcomeKind.LOST, None, FailureReason.HOST_LOST, message)
    if ending is Ending.DRAIN:
        message = "its host was drained, and it had not ended by the deadline"
        return _end(base, OutcomeKind.LOST, None, FailureReason.DRAINED, message)
    if snapshot is None or _killed_by_removal(snapshot):
        message = "its container was removed by somebody else"
        return _end(base, OutcomeKind.LOST, None, FailureReason.CONTAINER_VANISHED, message)
    if snapshot.never_ran:
        return _end(base, OutcomeKind.LOST, None, FailureReason.START_UNKNOWN, _START_UNKNOWN)
    if not trusted:
        message = "the Docker Engine went down while it ran"
        return _end(base, OutcomeKind.LOST, None, FailureReason.DAEMON_LOST, message)
    if snapshot.exit_code == 0:
        return _end(base, OutcomeKind.EXITED, 0, None, "")
    if snapshot.oom_killed:
        message = "killed by the kernel: it used more memory than it may"
        return _end(base, OutcomeKind.EXITED, code, FailureReason.OOM_KILLED, message)
    return _end(base, OutcomeKind.EXITED, code, FailureReason.NONZERO_EXIT, exit_words(snapshot.exit_code))


def exit_words(code: int) -> str:
    """Says what an exit code other than 0 tells."""
    signals = {129: "SIGHUP", 130: "SIGINT", 131: "SIGQUIT", 134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV"}
    signals |= {135: "SIGBUS", 136: "SIGFPE", 141: "SIGPIPE", 143: "SIGTERM"}
    return f"exit code {code}" + (f" (as after {signals[code]})" if code in signals else "")


def start_unknown() -> Finish:
    """The agent crashed around the start, and the container never showed a sign of life."""
    message = "the agent, or the Docker Engine, went down while starting it: whether it ran is not known"
    return Finish(outcome=OutcomeKind.LOST, failure=Failure(reason=FailureReason.START_UNKNOWN, message=message))


def away_too_long(seconds: float) -> Finish:
    """The daemon is away, and nobody knows how its containers do."""
    message = f"the Docker Engine went down while it ran, and has not come back for {seconds:g} s"
    return Finish(outcome=OutcomeKind.LOST, failure=Failure(reason=FailureReason.DAEMON_LOST, message=message))


def silent_too_long(seconds: float) -> Finish:
    """The daemon answers, but not about this container, and nobody knows how it ended."""
    message = f"the Docker Engine has not answered about its container for {seconds:g} s, although it answers otherwise"
    return Finish(outcome=OutcomeKind.LOST, failure=Failure(reason=FailureReason.DAEMON_LOST, message=message))


def _base(snapshot: Snapshot | None) -> Finish:
    if snapshot is None:
        return Finish(outcome=OutcomeKind.LOST)
    return Finish(
        outcome=OutcomeKind.EXITED,
        oom_killed=snapshot.oom_killed,
        container_id=snapshot.container_id,
        image_digest=snapshot.image_id,
        ran_for=snapshot.ran_for,
    )


def _end(base: Finish, kind: OutcomeKind, code: int | None, reason: FailureReason | None, message: str) -> Finish:
    return Finish(
        outcome=kind,
        exit_code=code,
        oom_killed=base.oom_killed,
        failure=Failure(reason=reason, message=message) if reason else None,
        container_id=base.container_id,
        image_digest=base.image_digest,
        ran_for=base.ran_for,
    )
