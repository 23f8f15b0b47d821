"""Jobs that run while something breaks, and the proof that nothing of them was lost or done twice."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.support.farm import Program, Rest, Witness, chatty
from tests.support.waiting import wait_until


def mixed_programs(count: int, numbers: random.Random, witness: Witness) -> list[Program]:
    """Some end at once, some write for a second or two; sizes and exit codes differ."""
    return [
        chatty(
            number,
            stdout=numbers.randrange(200_000),
            stderr=numbers.randrange(20_000),
            parts=numbers.choice([1, 2, 4]),
            pause=numbers.choice([0.2, 0.5]),
            exit_code=numbers.choice([0, 0, 3, 143]),
            witness=witness,
        )
        for number in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Lost:
    """An execution whose end is not known, as the job shows it."""

    execution_id: str
    reason: str


class Load:
    """Enqueues programs under a task while `disturb` may run; `rest` gives the client anew where the farm moved.

    Every enqueue has an idempotency key, and is repeated until it is answered.
    """

    def __init__(self, rest: Callable[[], Rest], task: str, programs: Sequence[Program], witness: Witness) -> None:
        self._rest = rest
        self._task = task
        self._programs = programs
        self._witness = witness
        self.job_ids: list[str] = []

    def run(self, disturb: Callable[[], None], *, at: int, timeout: float = 150) -> None:
        """Calls `disturb` once `at` programs have begun; returns when all jobs have ended."""
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(self._enqueue, number) for number in range(len(self._programs))]
            wait_until(lambda: self._begun(futures) >= at, 60, message=f"{at} programs have begun")
            disturb()
            self.job_ids = [future.result() for future in futures]
        self._rest().wait_all(self.job_ids, timeout)

    def _begun(self, futures: list[Future[str]]) -> int:
        for future in futures:
            if future.done():
                future.result()
        return len(self._witness.starts())

    def _enqueue(self, number: int) -> str:
        program = self._programs[number]
        answer = self._rest().enqueue(self._task, program.spec, key=f"{self._task}-{number}")
        job_id: str = answer["jobId"]
        return job_id

    def check(self) -> list[Lost]:
        """Every exit code and byte is right, none ran twice; gives the executions that were lost and run again."""
        rest = self._rest()
        lost: list[Lost] = []
        starts, ends = self._witness.starts(), self._witness.ends()
        self._witness.assert_none_twice()
        for job_id, program in zip(self.job_ids, self._programs, strict=True):
            *before, last = rest.executions(job_id)
            assert rest.job(job_id)["state"] == program.state, rest.job(job_id)
            for execution in before:
                assert execution["state"] == "LOST", execution
                lost.append(Lost(execution_id=execution["executionId"], reason=execution["error"]["reason"]))
            self._check_last(rest, job_id, last, program)
            assert starts[last["executionId"]] == ends[last["executionId"]] == 1, last
        known = {execution["executionId"] for job_id in self.job_ids for execution in rest.executions(job_id)}
        assert set(starts) <= known
        assert rest.get(f"/tasks/{self._task}")["jobCount"] == len(self._programs)
        return lost

    @staticmethod
    def _check_last(rest: Rest, job_id: str, execution: dict[str, Any], program: Program) -> None:
        assert (execution["state"], execution["exitCode"]) == (program.state, program.exit_code), execution
        assert execution["logsComplete"], execution
        for stream, expected in (("stdout", program.stdout), ("stderr", program.stderr)):
            found = rest.output(job_id, stream, execution["executionId"])
            assert found == expected, f"{stream} of {execution['executionId']}: {len(found)} of {len(expected)} bytes"


def random_moment(numbers: random.Random) -> None:
    """A moment more, so that faults don't always meet the same step."""
    threading.Event().wait(numbers.random() * 0.5)
