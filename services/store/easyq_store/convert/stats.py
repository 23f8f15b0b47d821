"""Statistics as messages."""

from easyq.v1 import stats_pb2
from easyq.v1.job_pb2 import Execution, Failure
from easyq_store.convert import basics
from easyq_store.domain.stats import Point, Stats, Times


def stats(record: Stats, *, task_id: str, step: int) -> stats_pb2.Stats:
    """Statistics of a task, or of the farm, with points of `step` ms."""
    answer = stats_pb2.Stats(
        task_id=task_id,
        from_time=basics.timestamp(record.points[0].at),
        to_time=basics.timestamp(record.points[-1].at + step),
        step=basics.duration(step),
        total=_point(record.total),
        points=[_point(point) for point in record.points],
    )
    for (state, code), count in sorted(record.exits.items(), key=lambda item: -item[1]):
        answer.exits.add(state=Execution.State.ValueType(state), exit_code=code, count=count)
    for reason, count in sorted(record.reasons.items(), key=lambda item: -item[1]):
        answer.reasons.add(reason=Failure.Reason.ValueType(reason), count=count)
    return answer


def _point(point: Point) -> stats_pb2.StatPoint:
    return stats_pb2.StatPoint(
        at=basics.timestamp(point.at),
        jobs=point.jobs,
        executions=point.executions,
        **{state.name.lower(): count for state, count in point.ended.items()},
        run_time=_times(point.run),
        queue_wait=_times(point.wait),
    )


def _times(times: Times | None) -> stats_pb2.Durations | None:
    if times is None:
        return None
    return stats_pb2.Durations(
        count=times.count,
        mean=basics.duration(times.mean),
        p50=basics.duration(times.p50),
        p95=basics.duration(times.p95),
        max=basics.duration(times.longest),
    )
