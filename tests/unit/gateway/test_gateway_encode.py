"""Answers of REST."""

import json

import pytest

from easyq.v1.farm_service_pb2 import Agent
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2 import CreateJobResponse
from easyq.v1.log_service_pb2 import LogChunk
from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway.codec.encode import shower, to_json, to_tree


def test_the_answer_of_a_post_to_the_letter() -> None:
    answer = CreateJobResponse(task_id="t", job_id="5b8db248edc7d584132a6d4d", queue_job_id="q", execution_id="q")
    assert to_json(answer) == (
        '{"taskId": "t", "jobId": "5b8db248edc7d584132a6d4d", "queueJobId": "q", "executionId": "q", "taskUrl": "", '
        '"jobUrl": "", "executionUrl": "", "replayed": false, "spec": null, "nextFires": []}'
    )


@pytest.mark.parametrize("message", [Job(), Execution(), JobSpec(), Agent()])
def test_every_declared_field_is_shown_in_order(message: Job | Execution | JobSpec | Agent) -> None:
    assert list(to_tree(message)) == [field.json_name for field in message.DESCRIPTOR.fields]


def test_what_is_unset_is_null() -> None:
    tree = to_tree(Execution())
    assert tree["exitCode"] is None
    assert tree["error"] is None
    assert tree["startedAt"] is None
    assert tree["state"] is None
    assert tree["host"] == ""
    assert tree["stdoutBytes"] == 0
    assert tree["command"] == []
    assert tree["envs"] == {}
    assert to_tree(JobSpec())["cron"] is None


def test_values() -> None:
    execution = Execution(
        state=Execution.LOST, exit_code=0, stdout_bytes=2**60, error=Failure(reason=Failure.OOM_KILLED)
    )
    execution.started_at.FromMilliseconds(1_900_000_000_123)
    execution.envs["B"], execution.envs["A"] = "é", "1"
    tree = json.loads(to_json(execution))
    assert (tree["state"], tree["exitCode"], tree["stdoutBytes"]) == ("LOST", 0, 2**60)
    assert tree["error"] == {"reason": "OOM_KILLED", "message": ""}
    assert tree["startedAt"] == "2030-03-17T17:46:40.123Z"
    assert list(tree["envs"].items()) == [("A", "1"), ("B", "é")]


@pytest.mark.parametrize(
    ("seconds", "nanos", "shown"),
    [
        (0, 0, "1970-01-01T00:00:00.000Z"),
        (-1, 999_999_999, "1969-12-31T23:59:59.999Z"),
        (-62_135_596_800, 0, "0001-01-01T00:00:00.000Z"),
        (253_402_300_799, 0, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_times(seconds: int, nanos: int, shown: str) -> None:
    job = Job()
    job.created_at.seconds, job.created_at.nanos = seconds, nanos
    assert to_tree(job)["createdAt"] == shown


def test_durations() -> None:
    spec = JobSpec()
    spec.timeout.FromMilliseconds(9_050_000)
    spec.stop_grace.FromMilliseconds(1_250)
    tree = to_tree(spec)
    assert (tree["timeout"], tree["stopGrace"]) == ("9050s", "1.250s")


def test_free_data_and_numbers() -> None:
    spec = JobSpec()
    spec.metadata.update({"b": 1, "a": [0.5, None, {"x": True}], "c": 1e300, "d": 2**53})
    spec.backoff.factor = 2
    spec.backoff.jitter = 0.5
    assert to_json(spec.backoff) == '{"min": null, "factor": 2, "max": null, "jitter": 0.5, "maxElapsed": null}'
    assert json.dumps(to_tree(spec)["metadata"]) == (
        '{"a": [0.5, null, {"x": true}], "b": 1, "c": 1e+300, "d": 9007199254740992}'
    )


def test_a_number_that_json_can_not_say() -> None:
    spec = JobSpec()
    spec.backoff.factor = float("nan")
    assert to_tree(spec)["backoff"]["factor"] is None


def test_a_state_of_a_later_version_is_shown_as_its_number() -> None:
    assert to_tree(Job(state=99))["state"] == 99  # type: ignore[arg-type]


def test_what_rest_has_no_form_for_is_found_at_the_start() -> None:
    with pytest.raises(TypeError, match=r"LogChunk\.data"):
        shower(LogChunk.DESCRIPTOR)
