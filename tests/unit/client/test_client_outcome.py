"""What an end means for `easyq run`."""

import signal

import pytest

from easyq.cli.outcome import attempt_remark, exit_code, remarks, result_json, submitted_json
from easyq.result import RunResult
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2 import CreateJobResponse
from easyq.v1.log_service_pb2 import LogEnd


def result(state: str, code: int | None = None, error: Failure | None = None, **execution: bool) -> RunResult:
    last = Execution(execution_id="e", error=error, exit_code=code, **execution)  # type: ignore[arg-type]
    return RunResult(job=Job(job_id="j", task_id="t", state=Job.State.Value(state)), execution=last)


@pytest.mark.parametrize(
    ("state", "code", "signalled", "expected"),
    [
        ("SUCCEEDED", 0, None, 0),
        ("FAILED", 3, None, 3),
        ("FAILED", 137, None, 137),
        ("FAILED", None, None, 125),
        ("FAILED", 0, None, 125),
        ("EXPIRED", None, None, 125),
        ("TIMED_OUT", 143, None, 124),
        ("STOPPED", 0, signal.SIGINT, 130),
        ("STOPPED", None, signal.SIGTERM, 143),
        ("STOPPED", None, None, 143),
        ("SUCCEEDED", 0, signal.SIGINT, 0),
    ],
)
def test_the_exit_code(state: str, code: int | None, signalled: int | None, expected: int) -> None:
    assert exit_code(result(state, code), signalled) == expected


@pytest.mark.parametrize("code", [126, 127])
def test_a_program_that_cannot_be_run_exits_as_in_a_shell(code: int) -> None:
    refused = result("FAILED", code, Failure(reason=Failure.START_FAILED, message="no such program"))
    assert exit_code(refused, None) == code
    assert remarks(refused) == ["job j failed: no such program"]


def test_a_job_without_executions_has_no_exit_code() -> None:
    nothing = RunResult(job=Job(state=Job.STOPPED), execution=None)
    assert nothing.exit_code is None
    assert result_json(nothing)["executionId"] is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (result("SUCCEEDED", 0), []),
        (result("FAILED", 3, Failure(reason=Failure.NONZERO_EXIT, message="exit code 3")), []),
        (
            result("FAILED", None, Failure(reason=Failure.IMAGE_NOT_FOUND, message="no image x:1")),
            ["job j failed: no image x:1"],
        ),
        (
            result("FAILED", 137, Failure(reason=Failure.OOM_KILLED, message="out of memory")),
            ["job j failed: out of memory"],
        ),
        (result("TIMED_OUT", 143), ["job j timed out"]),
        (
            result("TIMED_OUT", 143, Failure(reason=Failure.TIMEOUT, message="ran longer than 1 s")),
            ["job j timed out: ran longer than 1 s"],
        ),
        (result("STOPPED"), ["job j was stopped"]),
        (result("SUCCEEDED", 0, stdout_truncated=True), ["output beyond the job's log limit was dropped from stdout"]),
    ],
)
def test_only_what_the_exit_code_does_not_tell_is_said(outcome: RunResult, expected: list[str]) -> None:
    assert remarks(outcome) == expected


def test_an_attempt_that_is_followed_by_another() -> None:
    assert "exit code 7" in attempt_remark(LogEnd(execution_id="e", state="FAILED", exit_code=7), None)
    lost = LogEnd(execution_id="e", state="LOST")
    assert "LOST" in attempt_remark(lost, Job())
    why = Execution(execution_id="e", error=Failure(reason=Failure.HOST_LOST, message="its host is silent"))
    assert attempt_remark(lost, Job(executions=[why])) == "the attempt failed: its host is silent; EasyQ tries again"


def test_the_json_of_a_result() -> None:
    outcome = result("FAILED", 3, Failure(reason=Failure.NONZERO_EXIT, message="m"))
    outcome.execution.started_at.FromMilliseconds(1_500)  # type: ignore[union-attr]
    document = result_json(outcome)
    assert (document["jobId"], document["state"], document["exitCode"]) == ("j", "FAILED", 3)
    assert document["error"] == {"reason": "NONZERO_EXIT", "message": "m"}
    assert (document["startedAt"], document["finishedAt"]) == ("1970-01-01T00:00:01.500Z", None)
    assert result_json(result("SUCCEEDED", 0))["error"] is None


def test_the_json_of_an_enqueue_is_that_of_rest() -> None:
    document = submitted_json(CreateJobResponse(task_id="t", job_id="j"))
    assert set(document) == {field.json_name for field in CreateJobResponse.DESCRIPTOR.fields}
    assert (document["taskId"], document["jobId"], document["spec"]) == ("t", "j", None)
