"""Agents, sessions, assignments, reports."""

from collections.abc import Iterable

from easyq.v1.farm_service_pb2 import Agent as AgentMessage
from easyq.v1.farm_service_pb2 import Capacity
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1 import records_pb2 as records
from easyq_store.convert.basics import duration, duration_ms, failure_of, head, needs, ready, timestamp
from easyq_store.convert.logs import piece
from easyq_store.convert.spec import without_notices
from easyq_store.domain.decide import End
from easyq_store.domain.moves import Claim, LogSizes
from easyq_store.domain.reconcile import Item, Order
from easyq_store.domain.records import Agent, Head, HeldHead, Needs
from easyq_store.domain.sessions import Beat, Hello, Upkeep, how_it_stands, upkeep_of
from easyq_store.domain.silence import silent_words
from easyq_store.domain.states import Outcome, Phase
from easyq_store.usecases.assign import Assignment, Refused
from easyq_store.usecases.look import NOTHING, Queue
from easyq_store.usecases.report import Finished, GivenBack, Started, Taken, Verdict, Word
from easyq_store.usecases.sessions import Beaten, Gone, Opened, Ordered

_LOST_AFTER_MS = 120_000
_LEASE_MS = 15_000


def hello(request: pb.OpenSessionRequest) -> Hello:
    """What an agent says of itself."""
    lost_after_ms, lease_ms = duration_ms(request.lost_after), duration_ms(request.lease)
    return Hello(
        agent_id=request.agent_id,
        daemon_id=request.daemon_id,
        hostname=request.hostname,
        pools=tuple(request.pools),
        slots=request.slots,
        labels=tuple(sorted(request.labels.items())),
        version=request.version,
        lost_after_ms=lost_after_ms if lost_after_ms > 0 else _LOST_AFTER_MS,
        lease_ms=lease_ms if lease_ms > 0 else _LEASE_MS,
        offer_cpu_millis=request.offer.cpu_millis,
        offer_memory=request.offer.memory,
        offer_gpus=request.offer.gpus,
        healthy=not request.unhealthy,
        message=request.message,
        unhealthy_ms=max(0, duration_ms(request.unhealthy_for)),
    )


def wish(message: records.Upkeep) -> Upkeep:
    """An operator's wish. Errors: INVALID_ARGUMENT (a deadline before now)."""
    deadline = duration_ms(message.deadline_in) if message.HasField("deadline_in") else None
    if deadline is not None and deadline < 0:
        problem = FieldProblem(field="deadline", message="must not be negative")
        raise InvalidArgument("a drain's deadline must not be negative", fields=[problem])
    return Upkeep(cordoned=message.cordoned, draining=message.draining, deadline_in_ms=deadline)


def upkeep(record: Upkeep) -> records.Upkeep:
    """The wish that holds, with the time that is left."""
    return records.Upkeep(
        cordoned=record.cordoned,
        draining=record.draining,
        deadline_in=duration(record.deadline_in_ms),
        version=record.version,
    )


def set_upkeep_response(record: Agent, running: int, used: Needs, *, now: int) -> pb.SetUpkeepResponse:
    """An agent after an operator's wish."""
    return pb.SetUpkeepResponse(agent=agent(record, running, used), upkeep=upkeep(upkeep_of(record, now=now)))


def declared(gone: Gone, running: int) -> pb.DeclareDeadResponse:
    """What was lost with an agent that was declared dead."""
    heads = [ready(each.ready) for each in gone.lost if each.ready is not None]
    return pb.DeclareDeadResponse(agent=agent(gone.agent, running), lost=len(gone.lost), ready=heads)


def inventory(held: Iterable[records.Held]) -> list[Item]:
    """What an agent has on its host."""
    return [
        Item(
            execution_id=item.execution_id,
            epoch=item.epoch,
            phase=Phase(item.phase) if item.phase in Phase._value2member_map_ else None,
        )
        for item in held
    ]


def beat(message: pb.AgentBeat) -> Beat:
    """What an agent says while it stays."""
    return Beat(
        agent_id=message.agent_id,
        session=message.session,
        healthy=message.healthy,
        message=message.message,
        slots=message.slots,
    )


def beat_result(result: Beaten | None) -> pb.BeatResult:
    """The answer to a beat; None: fenced."""
    if result is None:
        return pb.BeatResult(fenced=True)
    return pb.BeatResult(directives=[directive(order) for order in result.orders], upkeep=upkeep(result.upkeep))


def open_session_response(opened: Opened) -> pb.OpenSessionResponse:
    """A new session with its orders."""
    directives = [directive(order) for order in opened.orders]
    return pb.OpenSessionResponse(session=opened.session, directives=directives, upkeep=upkeep(opened.upkeep))


_ORDERS = {
    Order.RUN: records.Directive.Order.RUN,
    Order.ADOPT: records.Directive.Order.ADOPT,
    Order.STOP: records.Directive.Order.STOP,
    Order.KILL: records.Directive.Order.KILL,
}


def directive(ordered: Ordered) -> records.Directive:
    """One order."""
    told = ordered.directive
    return records.Directive(
        kind=_ORDERS[told.order],
        execution_id=told.execution_id,
        epoch=told.epoch,
        assignment=None if ordered.assignment is None else assignment(ordered.assignment),
    )


def assignment(needed: Assignment) -> records.Assignment:
    """All that an agent needs to run an execution."""
    execution = needed.execution
    return records.Assignment(
        execution_id=execution.execution_id,
        epoch=execution.epoch,
        task_id=execution.task_id,
        job_id=execution.job_id,
        attempt=execution.attempt,
        fence=execution.fence,
        spec=without_notices(JobSpec.FromString(needed.spec)),
        start_within=duration(needed.start_within_ms),
        stdout_offset=needed.stdout_offset,
        stderr_offset=needed.stderr_offset,
        trace=needed.trace,
    )


def claim(item: pb.AssignItem) -> Claim:
    """A dispatcher's choice."""
    return Claim(
        execution_id=item.execution_id,
        epoch=item.epoch,
        generation=item.generation,
        agent_id=item.agent_id,
        session=item.session,
        pool=item.pool,
    )


def assign_result(result: Assignment | Refused) -> pb.AssignResult:
    """What became of a claim."""
    if isinstance(result, Assignment):
        return pb.AssignResult(assignment=assignment(result))
    refusal = pb.AssignResult.Refusal.Kind.ValueType(result.refusal.value)
    return pb.AssignResult(refusal=refusal, ready=head(result.ready))


def held_execution(held: HeldHead) -> pb.HeldExecution:
    """An execution that counts against limits."""
    return pb.HeldExecution(
        execution_id=held.execution_id,
        task_id=held.task_id,
        agent_id=held.agent_id,
        session=held.session,
        pool=held.pool,
        epoch=held.epoch,
        needs=needs(held.needs),
    )


def fence_result(result: Head | HeldHead | None) -> pb.FenceResult:
    """How an execution stands after a fence."""
    if isinstance(result, HeldHead):
        return pb.FenceResult(held=held_execution(result))
    return pb.FenceResult(ready=head(result))


def word(message: pb.AgentReport) -> Word:
    """One word of an agent."""
    report = message.report
    return Word(
        agent_id=message.agent_id,
        execution_id=report.execution_id,
        epoch=report.epoch,
        said=_said(report),
    )


def _said(report: records.Report) -> Started | Finished | GivenBack:
    kind = report.WhichOneof("word")
    if kind == "started":
        return Started(container_id=report.started.container_id, image_digest=report.started.image_digest)
    return _finished(report.finish) if kind == "finish" else GivenBack()


def _finished(message: records.Finish) -> Finished:
    known = message.outcome in Outcome._value2member_map_
    return Finished(
        end=End(
            # An outcome of a newer agent tells nothing that this version could rely on.
            outcome=Outcome(message.outcome) if known else Outcome.LOST,
            exit_code=message.exit_code if message.HasField("exit_code") else None,
            oom_killed=message.oom_killed,
            failure=failure_of(message.failure) if message.HasField("failure") else None,
        ),
        sizes=LogSizes(
            stdout=message.stdout_size,
            stderr=message.stderr_size,
            stdout_truncated=message.stdout_truncated,
            stderr_truncated=message.stderr_truncated,
        ),
        tail=tuple(piece(chunk) for chunk in message.tail),
        container_id=message.container_id,
        image_digest=message.image_digest,
        ran_ms=duration_ms(message.ran_for) if message.HasField("ran_for") else None,
    )


_VERDICTS = {
    Verdict.OK: records.ReportResult.Verdict.OK,
    Verdict.STALE: records.ReportResult.Verdict.STALE,
    Verdict.RETRY: records.ReportResult.Verdict.RETRY,
}


def report_result(asked: Word, taken: Taken) -> records.ReportResult:
    """What became of a word."""
    return records.ReportResult(
        execution_id=asked.execution_id,
        epoch=asked.epoch,
        verdict=_VERDICTS[taken.verdict],
        released=taken.released,
        ready=head(taken.ready),
        logs_complete=taken.logs_complete,
    )


def agent(record: Agent, running: int, used: Needs = NOTHING, *, silent: bool = False) -> AgentMessage:
    """An agent, with how many executions it holds, and what these asked for. `silent`: nothing is heard of it."""
    healthy, message = (False, silent_words(record)) if silent else how_it_stands(record)
    unhealthy_since = record.unhealthy_since
    if silent and unhealthy_since is None:
        unhealthy_since = record.last_beat_at
    return AgentMessage(
        agent_id=record.agent_id,
        state=AgentMessage.State.ValueType(record.state),
        hostname=record.hostname,
        pools=record.pools,
        slots=record.slots,
        running=running,
        healthy=healthy,
        message=message,
        daemon_id=record.daemon_id,
        version=record.version,
        session=record.session,
        connected_at=timestamp(record.connected_at),
        last_beat_at=timestamp(record.last_beat_at),
        labels=dict(record.labels),
        cordoned_at=timestamp(record.cordoned_at),
        drained_at=timestamp(record.drained_at),
        drain_deadline=timestamp(record.drain_deadline),
        capacity=Capacity(cpus=record.offer_cpu_millis / 1000, memory=record.offer_memory, gpus=record.offer_gpus),
        used=Capacity(cpus=used.cpu_millis / 1000, memory=used.memory, gpus=used.gpus),
        unhealthy_since=timestamp(unhealthy_since),
        silent_since=timestamp(record.last_beat_at if silent else None),
        declared_dead=record.declared_dead,
    )


def task_queue(queue: Queue) -> pb.TaskQueue:
    """A queue's size and age."""
    return pb.TaskQueue(task_id=queue.task_id, queued=queue.queued, oldest=duration(queue.oldest_ms))
