"""What the store keeps. All times are milliseconds since the epoch, UTC, by the store's clock.

Each record that changes has a `write_no`: it is 1 when inserted and grows by one with each change; the backends
compare it, so that every change is a compare-and-set.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from easyq_store.domain.states import (
    ENDED,
    HELD,
    JOB_ENDED,
    WAITING,
    AgentState,
    DeliveryState,
    ExecutionState,
    FailureReason,
    JobState,
    NoticeChannel,
    NoticeEvent,
    Outcome,
    SkipReason,
    Stream,
    Trigger,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an execution failed, and a sentence about it for people."""

    reason: FailureReason
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What an execution asks of its host, beside a slot."""

    # Thousandths of a processor core.
    cpu_millis: int = 0
    # Bytes.
    memory: int = 0
    # -1: all of the host.
    gpus: int = 0
    # (key, value), sorted: the host's labels must have them.
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """An execution that has been decided on. Whoever finds it not inserted yet inserts it; twice is harmless."""

    execution_id: str
    # 0: the job gives the number out before it is inserted. Executions of a recurring job are numbered so, since
    # several series of them may be alive at once.
    attempt: int
    fence: int
    trigger: Trigger
    due_at: int
    # After this it may not be started any more. None: no bound.
    latest_start: int | None = None
    priority: int = 0
    spec_revision: int = 1
    # Used up so far in this series of attempts; a series begins with an enqueue or a retry by hand.
    retries_used: int = 0
    infra_used: int = 0
    # When the first attempt of the series was due: `backoff.max_elapsed` counts from here.
    series_due_at: int
    # Nominal time of the fire that its series belongs to; None: of none.
    fire_at: int | None = None
    # None: nothing but a slot.
    needs: Needs | None = None
    image: str = ""
    # As `domain.tracing` has it; empty: of no trace.
    trace: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """Consecutive fires of a recurring job that did not run, for one reason."""

    # Nominal times of the first and the last of them.
    first: int
    last: int
    count: int
    reason: SkipReason
    decided_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingFire:
    """A fire that waits until what is open of its job has ended."""

    # For a run that was asked for by hand, when that was.
    nominal: int
    due_at: int
    # SCHEDULE or MANUAL.
    trigger: Trigger
    # Of the execution that it becomes.
    execution_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How far a recurring job's fires are. Each nominal time (UTC, before jitter) is decided on exactly once."""

    # From when its times are counted: when the job, or its schedule, was last changed.
    anchor: int
    # The latest nominal time that was decided on; 0: none was.
    cursor: int = 0
    # Nominal time of the next fire; None: there is none, or it isn't known yet.
    next_fire: int | None = None
    # Fires that ran, and that were skipped.
    runs: int = 0
    skipped: int = 0
    paused_at: int | None = None
    waiting: WaitingFire | None = None
    # Decided on with the last changes, and perhaps not kept in their own place yet.
    unkept: tuple[Skip, ...] = ()


# Without slots: `evolve` relies on it.
@dataclass(frozen=True, kw_only=True)
class Job:
    """One enqueue. `state`, `next_run_at`, `attempts` and `projected_*` follow its newest execution.

    Those of a recurring job (with a `schedule`) don't: its state is ACTIVE, PAUSED, STOPPED or EXPIRED, and `attempts`
    the highest number that was given out.
    """

    job_id: str
    task_id: str
    state: JobState
    revision: int = 1
    # Serialized `easyq.v1.JobSpec` of this revision, deterministic, defaults resolved. Older ones are kept aside.
    spec: bytes
    # What a client asked for with it, serialized alike, before any default; None: it was not told.
    asked: bytes | None = None
    image: str
    # Each `key=value`, sorted.
    labels: tuple[str, ...] = ()
    # What lists find it by in its metadata: each `path=value`, sorted.
    metadata: tuple[str, ...] = ()
    # Unique within the task; empty: none.
    idempotency_key: str = ""
    first_execution_id: str
    created_at: int
    last_modified_at: int
    next_run_at: int | None = None
    stop_requested_at: int | None = None
    # Executions so far.
    attempts: int = 1
    # Attempt and write_no of the execution that `state` was taken from: it only ever goes forward.
    projected_attempt: int = 0
    projected_write: int = 0
    # Decided on with the last changes and perhaps not inserted yet; none once settled.
    pending: tuple[Planned, ...] = ()
    # Since when steps that follow the last change may be missing; None: nothing is. The sweep looks for it.
    unsettled_since: int | None = None
    # Why its newest attempt that has ended did not succeed; None once one did, or a new series began.
    failure: Failure | None = None
    # How that attempt ended, success included; None while none has, or where a new series began.
    last_end: ExecutionState | None = None
    # It is to be deleted once nothing of it is open.
    delete_requested: bool = False
    schedule: Schedule | None = None
    # When its fires are looked at next: only while it is ACTIVE, and its schedule has further fires.
    fire_at: int | None = None
    # Of the request that made it what it is: `TraceContext.text`; empty: of no trace.
    trace: str = ""
    # Ids of the newest requests that changed it and can't be known by what they left (see `domain/requests.py`).
    requests: tuple[str, ...] = ()
    write_no: int = 1

    @property
    def ended(self) -> bool:
        """Nothing of it waits or runs, and nothing will by itself."""
        return self.state in JOB_ENDED


# Without slots: `evolve` relies on it.
@dataclass(frozen=True, kw_only=True)
class Execution:
    """One attempt to run a job's container."""

    execution_id: str
    job_id: str
    task_id: str
    attempt: int
    fence: int
    trigger: Trigger
    state: ExecutionState
    # Only grows: raised by each assignment, each fence, and when the store declares it lost.
    epoch: int = 0
    priority: int = 0
    # Place in line; 0: never queued so far. Kept over a give-back.
    queue_seq: int = 0
    spec_revision: int = 1
    created_at: int
    due_at: int
    latest_start: int | None = None
    retries_used: int = 0
    infra_used: int = 0
    series_due_at: int
    queued_at: int | None = None
    assigned_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    stop_requested_at: int | None = None
    # Who holds or held it; empty and 0 before.
    agent_id: str = ""
    session: int = 0
    pool: str = ""
    container_id: str = ""
    image_digest: str = ""
    # As the agent told it; None where the store itself ended it.
    outcome: Outcome | None = None
    exit_code: int | None = None
    failure: Failure | None = None
    # Final sizes of the log streams; None while unknown.
    stdout_size: int | None = None
    stderr_size: int | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    logs_complete: bool = False
    # When retention removed its logs, while its record stays; None: it did not.
    logs_removed_at: int | None = None
    # How long the container ran, by its host.
    ran_ms: int | None = None
    # What was decided to follow, in the same write that ended it.
    next: Planned | None = None
    # As `Job.unsettled_since`.
    unsettled_since: int | None = None
    # As in `Planned`.
    fire_at: int | None = None
    needs: Needs | None = None
    image: str = ""
    trace: str = ""
    write_no: int = 1

    @property
    def waiting(self) -> bool:
        """SCHEDULED or QUEUED."""
        return self.state in WAITING

    @property
    def held(self) -> bool:
        """ASSIGNED or RUNNING: it counts against limits."""
        return self.state in HELD

    @property
    def ended(self) -> bool:
        """Final."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """The runner daemon of one Docker host, and its newest session."""

    agent_id: str
    # The daemon's own id; the agent's name stays bound to it.
    daemon_id: str
    session: int
    state: AgentState
    # Beats of this session: a watcher that sees the same number for too long calls the session dead.
    beats: int = 0
    hostname: str = ""
    pools: tuple[str, ...] = ()
    slots: int = 0
    # (key, value), sorted.
    labels: tuple[tuple[str, str], ...] = ()
    version: str = ""
    healthy: bool = True
    message: str = ""
    # None: it is healthy, or nobody knows.
    unhealthy_since: int | None = None
    lost_after_ms: int
    connected_at: int
    last_beat_at: int
    # An operator's wish, which outlives sessions: since when it takes nothing new; since when it drains, and until when
    # what runs may end.
    cordoned_at: int | None = None
    drained_at: int | None = None
    drain_deadline: int | None = None
    # Its newest session was declared dead by hand: what it held is not even waited for where that was wished.
    declared_dead: bool = False
    # What the host has. 0: not told.
    offer_cpu_millis: int = 0
    offer_memory: int = 0
    offer_gpus: int = 0
    # Without a beat for so long it starts nothing: it is silent.
    lease_ms: int = 15_000
    write_no: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A name that groups jobs."""

    task_id: str
    created_at: int
    last_job_at: int
    job_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogChunk:
    """Consecutive bytes of one stream of one execution."""

    execution_id: str
    stream: Stream
    # Of its first byte in the stream.
    offset: int
    data: bytes
    # When it was stored.
    at: int

    @property
    def end(self) -> int:
        """Offset of the byte after its last."""
        return self.offset + len(self.data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A QUEUED execution, as much of it as a queue needs."""

    execution_id: str
    task_id: str
    priority: int
    queue_seq: int
    epoch: int
    needs: Needs | None = None
    image: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldHead:
    """An ASSIGNED or RUNNING execution, as much of it as counting needs."""

    execution_id: str
    task_id: str
    agent_id: str
    session: int
    pool: str
    epoch: int
    needs: Needs | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DueHead:
    """A SCHEDULED execution, as much of it as firing needs."""

    execution_id: str
    epoch: int
    due_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One notification of a job's end to one receiver: inserted with that end, sent until it is taken or given up."""

    # Follows from the end and the receiver, so that it is made once: the same for each attempt.
    delivery_id: str
    # Whose end it tells; it is deleted with it.
    execution_id: str
    job_id: str
    task_id: str
    event: NoticeEvent
    channel: NoticeChannel
    # Serialized `easyq.v1.Webhook`; of an e-mail, the address.
    target: bytes
    # Deliveries of one lane (a host and its port, or e-mail) share a bound.
    lane: str
    state: DeliveryState = DeliveryState.PENDING
    # How the job ended.
    outcome: JobState
    # When the execution ended.
    created_at: int
    # Since when tries count: when it was made, or last sent again by hand.
    armed_at: int
    # Attempts that were begun, in all and since then.
    attempts: int = 0
    tries: int = 0
    # When it is to be sent; only while PENDING. While somebody sends it, when that one's lease ends.
    next_at: int | None = None
    # Until then it is somebody's; None: nobody sends it.
    claimed_until: int | None = None
    last_attempt_at: int | None = None
    delivered_at: int | None = None
    # What the last attempt that got one was answered with; why the last attempt failed.
    response_code: int | None = None
    error: str = ""
    write_no: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class DueDelivery:
    """A delivery that is to be sent, as much of it as choosing needs."""

    delivery_id: str
    lane: str


Wide = TypeVar("Wide", Job, Execution)


def evolve(record: Wide, **fields: Any) -> Wide:
    """The record with these fields changed: `dataclasses.replace` at a fraction of its cost.

    That grows with a record's number of fields, and is paid several times in each call. Raises TypeError for a field
    that there isn't.
    """
    evolved = object.__new__(type(record))
    evolved.__dict__.update(record.__dict__, **fields)
    if len(evolved.__dict__) != len(record.__dict__):
        unknown = sorted(evolved.__dict__.keys() - record.__dict__.keys())
        raise TypeError(f"{type(record).__name__} has no {', '.join(unknown)}")
    return evolved
