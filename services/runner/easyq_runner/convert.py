"""The runner's words and the protos', both ways. Proto conversion happens nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from easyq.v1 import job_pb2, log_service_pb2, spec_pb2
from easyq_chassis.status import clip
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.store.v1 import log_store_pb2, records_pb2
from easyq_runner.domain.records import (
    Assignment,
    ContainerSpec,
    ExecutionKey,
    Failure,
    Finish,
    GiveBack,
    Held,
    Mount,
    MountKind,
    OnLost,
    Order,
    OrderKind,
    PullMode,
    Report,
    ReportAnswer,
    Started,
    Stream,
    Terms,
    Upkeep,
    Verdict,
)
from easyq_runner.ports import (
    AppendAnswer,
    Beat,
    BeatAnswer,
    Goodbye,
    Health,
    Hello,
    Incoming,
    Orders,
    Outgoing,
    Parked,
    ReportAnswers,
    Reports,
    UpkeepNews,
    Welcome,
)

#: Versions of the link's protocol that this agent speaks.
PROTOCOL_MIN = PROTOCOL_MAX = 1

# What the gateway resolves unset fields to; used should an assignment come without.
_DEFAULT_GRACE = 10.0
_DEFAULT_LOG_LIMIT = 100 * 1024 * 1024
_LONGEST_MESSAGE = 1000

_STREAMS = {Stream.STDOUT: log_service_pb2.LogStream.STDOUT, Stream.STDERR: log_service_pb2.LogStream.STDERR}
_ON_LOST = {spec_pb2.OnLost.FAIL: OnLost.FAIL, spec_pb2.OnLost.WAIT: OnLost.WAIT}
_PULLS = {
    spec_pb2.Pull.ALWAYS: PullMode.ALWAYS,
    spec_pb2.Pull.MISSING: PullMode.MISSING,
    spec_pb2.Pull.NEVER: PullMode.NEVER,
}
_MOUNTS = {spec_pb2.Mount.Type.VOLUME: MountKind.VOLUME, spec_pb2.Mount.Type.TMPFS: MountKind.TMPFS}
_ORDERS = {
    records_pb2.Directive.Order.RUN: OrderKind.RUN,
    records_pb2.Directive.Order.ADOPT: OrderKind.ADOPT,
    records_pb2.Directive.Order.STOP: OrderKind.STOP,
    records_pb2.Directive.Order.KILL: OrderKind.KILL,
}
_REPORT_VERDICTS = {
    records_pb2.ReportResult.Verdict.OK: Verdict.OK,
    records_pb2.ReportResult.Verdict.STALE: Verdict.STALE,
}
_APPEND_VERDICTS = {
    log_store_pb2.AppendResult.Verdict.GAP: Verdict.GAP,
    log_store_pb2.AppendResult.Verdict.STALE: Verdict.STALE,
}


# -------------------------------------------------------------------------------------------------- to the dispatcher
def hello_to_proto(hello: Hello) -> dispatcher_pb2.ConnectRequest:
    return dispatcher_pb2.ConnectRequest(
        hello=dispatcher_pb2.Hello(
            agent_id=hello.agent_id,
            daemon_id=hello.daemon_id,
            hostname=hello.hostname,
            pools=hello.pools,
            slots=hello.slots,
            labels=hello.labels,
            version=hello.version,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            inventory=_inventory(hello.inventory),
            health=_health(hello.health),
            offer=records_pb2.Offer(
                cpu_millis=hello.offer.cpu_millis, memory=hello.offer.memory, gpus=hello.offer.gpus
            ),
            operations=hello.operations,
        )
    )


def outgoing_to_proto(message: Outgoing) -> dispatcher_pb2.ConnectRequest:
    if isinstance(message, Beat):
        beat = dispatcher_pb2.Beat(number=message.number, inventory=_inventory(message.inventory))
        return dispatcher_pb2.ConnectRequest(beat=beat)
    if isinstance(message, Reports):
        reports = dispatcher_pb2.Reports(items=[_report(item) for item in message.items])
        return dispatcher_pb2.ConnectRequest(reports=reports)
    if isinstance(message, Health):
        return dispatcher_pb2.ConnectRequest(health=_health(message))
    assert isinstance(message, Goodbye)  # noqa: S101 - for the type checker: nothing else is left
    return dispatcher_pb2.ConnectRequest(goodbye=dispatcher_pb2.Goodbye())


def _health(health: Health) -> dispatcher_pb2.Health:
    lasts = None if health.healthy else _duration(health.unhealthy_for)
    return dispatcher_pb2.Health(healthy=health.healthy, message=health.message, unhealthy_for=lasts)


def _inventory(held: Iterable[Held]) -> list[records_pb2.Held]:
    return [
        records_pb2.Held(
            execution_id=one.key.execution_id,
            epoch=one.key.epoch,
            phase=records_pb2.Held.Phase.Name.Value(one.phase.name),
        )
        for one in held
    ]


def _report(report: Report) -> records_pb2.Report:
    made = records_pb2.Report(execution_id=report.key.execution_id, epoch=report.key.epoch)
    word = report.word
    if isinstance(word, Started):
        made.started.container_id = word.container_id
        made.started.image_digest = word.image_digest
    elif isinstance(word, GiveBack):
        give_back = records_pb2.GiveBack(failure=_failure(word.failure), retry_after=_duration(word.retry_after))
        made.give_back.CopyFrom(give_back)
    else:
        made.finish.CopyFrom(_finish(report.key, word))
    return made


def _finish(key: ExecutionKey, finish: Finish) -> records_pb2.Finish:
    return records_pb2.Finish(
        outcome=records_pb2.Finish.Outcome.Kind.Value(finish.outcome.name),
        exit_code=finish.exit_code,
        oom_killed=finish.oom_killed,
        failure=_failure(finish.failure) if finish.failure else None,
        stdout_size=finish.stdout.size,
        stderr_size=finish.stderr.size,
        stdout_truncated=finish.stdout.truncated,
        stderr_truncated=finish.stderr.truncated,
        tail=[chunk_to_proto(key, part.stream, part.offset, part.data) for part in finish.tail],
        container_id=finish.container_id,
        image_digest=finish.image_digest,
        ran_for=_duration(finish.ran_for),
    )


def _failure(failure: Failure) -> job_pb2.Failure:
    # Engines and registries can be wordy.
    message = clip(failure.message, _LONGEST_MESSAGE)
    return job_pb2.Failure(reason=job_pb2.Failure.Reason.Value(failure.reason.name), message=message)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


# ------------------------------------------------------------------------------------------------ from the dispatcher
def welcome_from_proto(message: dispatcher_pb2.Welcome) -> Welcome:
    return Welcome(
        session=message.session,
        beat_every=_seconds(message.beat_every),
        start_within=_seconds(message.lease),
        lost_after=_seconds(message.lost_after),
        orders=_orders(message.directives),
        upkeep=_upkeep(message.upkeep),
    )


def incoming_from_proto(message: dispatcher_pb2.ConnectResponse) -> Incoming | None:
    """None for kinds of messages that this version does not know."""
    kind = message.WhichOneof("message")
    if kind == "beat_ack":
        ack = message.beat_ack
        return BeatAnswer(number=ack.number, orders=_orders(ack.directives), upkeep=_upkeep(ack.upkeep))
    if kind == "runs":
        return Orders(items=tuple(_run(item) for item in message.runs.items))
    if kind == "results":
        return ReportAnswers(items=tuple(_answer(item) for item in message.results.items))
    if kind == "directives":
        return Orders(items=_orders(message.directives.items))
    if kind == "upkeep":
        return UpkeepNews(upkeep=_upkeep(message.upkeep))
    return Parked() if kind == "parked" else None


def _upkeep(upkeep: records_pb2.Upkeep) -> Upkeep:
    """An unset one wishes nothing."""
    return Upkeep(
        cordoned=upkeep.cordoned,
        draining=upkeep.draining,
        deadline_in=_seconds(upkeep.deadline_in) if upkeep.HasField("deadline_in") else None,
    )


def _orders(directives: Iterable[records_pb2.Directive]) -> tuple[Order, ...]:
    """Kinds that this version does not know are left out."""
    return tuple(
        Order(
            kind=_ORDERS[one.kind],
            key=ExecutionKey(one.execution_id, one.epoch),
            assignment=assignment_from_proto(one.assignment) if one.HasField("assignment") else None,
        )
        for one in directives
        if one.kind in _ORDERS
    )


def _run(item: records_pb2.Assignment) -> Order:
    assignment = assignment_from_proto(item)
    return Order(kind=OrderKind.RUN, key=assignment.terms.key, assignment=assignment)


def _answer(result: records_pb2.ReportResult) -> ReportAnswer:
    return ReportAnswer(
        key=ExecutionKey(result.execution_id, result.epoch),
        verdict=_REPORT_VERDICTS.get(result.verdict, Verdict.RETRY),
        logs_complete=result.logs_complete,
    )


def assignment_from_proto(item: records_pb2.Assignment) -> Assignment:
    spec = item.spec
    terms = Terms(
        key=ExecutionKey(item.execution_id, item.epoch),
        task_id=item.task_id,
        job_id=item.job_id,
        attempt=item.attempt,
        fence=item.fence,
        timeout=_seconds(spec.timeout) if spec.HasField("timeout") else None,
        stop_grace=_seconds(spec.stop_grace) if spec.HasField("stop_grace") else _DEFAULT_GRACE,
        log_limit=spec.log_limit if spec.HasField("log_limit") else _DEFAULT_LOG_LIMIT,
        on_lost=_ON_LOST.get(spec.on_lost, OnLost.RERUN),
        memory_limited=spec.resources.memory > 0,
        trace=item.trace,
    )
    return Assignment(
        terms=terms,
        spec=_spec(spec),
        start_within=_seconds(item.start_within) if item.HasField("start_within") else None,
    )


def _spec(spec: spec_pb2.JobSpec) -> ContainerSpec:
    return ContainerSpec(
        image=spec.image,
        command=tuple(spec.command),
        entrypoint=tuple(spec.entrypoint),
        envs=dict(spec.envs),
        labels=dict(spec.labels),
        pull=_PULLS.get(spec.pull, PullMode.UNSPECIFIED),
        workdir=spec.workdir,
        user=spec.user,
        network=spec.network,
        mounts=tuple(_mount(one) for one in spec.mounts),
        init=spec.init,
        shm_size=spec.shm_size,
        platform=spec.platform,
        privileged=spec.privileged,
        devices=tuple(spec.devices),
        cpus=spec.resources.cpus,
        memory=spec.resources.memory,
        pids=spec.resources.pids,
        gpus=spec.resources.gpus,
    )


def _mount(mount: spec_pb2.Mount) -> Mount:
    kind = _MOUNTS.get(mount.type, MountKind.BIND)
    return Mount(kind=kind, source=mount.source, target=mount.target, read_only=mount.read_only)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


# ------------------------------------------------------------------------------------------------------------- logs
def chunk_to_proto(key: ExecutionKey, stream: Stream, offset: int, data: bytes) -> records_pb2.Chunk:
    return records_pb2.Chunk(
        execution_id=key.execution_id, epoch=key.epoch, stream=_STREAMS[stream], offset=offset, data=data
    )


def append_answer_from_proto(result: log_store_pb2.AppendResult) -> AppendAnswer:
    return AppendAnswer(verdict=_APPEND_VERDICTS.get(result.verdict, Verdict.OK), stored=result.stored)
