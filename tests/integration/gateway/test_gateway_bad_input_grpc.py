"""Bad input by gRPC: INVALID_ARGUMENT with BadRequest, nothing stored."""

from typing import Any

import grpc.aio
import pytest
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import execution_service_pb2, farm_service_pb2, log_service_pb2, task_service_pb2
from easyq.v1 import job_service_pb2 as api
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2_grpc import TaskServiceStub
from easyq_chassis.errors import Code, EasyQError
from easyq_chassis.status import from_rpc_error
from tests.integration.gateway.conftest import Client

ID = "5b8db248edc7d584132a6d4d"
EXECUTION = "77cfabbb-1864-4073-afe7-0efe01014754"


LATER_ON = Timestamp(seconds=2_000_000_000)


def create(task: str = "t", **spec: Any) -> api.CreateJobRequest:
    return api.CreateJobRequest(task_id=task, spec=JobSpec(**{"image": "a", **spec}))


async def refused(call: Any) -> EasyQError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    status = from_rpc_error(error.value)
    assert "Traceback" not in status.message
    return status


def later(request: Any, where: str = "") -> Any:
    """The request with a field of a later version at `where`."""
    place = request
    for name in where.split("."):
        place = getattr(place, name) if name else place
    place.MergeFromString(b"\xb8\x3e\x01")
    return request


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (create(""), ["taskId"]),
        (api.CreateJobRequest(task_id="t"), ["spec"]),
        (create(image=""), ["spec.image"]),
        (create(image="A b", retries=5000, envs={"EASYQ_X": "1"}),
         ["spec.image", "spec.retries", 'spec.envs["EASYQ_X"]']),
        (create(command=["\0"]), ["spec.command[0]"]),
        (create(command=["x" * 131_072]), ["spec.command[0]"]),
        (create(envs={f"A{i}": "x" * 100_000 for i in range(3)}), ["spec"]),
        (create(metadata=struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=float("nan"))})),
         ['spec.metadata["a"]']),
        (create(cron="every day"), ["spec.cron"]),
        (create(cron="x" * 257), ["spec.cron"]),
        (create(cron="every day", time_zone="Mars", max_runs=1), ["spec.cron", "spec.timeZone"]),
        (create(cron="every day", image="A b", overlap=9), ["spec.image", "spec.overlap", "spec.cron"]),
        (create(cron="@daily", misfire=9), ["spec.misfire"]),
        (create(cron="@daily", jitter=Duration(seconds=86_401)), ["spec.jitter"]),
        (create(cron="@daily", jitter=Duration(seconds=1, nanos=-1)), ["spec.jitter"]),
        (create(cron="@daily", misfire_deadline=Duration(nanos=5)), ["spec.misfireDeadline"]),
        (create(cron="@daily", end_at=Timestamp(seconds=5)), ["spec.endAt"]),
        (create(cron="@daily", start_after=Timestamp(nanos=-5)), ["spec.startAfter"]),
        (create(cron="@daily", start_after=LATER_ON, end_at=LATER_ON), ["spec.endAt"]),
        (create(time_zone="UTC", overlap=1, misfire=3, jitter=Duration(), misfire_deadline=Duration(seconds=60),
                start_after=LATER_ON, end_at=LATER_ON, max_runs=1),
         ["spec.timeZone", "spec.overlap", "spec.misfire", "spec.jitter", "spec.misfireDeadline", "spec.startAfter",
          "spec.endAt", "spec.maxRuns"]),
        (create(agent_labels={"-": ""}), ['spec.agentLabels["-"]']),
        (create(agent_labels={"a": "\0"}), ['spec.agentLabels["a"]']),
        (later(create()), [""]),
        (later(create(), "spec"), ["spec"]),
        (later(create(), "spec.backoff"), ["spec.backoff"]),
    ],
)  # fmt: skip
async def test_creates(gateway: Client, request_: Any, fields: list[str]) -> None:
    error = await refused(JobServiceStub(gateway.channel).CreateJob(request_))
    assert error.code is Code.INVALID_ARGUMENT
    assert [field.field for field in error.fields] == fields
    assert all(field.message for field in error.fields)
    assert gateway.store.submits == []


async def test_many_errors_fit_the_metadata(gateway: Client) -> None:
    error = await refused(
        JobServiceStub(gateway.channel).CreateJob(create(envs={f"EASYQ_{i}" * 50: "1" for i in range(300)}))
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert 1 <= len(error.fields) <= 16
    assert error.message.startswith("300 fields are wrong")


async def test_what_can_not_be_parsed_is_the_callers_fault(gateway: Client) -> None:
    """gRPC's own answer is INTERNAL, as if it were ours."""
    too_deep = create()
    value = too_deep.spec.metadata
    for _ in range(60):
        value = value.fields["a"].struct_value
    value.SetInParent()
    for data in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe", too_deep.SerializeToString()):
        call: Any = gateway.channel.unary_unary("/easyq.v1.JobService/CreateJob")
        error = await refused(call(data))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_BODY")
    submit: Any = gateway.channel.stream_stream("/easyq.v1.JobService/SubmitJobs")
    stream = submit()
    await stream.write(b"\xff\xff\xff")
    assert (await refused(stream.read())).reason == "MALFORMED_BODY"
    logs: Any = gateway.channel.unary_stream("/easyq.v1.LogService/ReadLogs")
    assert (await refused(logs(b"\xff\xff\xff").read())).reason == "MALFORMED_BODY"


def calls(channel: grpc.aio.Channel) -> dict[str, Any]:
    jobs: Any = JobServiceStub(channel)
    executions: Any = ExecutionServiceStub(channel)
    farm: Any = FarmServiceStub(channel)
    tasks: Any = TaskServiceStub(channel)
    return {
        "put": jobs.PutJob(api.PutJobRequest(task_id="t", job_id="/", spec=JobSpec(image="a"))),
        "get": jobs.GetJob(api.GetJobRequest()),
        "get unknown": jobs.GetJob(api.GetJobRequest(job_id=ID)),
        "list": jobs.ListJobs(api.ListJobsRequest(state=[Job.QUEUED, 99])),  # type: ignore[list-item]
        "list token": jobs.ListJobs(api.ListJobsRequest(page_token="x")),
        "stop": jobs.StopJob(api.StopJobRequest()),
        "stop unknown": jobs.StopJob(api.StopJobRequest(job_id=ID)),
        "retry unknown": jobs.RetryJob(api.RetryJobRequest(job_id=ID)),
        "execution": executions.GetExecution(execution_service_pb2.GetExecutionRequest(execution_id="x")),
        "execution unknown": executions.GetExecution(execution_service_pb2.GetExecutionRequest(execution_id=EXECUTION)),
        "executions": executions.ListExecutions(execution_service_pb2.ListExecutionsRequest(page_size=1001)),
        "stop execution": executions.StopExecution(execution_service_pb2.StopExecutionRequest(execution_id="x")),
        "task": TaskServiceStub(channel).GetTask(task_service_pb2.GetTaskRequest()),
        "task unknown": TaskServiceStub(channel).GetTask(task_service_pb2.GetTaskRequest(task_id="x")),
        "tasks": TaskServiceStub(channel).ListTasks(later(task_service_pb2.ListTasksRequest())),
        "agent": farm.GetAgent(farm_service_pb2.GetAgentRequest()),
        "agent unknown": farm.GetAgent(farm_service_pb2.GetAgentRequest(agent_id="x")),
        "pause": jobs.PauseJob(api.PauseJobRequest()),
        "pause unknown": jobs.PauseJob(api.PauseJobRequest(job_id=ID)),
        "resume": jobs.ResumeJob(later(api.ResumeJobRequest(job_id=ID))),
        "resume unknown": jobs.ResumeJob(api.ResumeJobRequest(job_id=ID)),
        "trigger": jobs.TriggerJob(api.TriggerJobRequest()),
        "trigger unknown": jobs.TriggerJob(api.TriggerJobRequest(job_id=ID)),
        "schedule": jobs.GetSchedule(api.GetScheduleRequest(job_id=ID, next=1001)),
        "schedule unknown": jobs.GetSchedule(api.GetScheduleRequest(job_id=ID)),
        "explain": jobs.ExplainJob(api.ExplainJobRequest()),
        "explain unknown": jobs.ExplainJob(api.ExplainJobRequest(job_id=ID)),
        "delete": jobs.DeleteJob(api.DeleteJobRequest(force=True)),
        "delete unknown": jobs.DeleteJob(api.DeleteJobRequest(job_id=ID)),
        "stop many": jobs.StopJobs(api.StopJobsRequest()),
        "stop all": jobs.StopJobs(api.StopJobsRequest(selection=api.JobSelection())),
        "stop pattern": jobs.StopJobs(api.StopJobsRequest(selection=api.JobSelection(task_pattern="a{2,1}"))),
        "stop state": jobs.StopJobs(api.StopJobsRequest(selection=api.JobSelection(state=[99]))),  # type: ignore[list-item]
        "stop old": jobs.StopJobs(api.StopJobsRequest(selection=api.JobSelection(older_than=Duration(seconds=-1)))),
        "errors": jobs.ListErrors(api.ListErrorsRequest(page_size=0)),
        "retry many": jobs.RetryErrors(api.RetryErrorsRequest()),
        "retry state": jobs.RetryErrors(api.RetryErrorsRequest(selection=api.JobSelection(state=[Job.STOPPED]))),
        "discard many": jobs.DiscardErrors(api.DiscardErrorsRequest()),
        "discard label": jobs.DiscardErrors(api.DiscardErrorsRequest(selection=api.JobSelection(label=["a"]))),
        "explain task": tasks.ExplainTask(task_service_pb2.ExplainTaskRequest()),
        "explain task unknown": tasks.ExplainTask(task_service_pb2.ExplainTaskRequest(task_id="x")),
        "delete task": tasks.DeleteTask(task_service_pb2.DeleteTaskRequest()),
        "delete task unknown": tasks.DeleteTask(task_service_pb2.DeleteTaskRequest(task_id="x")),
        "cordon": farm.CordonAgent(farm_service_pb2.CordonAgentRequest()),
        "cordon unknown": farm.CordonAgent(farm_service_pb2.CordonAgentRequest(agent_id="x")),
        "uncordon": farm.UncordonAgent(farm_service_pb2.UncordonAgentRequest()),
        "uncordon unknown": farm.UncordonAgent(farm_service_pb2.UncordonAgentRequest(agent_id="x")),
        "drain": farm.DrainAgent(
            farm_service_pb2.DrainAgentRequest(agent_id="x", deadline=Duration(seconds=2_592_001))
        ),
        "drain unknown": farm.DrainAgent(farm_service_pb2.DrainAgentRequest(agent_id="x")),
        "dead": farm.DeclareAgentDead(farm_service_pb2.DeclareAgentDeadRequest()),
        "dead unknown": farm.DeclareAgentDead(farm_service_pb2.DeclareAgentDeadRequest(agent_id="x")),
        "pools": farm.ListPools(later(farm_service_pb2.ListPoolsRequest())),
        "pool": farm.ExplainPool(farm_service_pb2.ExplainPoolRequest()),
        "pool unknown": farm.ExplainPool(farm_service_pb2.ExplainPoolRequest(name="x")),
        "limits": farm.ListLimits(later(farm_service_pb2.ListLimitsRequest())),
        "breakers": farm.ListBreakers(later(farm_service_pb2.ListBreakersRequest())),
        "reset": farm.ResetBreaker(farm_service_pb2.ResetBreakerRequest(subject="a")),
        "search": farm.Search(farm_service_pb2.SearchRequest(query="\0")),
    }


async def test_other_calls(gateway: Client) -> None:
    expected = {
        "put": ["jobId"],
        "get": ["jobId"],
        "list": ["state[1]"],
        "list token": ["pageToken"],
        "stop": ["jobId"],
        "execution": ["executionId"],
        "executions": ["pageSize"],
        "stop execution": ["executionId"],
        "task": ["taskId"],
        "tasks": [""],
        "agent": ["agentId"],
        "search": ["query"],
        "pause": ["jobId"],
        "resume": [""],
        "trigger": ["jobId"],
        "schedule": ["next"],
        "explain": ["jobId"],
        "delete": ["jobId"],
        "stop many": ["selection"],
        "stop all": ["selection"],
        "stop pattern": ["selection.taskPattern"],
        "stop state": ["selection.state[0]"],
        "stop old": ["selection.olderThan"],
        "errors": ["pageSize"],
        "retry many": ["selection"],
        "retry state": ["selection.state[0]"],
        "discard many": ["selection"],
        "discard label": ["selection.label[0]"],
        "explain task": ["taskId"],
        "delete task": ["taskId"],
        "cordon": ["agentId"],
        "uncordon": ["agentId"],
        "drain": ["deadline"],
        "dead": ["agentId"],
        "pools": [""],
        "pool": ["name"],
        "limits": [""],
        "breakers": [""],
        "reset": ["kind"],
    }
    for name, call in calls(gateway.channel).items():
        error = await refused(call)
        if name.endswith("unknown"):
            assert error.code is Code.NOT_FOUND, name
            assert error.reason.endswith("_NOT_FOUND"), name
        else:
            assert error.code is Code.INVALID_ARGUMENT, name
            assert [field.field for field in error.fields] == expected[name], name


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (log_service_pb2.ReadLogsRequest(), "executionId"),
        (log_service_pb2.ReadLogsRequest(job_id="a", execution_id="b"), "executionId"),
        (log_service_pb2.ReadLogsRequest(job_id="a", stdout_offset=5), "stdoutOffset"),
        (log_service_pb2.ReadLogsRequest(execution_id="a", stdout_offset=-5), "stdoutOffset"),
    ],
)
async def test_reading_logs(gateway: Client, request_: Any, field: str) -> None:
    stub: Any = LogServiceStub(gateway.channel)
    error = await refused(stub.ReadLogs(request_).read())
    assert error.code is Code.INVALID_ARGUMENT
    assert [problem.field for problem in error.fields] == [field]


async def test_the_stores_not_found_reaches_a_reader(gateway: Client) -> None:
    stub: Any = LogServiceStub(gateway.channel)
    error = await refused(stub.ReadLogs(log_service_pb2.ReadLogsRequest(execution_id=EXECUTION)).read())
    assert (error.code, error.reason) == (Code.NOT_FOUND, "EXECUTION_NOT_FOUND")
