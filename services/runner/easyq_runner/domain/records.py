"""What the runner speaks of: assignments, reports, orders. All durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class ExecutionKey(NamedTuple):
    """An execution as one assignment sees it: the same id comes back with a higher epoch after a give-back."""

    execution_id: str
    epoch: int


class Stream(Enum):
    """One of a container's two outputs; the value is its number in Docker's frames."""

    STDOUT = 1
    STDERR = 2


class Phase(Enum):
    """How far an execution is on this host."""

    ACCEPTED = "accepted"
    PULLING = "pulling"
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class OnLost(Enum):
    """What follows for a job when its host is silent for too long."""

    RERUN = "rerun"
    FAIL = "fail"
    WAIT = "wait"


class PullMode(Enum):
    """When an image is pulled."""

    UNSPECIFIED = "unspecified"
    ALWAYS = "always"
    MISSING = "missing"
    NEVER = "never"


class MountKind(Enum):
    """What is mounted."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class OutcomeKind(Enum):
    """How an execution ended; the names are those of `Finish.Outcome` in the protos."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    REJECTED = "rejected"
    INFRA_FAILED = "infra_failed"
    LOST = "lost"
    EXPIRED = "expired"


class FailureReason(Enum):
    """Why an execution failed; the names are those of `easyq.v1.Failure` in the protos."""

    NONZERO_EXIT = "nonzero_exit"
    OOM_KILLED = "oom_killed"
    TIMEOUT = "timeout"
    STOP_REQUESTED = "stop_requested"
    START_DEADLINE = "start_deadline"
    IMAGE_NOT_FOUND = "image_not_found"
    PULL_FAILED = "pull_failed"
    INVALID_CONTAINER = "invalid_container"
    START_FAILED = "start_failed"
    NOT_ALLOWED = "not_allowed"
    HOST_LOST = "host_lost"
    DAEMON_LOST = "daemon_lost"
    CONTAINER_VANISHED = "container_vanished"
    START_UNKNOWN = "start_unknown"
    HOST_FAILED = "host_failed"
    REGISTRY_BUSY = "registry_busy"
    DRAINED = "drained"


class OrderKind(Enum):
    """What the store asks of an agent about one execution."""

    RUN = "run"
    ADOPT = "adopt"
    STOP = "stop"
    KILL = "kill"


class Verdict(Enum):
    """What became of a report, or of a log chunk."""

    OK = "ok"
    # Logs: the chunk begins after the stored end.
    GAP = "gap"
    # The execution is not this epoch's any more.
    STALE = "stale"
    # Reports: not decided; send it again.
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why, with a sentence for people."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """One mount; `source` is empty for TMPFS."""

    kind: MountKind
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What stays worth knowing of an execution once its container exists: it also stands in the container's labels."""

    key: ExecutionKey
    task_id: str
    job_id: str
    attempt: int
    fence: int
    # Longest run time; None: unlimited.
    timeout: float | None = None
    # From SIGTERM to SIGKILL.
    stop_grace: float = 10.0
    # Bytes kept per stream.
    log_limit: int
    on_lost: OnLost = OnLost.RERUN
    # It has a memory limit of its own, so that an exit by SIGKILL may be the kernel's doing.
    memory_limited: bool = False
    # The execution's span: `TraceContext.text`; empty: of no trace.
    trace: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """What is to run. Empty texts and zeros mean the image's or the daemon's own."""

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    envs: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    pull: PullMode = PullMode.UNSPECIFIED
    workdir: str = ""
    user: str = ""
    network: str = ""
    mounts: tuple[Mount, ...] = ()
    init: bool = False
    shm_size: int = 0
    platform: str = ""
    privileged: bool = False
    devices: tuple[str, ...] = ()
    cpus: float = 0.0
    memory: int = 0
    pids: int = 0
    gpus: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """An execution that this agent has to run."""

    terms: Terms
    spec: ContainerSpec
    # Remaining time in which the container may be started; None: unlimited.
    start_within: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One directive; `assignment` comes with RUN and ADOPT."""

    kind: OrderKind
    key: ExecutionKey
    assignment: Assignment | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a host has for jobs; all zero while its engine was never reached."""

    cpu_millis: int = 0
    # Bytes.
    memory: int = 0
    gpus: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """An operator's wish about this agent."""

    # It gets nothing new.
    cordoned: bool = False
    # It ends once it is empty.
    draining: bool = False
    # Until then what runs may end; None: as long as it takes.
    deadline_in: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One line of the inventory."""

    key: ExecutionKey
    phase: Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class LogTail:
    """Last bytes of one stream, sent with the finish instead of by themselves."""

    stream: Stream
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEnd:
    """Final size of one stream, after the cap."""

    size: int = 0
    truncated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The container runs."""

    container_id: str
    image_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """How an execution ended on this host."""

    outcome: OutcomeKind
    exit_code: int | None = None
    oom_killed: bool = False
    failure: Failure | None = None
    stdout: StreamEnd = StreamEnd()
    stderr: StreamEnd = StreamEnd()
    tail: tuple[LogTail, ...] = ()
    container_id: str = ""
    image_digest: str = ""
    # None: it never ran.
    ran_for: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveBack:
    """The execution goes back to the queue: its start was never sent."""

    failure: Failure
    # Seconds until it is worth another try; None: at once.
    retry_after: float | None = None


Word = Started | Finish | GiveBack


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One word on one execution."""

    key: ExecutionKey
    word: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportAnswer:
    """What became of a report."""

    key: ExecutionKey
    verdict: Verdict
    # The store has every log byte up to the final sizes.
    logs_complete: bool = False
