"""What the dispatcher tells people of its work, as messages."""

from __future__ import annotations

from easyq.v1 import farm_service_pb2, job_pb2
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.domain.explain import Waiting
from easyq_dispatcher.domain.needs import Offer
from easyq_dispatcher.usecases.words import Asked, LimitStanding, PoolStanding, PoolWords, Standing, TaskWords, Trouble
from easyq_internal.dispatcher.v1 import dispatcher_pb2

MOST_ASKED = 1_000


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
