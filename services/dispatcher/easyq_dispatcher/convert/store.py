"""Between the store's messages and the dispatcher's records. Messages that are only relayed are left as they are."""

from __future__ import annotations

from easyq.v1 import farm_service_pb2, job_pb2
from easyq_dispatcher.convert.times import duration
from easyq_dispatcher.domain.agents import Held, Hello
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.breakers import LONGEST_RETRY_AFTER_MS, Omen, Sign
from easyq_dispatcher.domain.explain import AgentView
from easyq_dispatcher.domain.needs import NOTHING, Needs, Offer
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Released, Taking
from easyq_dispatcher.ports import Assigned, Queue, Reported
from easyq_dispatcher.ports import Beat as StoreBeat
from easyq_internal.store.v1 import farm_store_pb2, records_pb2

# A cause is shown; a program's whole output is not.
_LONGEST_CAUSE = 1_000

_REFUSALS = {
    farm_store_pb2.AssignResult.Refusal.NOT_QUEUED: Verdict.NOT_QUEUED,
    farm_store_pb2.AssignResult.Refusal.EXPIRED: Verdict.EXPIRED,
    farm_store_pb2.AssignResult.Refusal.STALE_EPOCH: Verdict.STALE_EPOCH,
    farm_store_pb2.AssignResult.Refusal.STALE_SESSION: Verdict.STALE_SESSION,
    farm_store_pb2.AssignResult.Refusal.STALE_GENERATION: Verdict.STALE_GENERATION,
    farm_store_pb2.AssignResult.Refusal.CORDONED: Verdict.CORDONED,
}
_Reason = job_pb2.Failure.Reason
_Outcome = records_pb2.Finish.Outcome
_FAULTS = {
    # The fault is the host's: another one may do it.
    _Reason.HOST_FAILED: Sign.HOST,
    _Reason.DAEMON_LOST: Sign.HOST,
    _Reason.START_UNKNOWN: Sign.HOST,
    _Reason.PULL_FAILED: Sign.IMAGE,
    _Reason.REGISTRY_BUSY: Sign.BUSY,
}
# The container ran, or Docker and the registry were well enough to say clearly why not.
_WORKED = {_Outcome.EXITED, _Outcome.TIMED_OUT, _Outcome.REJECTED}
_FAILED = {_Outcome.INFRA_FAILED, _Outcome.LOST}


def held_message(item: Held) -> records_pb2.Held:
    """One item of an inventory."""
    return records_pb2.Held(
        execution_id=item.execution_id, epoch=item.epoch, phase=records_pb2.Held.Phase.Name.ValueType(item.phase.value)
    )


def open_session_request(
    hello: Hello, pools: tuple[str, ...], *, lost_after_ms: int, lease_ms: int
) -> farm_store_pb2.OpenSessionRequest:
    """An agent's introduction to the store."""
    return farm_store_pb2.OpenSessionRequest(
        agent_id=hello.agent_id,
        daemon_id=hello.daemon_id,
        hostname=hello.hostname,
        pools=pools,
        slots=hello.slots,
        labels=hello.labels,
        version=hello.version,
        inventory=[held_message(item) for item in hello.inventory],
        lost_after=duration(lost_after_ms),
        lease=duration(lease_ms),
        offer=records_pb2.Offer(cpu_millis=hello.offer.cpu_millis, memory=hello.offer.memory, gpus=hello.offer.gpus),
        unhealthy=not hello.healthy,
        message=hello.message,
        unhealthy_for=None if hello.healthy else duration(hello.unhealthy_ms),
    )


def beat_message(beat: StoreBeat) -> farm_store_pb2.AgentBeat:
    """A beat for the store."""
    return farm_store_pb2.AgentBeat(
        agent_id=beat.agent_id,
        session=beat.session,
        inventory=[held_message(item) for item in beat.inventory],
        healthy=beat.healthy,
        message=beat.message,
        slots=beat.slots,
    )


def head(message: records_pb2.Head) -> Head:
    """A ready execution."""
    return Head(
        execution_id=message.execution_id,
        task_id=message.task_id,
        priority=message.priority,
        queue_seq=message.queue_seq,
        epoch=message.epoch,
        needs=needs(message.needs) if message.HasField("needs") else NOTHING,
        image=message.image,
    )


def needs(message: records_pb2.Needs) -> Needs:
    """What an execution asks of its host."""
    return Needs(
        cpu_millis=max(0, message.cpu_millis),
        memory=max(0, message.memory),
        gpus=max(-1, message.gpus),
        labels=tuple(sorted(message.labels.items())),
    )


def held_execution(message: farm_store_pb2.HeldExecution) -> HeldExecution:
    """An execution that counts."""
    return HeldExecution(
        execution_id=message.execution_id,
        task_id=message.task_id,
        agent_id=message.agent_id,
        session=message.session,
        pool=message.pool,
        epoch=message.epoch,
        needs=needs(message.needs) if message.HasField("needs") else NOTHING,
    )


def fenced(execution_id: str, message: farm_store_pb2.FenceResult) -> Fenced:
    """Where an execution stands after a fence."""
    return Fenced(
        execution_id=execution_id,
        ready=head(message.ready) if message.HasField("ready") else None,
        held=held_execution(message.held) if message.HasField("held") else None,
    )


def assign_item(taking: Taking, generation: int) -> farm_store_pb2.AssignItem:
    """A taking for the store."""
    return farm_store_pb2.AssignItem(
        execution_id=taking.head.execution_id,
        epoch=taking.head.epoch,
        generation=generation,
        agent_id=taking.agent_id,
        session=taking.session,
        pool=taking.pool,
    )


def assigned(taking: Taking, message: farm_store_pb2.AssignResult) -> Assigned:
    """The store's answer on a taking. A refusal of a kind that is not known yet counts as no answer: it is fenced."""
    if message.HasField("assignment"):
        return Assigned(taking=taking, verdict=Verdict.ASSIGNED, assignment=message.assignment)
    return Assigned(
        taking=taking,
        verdict=_REFUSALS.get(message.refusal, Verdict.UNANSWERED),
        ready=head(message.ready) if message.HasField("ready") else None,
    )


def reported(report: records_pb2.Report, message: records_pb2.ReportResult) -> Reported:
    """The store's answer on a report."""
    return Reported(
        result=message,
        omen=omen(report) if message.verdict == records_pb2.ReportResult.Verdict.OK else None,
        released=Released(execution_id=message.execution_id, epoch=message.epoch) if message.released else None,
        ready=head(message.ready) if message.HasField("ready") else None,
    )


def omen(report: records_pb2.Report) -> Omen | None:
    """What a report says of the host and the image; None: nothing."""
    name, epoch = report.execution_id, report.epoch
    match report.WhichOneof("word"):
        case "started":
            return Omen(execution_id=name, epoch=epoch, sign=Sign.WORKED)
        case "finish":
            if report.finish.outcome in _WORKED:
                return Omen(execution_id=name, epoch=epoch, sign=Sign.WORKED)
            failure = report.finish.failure if report.finish.outcome in _FAILED else None
            ms = 0
        case "give_back":
            failure = report.give_back.failure
            ms = report.give_back.retry_after.ToMilliseconds() if report.give_back.HasField("retry_after") else 0
        case _:
            return None
    sign = _FAULTS.get(failure.reason) if failure is not None else None
    if failure is None or sign is None:
        return None
    if ms > 0 and sign is Sign.IMAGE:
        sign = Sign.BUSY
    ms = max(0, min(ms, LONGEST_RETRY_AFTER_MS))
    return Omen(execution_id=name, epoch=epoch, sign=sign, cause=failure.message[:_LONGEST_CAUSE], ms=ms)


def retry_later(report: records_pb2.Report) -> Reported:
    """The answer on a report that the store did not take."""
    return Reported(
        result=records_pb2.ReportResult(
            execution_id=report.execution_id, epoch=report.epoch, verdict=records_pb2.ReportResult.Verdict.RETRY
        )
    )


def agent_view(message: farm_service_pb2.Agent, now_ms: int) -> AgentView:
    """An agent as the store lists it."""
    seen_ms = message.last_beat_at.ToMilliseconds() if message.HasField("last_beat_at") else now_ms
    return AgentView(
        agent_id=message.agent_id,
        live=message.state == farm_service_pb2.Agent.LIVE,
        healthy=message.healthy,
        message=message.message,
        pools=tuple(message.pools),
        slots=message.slots,
        silent_for=max(0.0, (now_ms - seen_ms) / 1000),
        cordoned=message.HasField("cordoned_at") or message.HasField("drained_at"),
        cordoned_since_ms=_earliest(message),
        offer=Offer(
            cpu_millis=round(message.capacity.cpus * 1000),
            memory=message.capacity.memory,
            gpus=message.capacity.gpus,
        ),
        labels=tuple(sorted(message.labels.items())),
        session=message.session,
    )


def _earliest(message: farm_service_pb2.Agent) -> int | None:
    since = [
        getattr(message, name).ToMilliseconds() for name in ("cordoned_at", "drained_at") if message.HasField(name)
    ]
    return min(since, default=None)


def queue(message: farm_store_pb2.TaskQueue) -> Queue:
    """What waits of a task."""
    return Queue(task_id=message.task_id, queued=message.queued, oldest=message.oldest.ToMilliseconds() / 1000)
