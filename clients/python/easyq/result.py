"""What became of a job that was run."""

from __future__ import annotations

from dataclasses import dataclass

from easyq.errors import JobFailed
from easyq.v1.job_pb2 import Execution, Job


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a job ended: the job itself, its last execution, and its output unless that went elsewhere.

    `stdout` and `stderr` hold what all attempts wrote, one after the other.
    """

    job: Job
    execution: Execution | None
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def exit_code(self) -> int | None:
        """The container's exit code; None where there was none (it never started, or its host was lost). Of a program
        that isn't there 127, of one that can't be executed 126."""
        if self.execution is not None and self.execution.HasField("exit_code"):
            return self.execution.exit_code
        return None

    @property
    def text(self) -> str:
        """stdout as text: UTF-8, with U+FFFD for what is not."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> None:
        """Raises JobFailed unless the job SUCCEEDED."""
        if self.job.state != Job.SUCCEEDED:
            raise JobFailed(_words(self), result=self)


def result_of(job: Job, stdout: bytes = b"", stderr: bytes = b"") -> RunResult:
    """The result of a job that has ended."""
    return RunResult(job=job, execution=job.executions[-1] if job.executions else None, stdout=stdout, stderr=stderr)


def _words(result: RunResult) -> str:
    job = result.job
    state = Job.State.Name(job.state) if job.state in Job.State.values() else str(int(job.state))
    last = result.execution
    why = last.error.message if last is not None and last.HasField("error") else ""
    if not why and result.exit_code is not None:
        why = f"exit code {result.exit_code}"
    return f"job {job.job_id} {state}: {why}" if why else f"job {job.job_id} {state}"
