"""Records of the store as tests like them: valid, with only what matters to the test spelled out."""

from dataclasses import replace
from typing import Any

from easyq_store.domain.records import Agent, Delivery, Execution, Job, LogChunk
from easyq_store.domain.states import (
    AgentState,
    ExecutionState,
    JobState,
    NoticeChannel,
    NoticeEvent,
    Stream,
    Trigger,
)

T0 = 1_700_000_000_000


def job(job_id: str = "job-1", **fields: Any) -> Job:
    """A QUEUED job of task `mail`."""
    made = Job(
        job_id=job_id,
        task_id="mail",
        state=JobState.QUEUED,
        spec=b"spec of " + job_id.encode(),
        image="registry.example:5000/team/echo:1",
        first_execution_id=f"{job_id}-1",
        created_at=T0,
        last_modified_at=T0,
    )
    return replace(made, **fields)


def execution(execution_id: str = "job-1-1", **fields: Any) -> Execution:
    """A QUEUED first execution of `job-1`, first in line."""
    made = Execution(
        execution_id=execution_id,
        job_id=execution_id.rpartition("-")[0],
        task_id="mail",
        attempt=1,
        fence=1,
        trigger=Trigger.ENQUEUE,
        state=ExecutionState.QUEUED,
        queue_seq=1,
        created_at=T0,
        due_at=T0,
        series_due_at=T0,
        queued_at=T0,
    )
    return replace(made, **fields)


def agent(agent_id: str = "host-a", **fields: Any) -> Agent:
    """A live agent in its first session."""
    made = Agent(
        agent_id=agent_id,
        daemon_id=f"daemon-of-{agent_id}",
        session=1,
        state=AgentState.LIVE,
        pools=("default",),
        slots=4,
        lost_after_ms=120_000,
        connected_at=T0,
        last_beat_at=T0,
    )
    return replace(made, **fields)


def chunk(data: bytes, offset: int = 0, **fields: Any) -> LogChunk:
    """Bytes of stdout of `job-1-1`."""
    made = LogChunk(execution_id="job-1-1", stream=Stream.STDOUT, offset=offset, data=data, at=T0)
    return replace(made, **fields)


def delivery(delivery_id: str = "d-1", **fields: Any) -> Delivery:
    """A webhook of the end of `job-1-1`, due at once."""
    made = Delivery(
        delivery_id=delivery_id,
        execution_id="job-1-1",
        job_id="job-1",
        task_id="mail",
        event=NoticeEvent.FAILS,
        channel=NoticeChannel.WEBHOOK,
        target=b"\x0a\x12http://hook.test/x",
        lane="hook.test:80",
        outcome=JobState.FAILED,
        created_at=T0,
        armed_at=T0,
        next_at=T0,
    )
    return replace(made, **fields)
