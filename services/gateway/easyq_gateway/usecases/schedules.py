"""Is a schedule sound, and when does it fire? The scheduler knows; its words go with all others on the same request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from easyq_chassis.errors import Unavailable
from easyq_gateway import convert
from easyq_gateway.domain.problems import Problem, member_path, merge
from easyq_gateway.ports import Scheduler
from easyq_gateway.usecases.checking import Checker
from easyq_internal.scheduler.v1 import scheduler_pb2


class Schedules:
    """Checks requests that have a spec. Where that doesn't recur nobody else is asked."""

    def __init__(self, *, checker: Checker, scheduler: Scheduler) -> None:
        self._checker = checker
        self._scheduler = scheduler

    async def require(
        self, request: Any, found: Sequence[Problem] = (), *, job_id: str = "", anchor: int = 0, count: int = 0
    ) -> Sequence[int]:
        """Returns the next `count` fires (ms since the epoch) of a sound request; none where it does not recur.

        `anchor` (ms) is from when its times are counted, 0 for now.

        Raises `InvalidArgument` with everything that is wrong, `Unavailable` where a schedule can't be checked now.
        """
        known = self._checker.problems(request, found)
        if not (known or convert.is_recurring(request.spec)):
            return ()
        asked = self._question(request, known, "", job_id)
        if asked is None:
            if known:
                raise convert.refusal(known)
            return ()
        asked.anchor, asked.count = anchor, count
        try:
            answer = await self._scheduler.preview(asked)
        except Unavailable:
            if known:
                raise convert.refusal(known) from None
            raise
        problems = merge(known, _told(answer, ""))
        if problems:
            raise convert.refusal(problems)
        return answer.fires

    async def complete(self, request: Any, known: list[Problem], path: str) -> list[Problem]:
        """Returns what is wrong with a request at `path` of which something is known to be, with its schedule's."""
        asked = self._question(request, known, path, "")
        if asked is None:
            return known
        try:
            return merge(known, _told(await self._scheduler.preview(asked), path))
        except Unavailable:
            return known

    def _question(
        self, request: Any, known: Sequence[Problem], path: str, job_id: str
    ) -> scheduler_pb2.PreviewScheduleRequest | None:
        wrong = _wrong(known, path)
        spec = convert.schedule_of(request.spec, wrong, self._checker.defaults.of(request.task_id))
        return None if spec is None else scheduler_pb2.PreviewScheduleRequest(spec=spec, job_id=job_id)


def _wrong(known: Sequence[Problem], path: str) -> frozenset[str]:
    """Returns the fields of the spec that are known to be wrong, by their JSON names."""
    prefix = member_path(path, "spec.")
    return frozenset(
        problem.path.removeprefix(prefix).partition(".")[0].partition("[")[0]
        for problem in known
        if problem.path.startswith(prefix)
    )


def _told(answer: scheduler_pb2.PreviewScheduleResponse, path: str) -> list[Problem]:
    spec = member_path(path, "spec")
    return [Problem(path=member_path(spec, one.field), message=one.message) for one in answer.problems]
