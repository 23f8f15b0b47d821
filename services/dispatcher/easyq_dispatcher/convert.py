"""Between the protocol's messages and the dispatcher's records. Messages that are only relayed are left as they are."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from easyq.v1 import farm_service_pb2, job_pb2
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_dispatcher.domain.agents import Held, Hello, Phase
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.breakers import LONGEST_RETRY_AFTER_MS, Breaker, Kind, Omen, Sign
from easyq_dispatcher.domain.explain import AgentView, Waiting
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Released, Taking
from easyq_dispatcher.messages import (
    Acknowledged,
    Beat,
    Farewell,
    Goodbye,
    HealthChange,
    Incoming,
    Orders,
    Outgoing,
    Reports,
    Results,
    Runs,
    Welcome,
    Wish,
)
from easyq_dispatcher.ports import Assigned, Queue, Reported
from easyq_dispatcher.ports import Beat as StoreBeat
from easyq_dispatcher.usecases.words import Asked, LimitStanding, PoolStanding, PoolWords, Standing, TaskWords, Trouble
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.store.v1 import farm_store_pb2, job_store_pb2, records_pb2

MOST_ASKED = 1_000
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
_PHASES = {phase.value: phase for phase in Phase}


# ------------------------------------------------------------------------------------------------------------- agents
def incoming(message: dispatcher_pb2.ConnectRequest) -> Incoming:
    """What an agent says. Raises InvalidArgument for a message without content."""
    kind = message.WhichOneof("message")
    match kind:
        case "hello":
            return hello(message.hello)
        case "beat":
            return Beat(number=message.beat.number, inventory=inventory(message.beat.inventory))
        case "reports":
            return Reports(items=message.reports.items)
        case "goodbye":
            return Goodbye()
        case "health":
            return HealthChange(healthy=message.health.healthy, message=message.health.message)
    raise InvalidArgument("the message is empty")


def hello(message: dispatcher_pb2.Hello) -> Hello:
    """An agent's first words."""
    return Hello(
        agent_id=message.agent_id,
        daemon_id=message.daemon_id,
        hostname=message.hostname,
        pools=tuple(message.pools),
        slots=message.slots,
        labels=dict(message.labels),
        version=message.version,
        protocol_min=message.protocol_min,
        protocol_max=message.protocol_max,
        inventory=inventory(message.inventory),
        healthy=message.health.healthy if message.HasField("health") else True,
        message=message.health.message,
        unhealthy_ms=max(0, message.health.unhealthy_for.ToMilliseconds()),
        offer=offer(message.offer) if message.HasField("offer") else UNKNOWN,
        operations=message.operations,
    )


def offer(message: records_pb2.Offer) -> Offer:
    """What a host has."""
    return Offer(cpu_millis=max(0, message.cpu_millis), memory=max(0, message.memory), gpus=max(0, message.gpus))


def inventory(items: Sequence[records_pb2.Held]) -> tuple[Held, ...]:
    """What an agent has on its host."""
    return tuple(
        Held(execution_id=item.execution_id, epoch=item.epoch, phase=_PHASES.get(item.phase, Phase.UNSPECIFIED))
        for item in items
    )


def outgoing(message: Outgoing) -> dispatcher_pb2.ConnectResponse:
    """What an agent is told."""
    match message:
        case Welcome():
            return dispatcher_pb2.ConnectResponse(
                welcome=dispatcher_pb2.Welcome(
                    session=message.session,
                    protocol=message.protocol,
                    beat_every=duration(message.beat_every_ms),
                    lease=duration(message.lease_ms),
                    lost_after=duration(message.lost_after_ms),
                    directives=message.directives,
                    upkeep=message.upkeep,
                )
            )
        case Acknowledged():
            ack = dispatcher_pb2.BeatAck(number=message.number, directives=message.directives, upkeep=message.upkeep)
            return dispatcher_pb2.ConnectResponse(beat_ack=ack)
        case Runs():
            return dispatcher_pb2.ConnectResponse(runs=dispatcher_pb2.Runs(items=message.items))
        case Results():
            return dispatcher_pb2.ConnectResponse(results=dispatcher_pb2.ReportResults(items=message.items))
        case Orders():
            return dispatcher_pb2.ConnectResponse(directives=dispatcher_pb2.Directives(items=message.items))
        case Wish():
            return dispatcher_pb2.ConnectResponse(upkeep=message.upkeep)
        case Farewell():
            return dispatcher_pb2.ConnectResponse(parked=dispatcher_pb2.Parked())


def stop_orders(hints: Sequence[job_store_pb2.StopHint]) -> dict[str, list[records_pb2.Directive]]:
    """Stops, as directives by agent."""
    orders: dict[str, list[records_pb2.Directive]] = {}
    for hint in hints:
        order = records_pb2.Directive(
            kind=records_pb2.Directive.Order.STOP, execution_id=hint.execution_id, epoch=hint.epoch
        )
        orders.setdefault(hint.agent_id, []).append(order)
    return orders


# -------------------------------------------------------------------------------------------------------------- store
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


# ------------------------------------------------------------------------------------------------------------- people
def explanation(execution_id: str, word: Waiting) -> dispatcher_pb2.Explanation:
    """Why an execution waits."""
    return dispatcher_pb2.Explanation(execution_id=execution_id, waiting=waiting(word), agents_here=word.agents_here)


def waiting(word: Waiting) -> job_pb2.Waiting:
    """Why something waits."""
    message = job_pb2.Waiting(
        reason=job_pb2.Waiting.Reason.Value(word.reason.value),
        message=word.message,
        subject=word.subject,
        position=word.position or 0,
    )
    if word.since_ms is not None:
        message.since.FromMilliseconds(word.since_ms)
    if word.next_look_at_ms is not None:
        message.next_look_at.FromMilliseconds(word.next_look_at_ms)
    return message


def asked(request: dispatcher_pb2.ExplainRequest) -> list[Asked]:
    """What is to be explained. Raises InvalidArgument for too many at once."""
    if len(request.items) > MOST_ASKED:
        raise InvalidArgument(
            f"at most {MOST_ASKED} executions at once", fields=[FieldProblem(field="items", message="too many")]
        )
    return [Asked(execution_id=i.execution_id, task_id=i.task_id, agent_id=i.agent_id) for i in request.items]


def matching_response(standing: Standing) -> dispatcher_pb2.GetMatchingResponse:
    """How pools, limits, breakers and agents stand."""
    return dispatcher_pb2.GetMatchingResponse(
        pools=[pool_status(item) for item in standing.pools],
        limits=[limit_status(item) for item in standing.limits],
        problems=[problem(item) for item in standing.troubles],
        agent_ids=standing.agent_ids,
        breakers=[breaker(item, standing.now_ms) for item in standing.breakers],
        used={name: capacity(used) for name, used in standing.used.items()},
        operations=standing.operations,
        blind=standing.blind,
    )


def task_response(words: TaskWords) -> dispatcher_pb2.ExplainTaskResponse:
    """What holds for a task."""
    limits = [limit_status(item) for item in words.limits]
    return dispatcher_pb2.ExplainTaskResponse(pool=words.pool, limits=limits, blind=words.blind)


def pool_response(words: PoolWords) -> dispatcher_pb2.ExplainPoolResponse:
    """How a pool is, and why its work waits."""
    return dispatcher_pb2.ExplainPoolResponse(
        pool=pool_status(words.standing),
        waiting=waiting(words.waiting) if words.waiting else None,
        agent_ids=words.agent_ids,
        agents_here=words.agents_here,
    )


def pool_status(item: PoolStanding) -> farm_service_pb2.PoolStatus:
    """A pool and its numbers."""
    return farm_service_pb2.PoolStatus(
        name=item.pool.name,
        pattern=item.pool.pattern,
        max_running=item.pool.max_running,
        running=item.running,
        slots=item.slots,
        ready=item.ready,
        agents=item.agents,
        healthy_agents=item.healthy_agents,
    )


def limit_status(item: LimitStanding) -> farm_service_pb2.LimitStatus:
    """A limit and its number."""
    return farm_service_pb2.LimitStatus(
        pattern=item.limit.pattern, max_running=item.limit.max_running, running=item.running
    )


def breaker(item: Breaker, now_ms: int) -> farm_service_pb2.Breaker:
    """A breaker that is not closed."""
    message = farm_service_pb2.Breaker(
        kind=farm_service_pb2.Breaker.Kind.Value(item.kind.value),
        subject=item.subject,
        state=farm_service_pb2.Breaker.Phase.Name.Value(item.phase(now_ms).value),
        cause=item.cause,
        failures=item.failures,
    )
    message.since.FromMilliseconds(item.since_ms)
    if now_ms < item.until_ms or not item.probe:
        message.next_try_at.FromMilliseconds(item.until_ms)
    return message


def breaker_kind(kind: farm_service_pb2.Breaker.Kind.ValueType) -> Kind:
    """Which breakers are meant. Raises InvalidArgument where that is not known."""
    try:
        return Kind(farm_service_pb2.Breaker.Kind.Name(kind))
    except ValueError:
        problem = FieldProblem(field="kind", message="HOST or IMAGE")
        raise InvalidArgument("there is no such kind of breaker", fields=[problem]) from None


def capacity(used: Offer) -> farm_service_pb2.Capacity:
    """Resources of a host."""
    return farm_service_pb2.Capacity(cpus=used.cpu_millis / 1000, memory=used.memory, gpus=used.gpus)


def problem(trouble: Trouble) -> farm_service_pb2.Problem:
    """Something that is wrong."""
    message = farm_service_pb2.Problem(subject=trouble.subject, message=trouble.message)
    if trouble.since_ms is not None:
        message.since.FromMilliseconds(trouble.since_ms)
    return message


def duration(milliseconds: int) -> Duration:
    """A Duration of so many milliseconds."""
    result = Duration()
    result.FromMilliseconds(milliseconds)
    return result


def queue(message: farm_store_pb2.TaskQueue) -> Queue:
    """What waits of a task."""
    return Queue(task_id=message.task_id, queued=message.queued, oldest=message.oldest.ToMilliseconds() / 1000)
