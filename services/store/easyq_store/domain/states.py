"""The enumerations of the records. Their numbers are stored: they never change, and equal those of `easyq.v1`."""

from enum import IntEnum


class JobState(IntEnum):
    """How far a job is. Numbers of `easyq.v1.Job.State`."""

    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    RETRYING = 4
    SUCCEEDED = 5
    FAILED = 6
    TIMED_OUT = 7
    STOPPED = 8
    EXPIRED = 9
    ACTIVE = 10
    PAUSED = 11


class ExecutionState(IntEnum):
    """How far an execution is. Numbers of `easyq.v1.Execution.State`."""

    SCHEDULED = 1
    QUEUED = 2
    ASSIGNED = 3
    RUNNING = 4
    SUCCEEDED = 5
    FAILED = 6
    TIMED_OUT = 7
    STOPPED = 8
    LOST = 9
    EXPIRED = 10


class Trigger(IntEnum):
    """Why an execution was made. Numbers of `easyq.v1.Trigger.Kind`."""

    ENQUEUE = 1
    SCHEDULE = 2
    RETRY = 3
    INFRA_RETRY = 4
    MANUAL = 5


class FailureReason(IntEnum):
    """Why an execution failed. Numbers of `easyq.v1.Failure.Reason`."""

    UNSPECIFIED = 0
    NONZERO_EXIT = 1
    OOM_KILLED = 2
    TIMEOUT = 3
    STOP_REQUESTED = 4
    START_DEADLINE = 5
    IMAGE_NOT_FOUND = 6
    PULL_FAILED = 7
    INVALID_CONTAINER = 8
    START_FAILED = 9
    NOT_ALLOWED = 10
    HOST_LOST = 11
    DAEMON_LOST = 12
    CONTAINER_VANISHED = 13
    START_UNKNOWN = 14
    HOST_FAILED = 15
    REGISTRY_BUSY = 16
    DRAINED = 17


class Outcome(IntEnum):
    """How an agent says that an execution ended. Numbers of `easyq_internal.store.v1.Finish.Outcome.Kind`."""

    EXITED = 1
    TIMED_OUT = 2
    STOPPED = 3
    REJECTED = 4
    INFRA_FAILED = 5
    LOST = 6
    EXPIRED = 7


class OnLost(IntEnum):
    """What follows a lost host. Numbers of `easyq.v1.OnLost.Mode`."""

    RERUN = 1
    FAIL = 2
    WAIT = 3


class Overlap(IntEnum):
    """What a fire does while the one before it is open. Numbers of `easyq.v1.Overlap.Mode`."""

    ALLOW = 1
    SKIP = 2
    REPLACE = 3
    QUEUE = 4


class SkipReason(IntEnum):
    """Why fires did not run. Numbers of `easyq.v1.Skip.Reason`."""

    MISFIRED = 1
    COALESCED = 2
    MISFIRE_BOUND = 3
    OVERLAP = 4
    ONE_WAITS = 5
    REPLACED = 6


class AgentState(IntEnum):
    """How an agent's newest session stands. Numbers of `easyq.v1.Agent.State`."""

    LIVE = 1
    PARKED = 2
    DEAD = 3


class Stream(IntEnum):
    """One of a container's two outputs. Numbers of `easyq.v1.LogStream.Name`."""

    STDOUT = 1
    STDERR = 2


class NoticeEvent(IntEnum):
    """Which wish of a spec a notification comes from. Numbers of `easyq.v1.Delivery.Event.Kind`."""

    SUCCEEDS = 1
    FAILS = 2
    FINISHES = 3


class NoticeChannel(IntEnum):
    """How a notification goes. Numbers of `easyq.v1.Delivery.Channel.Kind`."""

    WEBHOOK = 1
    EMAIL = 2
    # To the farm's error handlers.
    REPORT = 3


#: Which show the end of the execution's output.
WITH_OUTPUT = frozenset({NoticeChannel.EMAIL, NoticeChannel.REPORT})


class DeliveryState(IntEnum):
    """How far a notification is. Numbers of `easyq.v1.Delivery.State`."""

    PENDING = 1
    DELIVERED = 2
    FAILED = 3


class Phase(IntEnum):
    """How far an agent is with an execution. Numbers of `easyq_internal.store.v1.Held.Phase.Name`."""

    ACCEPTED = 1
    PULLING = 2
    CREATED = 3
    RUNNING = 4
    EXITED = 5


WAITING = frozenset({ExecutionState.SCHEDULED, ExecutionState.QUEUED})
HELD = frozenset({ExecutionState.ASSIGNED, ExecutionState.RUNNING})
OPEN = WAITING | HELD
ENDED = frozenset(ExecutionState) - OPEN
JOB_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT, JobState.STOPPED, JobState.EXPIRED})
