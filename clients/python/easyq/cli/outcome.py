"""What a job's end means for `easyq run`: exit code, words, JSON. Pure."""

from __future__ import annotations

import signal
from typing import Any

from google.protobuf.json_format import MessageToDict

from easyq.cli.stdio import OWN_FAILURE
from easyq.result import RunResult
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2 import CreateJobResponse
from easyq.v1.log_service_pb2 import LogEnd

#: The job's timeout ended it, as coreutils' timeout(1).
TIMED_OUT = 124


def exit_code(result: RunResult, signalled: int | None) -> int:
    """The status to exit with.

    The container's exit code, 126 or 127 where its program can't be run or isn't there; 124 for TIMED_OUT; for STOPPED
    128 plus the number of the signal that asked for it, or 143 where somebody else stopped it; 125 where the job ended
    without a container's exit code.
    """
    state = result.job.state
    if state == Job.TIMED_OUT:
        return TIMED_OUT
    if state == Job.STOPPED:
        return 128 + (signalled or signal.SIGTERM)
    code = result.exit_code
    if state == Job.SUCCEEDED:
        return code or 0
    return code or OWN_FAILURE


def remarks(result: RunResult) -> list[str]:
    """What a person should know about the end, beyond the exit code; nothing where the program simply ended."""
    job, execution = result.job, result.execution
    lines = []
    if job.state in {Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED} or _is_remarkable(execution):
        reason = f": {execution.error.message}" if execution is not None and execution.error.message else ""
        lines.append(f"job {job.job_id} {_WORDS.get(job.state, Job.State.Name(job.state))}{reason}")
    for stream, cut in _cuts(execution):
        if cut:
            lines.append(f"output beyond the job's log limit was dropped from {stream}")
    return lines


def attempt_remark(end: LogEnd, job: Job | None) -> str:
    """Said when an attempt has failed and another one follows; `job` knows more of it."""
    how = f"exit code {end.exit_code}" if end.HasField("exit_code") else end.state
    for execution in job.executions if job is not None else ():
        if execution.execution_id == end.execution_id and execution.error.message:
            how = execution.error.message
    return f"the attempt failed: {how}; EasyQ tries again"


def submitted_json(answer: CreateJobResponse) -> dict[str, Any]:
    """The answer to an enqueue, as REST gives it."""
    document: dict[str, Any] = MessageToDict(answer, always_print_fields_with_no_presence=True)
    return {**document, "spec": document.get("spec")}


def result_json(result: RunResult) -> dict[str, Any]:
    """`easyq run --json`: ids, state, exit code (null where there was none), error (null where there was none), the
    number of attempts, sizes of the outputs, and the container's times in RFC 3339 (null where it never ran)."""
    job, execution = result.job, result.execution
    last = execution or Execution()
    return {
        "taskId": job.task_id,
        "jobId": job.job_id,
        "executionId": last.execution_id or None,
        "state": Job.State.Name(job.state),
        "exitCode": result.exit_code,
        "error": {"reason": Failure.Reason.Name(last.error.reason), "message": last.error.message}
        if last.HasField("error")
        else None,
        "attempts": job.execution_count,
        "stdoutBytes": last.stdout_bytes,
        "stderrBytes": last.stderr_bytes,
        "stdoutTruncated": last.stdout_truncated,
        "stderrTruncated": last.stderr_truncated,
        "startedAt": last.started_at.ToJsonString() if last.HasField("started_at") else None,
        "finishedAt": last.finished_at.ToJsonString() if last.HasField("finished_at") else None,
    }


_WORDS = {
    Job.FAILED: "failed",
    # Its message says after how long.
    Job.TIMED_OUT: "timed out",
    Job.STOPPED: "was stopped",
    Job.EXPIRED: "did not start in time",
}


def _is_remarkable(execution: Execution | None) -> bool:
    if execution is None or not execution.HasField("error"):
        return False
    return execution.error.reason not in {Failure.UNSPECIFIED, Failure.NONZERO_EXIT}


def _cuts(execution: Execution | None) -> list[tuple[str, bool]]:
    if execution is None:
        return []
    return [("stdout", execution.stdout_truncated), ("stderr", execution.stderr_truncated)]
