"""The public gRPC API on its own port: reflection, health, calls, streams."""

import itertools
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.v1 import job_pb2, job_service_pb2, log_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from tests.support.farm import Rest, UpFarm, chatty
from tests.support.hosts import EXAMPLE_IMAGE
from tests.support.missing import require_program


@pytest.fixture
def channel(farm: UpFarm) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(farm.grpc_address) as channel:
        yield channel


def grpcurl(farm: UpFarm, *arguments: str) -> str:
    program = require_program("grpcurl", "install Go, then `make servers` builds it")
    done = subprocess.run([program, "-plaintext", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def spec(script: str, **more: Any) -> spec_pb2.JobSpec:
    return spec_pb2.JobSpec(image=EXAMPLE_IMAGE, command=["sh", "-c", script], **more)


def test_grpcurl_lists_describes_and_enqueues(farm: UpFarm, rest: Rest, task: str) -> None:
    services = grpcurl(farm, farm.grpc_address, "list").split()
    assert {f"easyq.v1.{name}Service" for name in ("Job", "Execution", "Task", "Farm", "Log")} <= set(services)
    assert "grpc.health.v1.Health" in services
    assert not [name for name in services if name.startswith("easyq_internal")]
    described = grpcurl(farm, farm.grpc_address, "describe", "easyq.v1.JobService")
    assert "rpc CreateJob ( .easyq.v1.CreateJobRequest ) returns ( .easyq.v1.CreateJobResponse )" in described
    assert "metadata" in grpcurl(farm, farm.grpc_address, "describe", "easyq.v1.JobSpec")
    body = json.dumps({"taskId": task, "spec": {"image": EXAMPLE_IMAGE, "command": ["echo", "hi"]}})
    answer = json.loads(grpcurl(farm, "-d", body, farm.grpc_address, "easyq.v1.JobService/CreateJob"))
    # Reflection serves descriptors as protobuf's Python code has them, without JSON names.
    job = rest.wait_job(answer.get("jobId") or answer["job_id"])
    assert rest.output(job["jobId"], "stdout") == b"hi\n"


def test_health(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_output_is_followed_live_over_attempts(channel: grpc.Channel, task: str) -> None:
    jobs, logs = JobServiceStub(channel), LogServiceStub(channel)
    script = 'echo "attempt $EASYQ_FENCE"; sleep 0.3; echo done >&2; [ "$EASYQ_FENCE" -gt 1 ]'
    wish = spec(script, retries=1)
    wish.backoff.min.FromMilliseconds(100)
    answer = jobs.CreateJob(job_service_pb2.CreateJobRequest(task_id=task, spec=wish), timeout=10)
    events = list(logs.ReadLogs(log_service_pb2.ReadLogsRequest(job_id=answer.job_id, follow=True), timeout=60))
    ends = [event.end for event in events if event.WhichOneof("event") == "end"]
    assert [(end.state, end.exit_code, end.job_ended) for end in ends] == [("FAILED", 1, False), ("SUCCEEDED", 0, True)]
    for end in ends:
        chunks = [event.chunk for event in events if event.chunk.execution_id == end.execution_id]
        by_stream = {
            stream: b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
            for stream in (log_service_pb2.LogStream.STDOUT, log_service_pb2.LogStream.STDERR)
        }
        assert by_stream[log_service_pb2.LogStream.STDOUT].startswith(b"attempt ")
        assert by_stream[log_service_pb2.LogStream.STDERR] == b"done\n"
    job = jobs.GetJob(job_service_pb2.GetJobRequest(job_id=answer.job_id), timeout=10)
    assert job.state == job_pb2.Job.SUCCEEDED
    fences = [execution.fence for execution in job.executions]
    assert fences == sorted(set(fences))


def test_logs_from_an_offset(channel: grpc.Channel, rest: Rest, task: str) -> None:
    program = chatty(9, stdout=600_000, stderr=0)
    job = rest.run(task, program.spec)
    request = log_service_pb2.ReadLogsRequest(
        execution_id=job["executions"][0]["executionId"],
        streams=[log_service_pb2.LogStream.STDOUT],
        stdout_offset=400_001,
    )
    chunks = [e.chunk for e in LogServiceStub(channel).ReadLogs(request, timeout=30) if e.HasField("chunk")]
    assert b"".join(chunk.data for chunk in chunks) == program.stdout[400_001:]
    assert chunks[0].offset == 400_001
    for one, two in itertools.pairwise(chunks):
        assert one.offset + len(one.data) == two.offset


def test_a_stream_of_jobs_is_acknowledged_in_order(channel: grpc.Channel, rest: Rest, task: str) -> None:
    def requests() -> Iterator[job_service_pb2.SubmitJobsRequest]:
        for number in range(30):
            bad = number % 10 == 3
            item = job_service_pb2.BatchItem(task_id=task, spec=spec(f"exit {number % 2}"))
            if bad:
                item.spec.image = ""
            yield job_service_pb2.SubmitJobsRequest(item=item)

    results = [answer.result for answer in JobServiceStub(channel).SubmitJobs(requests(), timeout=60)]
    assert [result.index for result in results] == list(range(30))
    for result in results:
        if result.index % 10 == 3:
            assert result.error.code == "INVALID_ARGUMENT"
            assert "image" in result.error.fields[0].field
        else:
            state = rest.wait_job(result.job.job_id)["state"]
            assert state == ("FAILED" if result.index % 2 else "SUCCEEDED")
