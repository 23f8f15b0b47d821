"""One trace from the request to the container's end, collected over real OTLP."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc
import pytest

from easyq import Client
from easyq.v1 import job_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.collector import Collector, Received
from tests.support.farm import Rest, UpFarm, shell
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.registry import Registry
from tests.support.waiting import wait_until

ECHO = shell('echo "$TRACEPARENT|$TRACESTATE"')
SERVER = "POST /tasks/{task_id}"
# Below each execution that has run, by the service that writes it.
STEPS = {
    "queue": "easyq-store",
    "assign": "easyq-dispatcher",
    "create": "easyq-runner",
    "run": "easyq-runner",
    "finish": "easyq-runner",
}
# Services count in milliseconds where they say when something happened.
MS = 1_000_000
# The collector is the tests' own: it is soon given up on, and gets its spans soon.
ENV = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def traced_farm(collector: Collector, hosts: list[DockerHost]) -> Iterator[UpFarm]:
    arguments = ["--otlp-endpoint", collector.url]
    with UpFarm(hosts[:1], slots=3, arguments=arguments, env=ENV) as farm:
        yield farm


@pytest.fixture
def farm(traced_farm: UpFarm) -> UpFarm:
    return traced_farm


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A span of somebody else, whose children are ours."""

    trace: str
    span: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags}"

    @property
    def headers(self) -> dict[str, str]:
        return {"traceparent": self.traceparent}


@pytest.fixture
def caller() -> Caller:
    return Caller(trace=secrets.token_hex(16), span=secrets.token_hex(8))


def ran(rest: Rest, job_id: str, state: str = "SUCCEEDED") -> Any:
    job = rest.wait_job(job_id)
    assert job["state"] == state, job
    return job


def output(rest: Rest, job_id: str, execution_id: str = "") -> str:
    """What its container saw: `$TRACEPARENT|$TRACESTATE`."""
    return rest.output(job_id, "stdout", execution_id).decode().strip()


def context_of(span: Received) -> str:
    return f"00-{span.trace_id}-{span.span_id}-01"


def executions(spans: list[Received]) -> list[Received]:
    return [span for span in spans if span.name == "execution"]


def below(spans: list[Received], parent: Received) -> dict[str, Received]:
    """A span's children, each of another name."""
    children = [span for span in spans if span.parent_id == parent.span_id]
    assert len({span.name for span in children}) == len(children), children
    return {span.name: span for span in children}


def assert_in_order(*times: int) -> None:
    for earlier, later in pairwise(times):
        assert earlier <= later + MS, [time - times[0] for time in times]


def assert_steps(spans: list[Received], execution: Received, *more: str) -> dict[str, Received]:
    """The execution's children are these, by their services, within it and one after the other."""
    children = below(spans, execution)
    assert children.keys() == {*STEPS, *more}
    assert {name: children[name].service for name in STEPS} == STEPS
    for child in children.values():
        assert child.kind == "INTERNAL"
        assert child.attributes["easyq.execution"] == execution.attributes["easyq.execution"]
        assert_in_order(execution.start, child.start, child.end)
    queue, assign, create, run, finish = (children[name] for name in STEPS)
    assert_in_order(queue.start, queue.end, assign.end, create.end, run.start, run.end, finish.start, finish.end)
    assert_in_order(assign.start, queue.end)
    # Its end is recorded while the agent waits for the answer.
    assert_in_order(finish.start, execution.end, finish.end)
    return children


def test_the_whole_tree(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    headers = {**caller.headers, "tracestate": "shop=a1, x@y=2"}
    made = rest.post(f"/tasks/{task}", ECHO, headers=headers)
    ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, SERVER, "submit", "execution", *STEPS)
    assert len(spans) == 3 + len(STEPS)
    ids = {"easyq.task": task, "easyq.job": made["jobId"], "easyq.execution": made["executionId"]}

    server = next(span for span in spans if span.name == SERVER)
    assert (server.service, server.kind, server.parent_id) == ("easyq-gateway", "SERVER", caller.span)
    assert server.attributes == ids | {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": f"/tasks/{task}",
        "http.route": "/tasks/{task_id}",
        "http.response.status_code": 200,
    }
    first = below(spans, server)
    assert first.keys() == {"submit", "execution"}
    submit, execution = first["submit"], first["execution"]
    assert submit.service == execution.service == "easyq-store"
    assert_in_order(server.start, submit.start, submit.end, server.end)
    assert_in_order(submit.start, execution.start)
    assert submit.attributes == {"easyq.task": task, "easyq.job": made["jobId"], "easyq.batch_size": 1}
    [agent] = rest.get("/agents")["items"]
    assert execution.attributes == ids | {
        "easyq.attempt": 1,
        "easyq.trigger": "enqueue",
        "easyq.state": "SUCCEEDED",
        "easyq.agent": agent["agentId"],
        "easyq.pool": "default",
        "easyq.epoch": 1,
        "container.image.name": EXAMPLE_IMAGE,
        "process.exit.code": 0,
    }
    steps = assert_steps(spans, execution)
    assert steps["run"].attributes["process.exit.code"] == 0
    assert steps["run"].attributes["container.id"]
    assert steps["finish"].attributes["easyq.answer"] == "ok"
    assert not [span for span in spans if span.failed]
    assert {span.state for span in spans} == {"shop=a1,x@y=2"}
    assert len({span.resource["easyq.farm"] for span in spans}) == 1
    assert {span.resource["service.name"] for span in spans} == {span.service for span in spans}
    # Its program goes on below the span of its run.
    assert output(rest, made["jobId"]) == f"{context_of(steps['run'])}|shop=a1,x@y=2"


@pytest.fixture
def image(hosts: list[DockerHost], registry: Registry, task: str) -> str:
    """One that only a registry has."""
    return registry.push_example(hosts[0], f"{task}/tool")


def test_a_pull_has_its_span(rest: Rest, collector: Collector, task: str, caller: Caller, image: str) -> None:
    made = rest.post(f"/tasks/{task}", {"image": image, "command": "true", "pull": "ALWAYS"}, headers=caller.headers)
    ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, SERVER, "execution", "pull", *STEPS)
    [execution] = executions(spans)
    steps = assert_steps(spans, execution, "pull")
    assert steps["pull"].attributes["container.image.name"] == image
    assert_in_order(steps["assign"].end, steps["pull"].start, steps["pull"].end, steps["create"].start)


def test_an_image_that_is_nowhere(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    spec = {"image": "easyq/nowhere:1", "command": "true", "pull": "NEVER"}
    ran(rest, rest.post(f"/tasks/{task}", spec, headers=caller.headers)["jobId"], "FAILED")
    spans = collector.wait_for(caller.trace, SERVER, "execution", "pull", "finish")
    [execution] = executions(spans)
    steps = below(spans, execution)
    assert "run" not in steps
    assert {span.attributes["error.type"] for span in (execution, steps["pull"])} == {"image_not_found"}
    assert execution.failed
    assert steps["pull"].failed


def test_attempts_are_of_one_trace(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    script = 'echo "$TRACEPARENT|"; [ "$EASYQ_ATTEMPT" -gt 1 ] || exit 7'
    spec = shell(script, retries=1, backoff={"min": "0s", "jitter": 0})
    made = rest.post(f"/tasks/{task}", spec, headers=caller.headers)
    job = ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, SERVER, *["execution"] * 2, *list(STEPS) * 2)
    failed, succeeded = executions(spans)
    assert [span.attributes["easyq.attempt"] for span in (failed, succeeded)] == [1, 2]
    assert [span.attributes["easyq.trigger"] for span in (failed, succeeded)] == ["enqueue", "retry"]
    assert failed.parent_id == succeeded.parent_id
    assert failed.failed
    assert failed.message == "exit code 7"
    assert failed.attributes["error.type"] == "nonzero_exit"
    assert not succeeded.failed
    for one, execution in zip((failed, succeeded), job["executions"], strict=True):
        assert one.attributes["easyq.execution"] == execution["executionId"]
        seen = output(rest, made["jobId"], execution["executionId"])
        assert seen == f"{context_of(below(spans, one)['run'])}|"
    assert [below(spans, one)["run"].failed for one in (failed, succeeded)] == [True, False]
    # So is one that is asked for by hand.
    again = rest.post(f"/jobs/{made['jobId']}/retry")
    ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, *["execution"] * 3, *list(STEPS) * 3)
    assert executions(spans)[2].attributes["easyq.execution"] == again["executionId"]


def test_a_job_that_waits_for_its_time(
    farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller
) -> None:
    made = rest.post(f"/tasks/{task}", ECHO | {"startIn": "1s"}, headers=caller.headers)
    ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, SERVER, "admit", "submit", "schedule", "execution", *STEPS)
    server = next(span for span in spans if span.name == SERVER)
    first = below(spans, server)
    assert first.keys() == {"admit", "submit", "execution"}
    assert first["admit"].service == "easyq-scheduler"
    assert_in_order(first["admit"].start, first["submit"].start, first["submit"].end, first["admit"].end)
    steps = assert_steps(spans, first["execution"], "schedule")
    assert steps["schedule"].end - steps["schedule"].start >= 1000 * MS
    assert_in_order(first["execution"].start, steps["schedule"].end, steps["queue"].start)


def test_fires_have_traces_of_their_own(
    farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller
) -> None:
    made = rest.post(f"/tasks/{task}", ECHO | {"cron": "@every 1s", "maxRuns": 2}, headers=caller.headers)
    ran(rest, made["jobId"], "EXPIRED")
    [server] = [span for span in collector.wait_for(caller.trace, SERVER, "submit") if span.name == SERVER]

    def fires() -> list[Received]:
        found = [span for span in executions(collector.spans()) if span.attributes["easyq.job"] == made["jobId"]]
        assert len(found) == 2
        return found

    found = wait_until(fires, 20)
    assert len({caller.trace, *(span.trace_id for span in found)}) == 3
    for fire in found:
        assert fire.parent_id == ""
        assert fire.links == ((caller.trace, server.span_id),)
        spans = collector.wait_for(fire.trace_id, "execution", *STEPS)
        run = assert_steps(spans, fire)["run"]
        assert output(rest, made["jobId"], fire.attributes["easyq.execution"]) == f"{context_of(run)}|"


def test_jobs_of_a_batch(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    jobs = [{"taskId": task, "spec": ECHO} for _ in range(2)]
    results = rest.post("/batch", {"jobs": jobs}, headers=caller.headers)["results"]
    ids = [result["job"]["jobId"] for result in results]
    for job_id in ids:
        ran(rest, job_id)
    spans = collector.wait_for(caller.trace, "POST /batch", *["submit", "execution", *STEPS] * 2)
    server = next(span for span in spans if span.name == "POST /batch")
    assert {span.parent_id for span in spans if span.name in {"submit", "execution"}} == {server.span_id}
    for execution in executions(spans):
        run = assert_steps(spans, execution)["run"]
        assert output(rest, execution.attributes["easyq.job"]) == f"{context_of(run)}|"


def test_put_goes_by_single_calls(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    job_id = f"{task}-x"
    assert rest.call("PUT", f"/tasks/{task}/jobs/{job_id}", ECHO, headers=caller.headers).status == 200
    ran(rest, job_id)
    route, put = "PUT /tasks/{task_id}/jobs/{job_id}", "easyq_internal.store.v1.JobStoreService/PutJob"
    spans = collector.wait_for(caller.trace, route, put, "execution", *STEPS)
    server = next(span for span in spans if span.name == route)
    children = below(spans, server)
    # It asks a dispatcher as well, why the job waits.
    assert children.keys() >= {put, "execution"}
    assert (children[put].service, children[put].kind) == ("easyq-store", "SERVER")
    assert children[put].attributes["rpc.response.status_code"] == "OK"
    assert_steps(spans, children["execution"])


def test_grpc(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    spec = spec_pb2.JobSpec(image=EXAMPLE_IMAGE, command=["sh", "-c", 'echo "$TRACEPARENT|"'])
    stream = Caller(trace=secrets.token_hex(16), span=secrets.token_hex(8))
    with grpc.insecure_channel(farm.grpc_address) as channel:
        jobs = JobServiceStub(channel)
        request = job_service_pb2.CreateJobRequest(task_id=task, spec=spec)
        one = jobs.CreateJob(request, timeout=30, metadata=(("traceparent", caller.traceparent),)).job_id
        items = [job_service_pb2.SubmitJobsRequest(item=job_service_pb2.BatchItem(task_id=task, spec=spec))]
        answers = jobs.SubmitJobs(iter(items), timeout=30, metadata=(("traceparent", stream.traceparent),))
        [other] = [answer.result.job.job_id for answer in answers]
        bad = job_service_pb2.GetJobRequest(job_id="nobody")
        with pytest.raises(grpc.RpcError):
            jobs.GetJob(bad, timeout=30, metadata=(("traceparent", stream.traceparent),))
    for job_id, who, name in ((one, caller, "CreateJob"), (other, stream, "SubmitJobs")):
        ran(rest, job_id)
        spans = collector.wait_for(who.trace, f"easyq.v1.JobService/{name}", "submit", "execution", *STEPS)
        server = next(span for span in spans if span.name == f"easyq.v1.JobService/{name}")
        assert (server.kind, server.parent_id) == ("SERVER", who.span)
        assert server.attributes["rpc.response.status_code"] == "OK"
        [execution] = executions(spans)
        assert execution.parent_id == server.span_id
        assert output(rest, job_id) == f"{context_of(assert_steps(spans, execution)['run'])}|"
    refused = collector.wait_for(stream.trace, "easyq.v1.JobService/GetJob")
    [server] = [span for span in refused if span.name == "easyq.v1.JobService/GetJob"]
    assert server.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert not server.failed


@pytest.fixture
def within(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """This program runs in a container of EasyQ's, as it were, whose span is the caller's."""
    monkeypatch.setenv("TRACEPARENT", caller.traceparent)
    return caller


def test_a_program_that_posts_further_jobs(
    farm: UpFarm, rest: Rest, collector: Collector, task: str, within: Caller
) -> None:
    with Client(farm.grpc_address) as client:
        one = client.submit(spec_pb2.JobSpec(image=EXAMPLE_IMAGE, command=["true"]), task=task).job_id
    told = farm.cli("submit", "--task", task, EXAMPLE_IMAGE, "--", "true")
    assert told.returncode == 0, told.stderr
    ran(rest, one)
    spans = collector.wait_for(within.trace, *["easyq.v1.JobService/CreateJob", "execution"] * 2)
    servers = [span for span in spans if span.name == "easyq.v1.JobService/CreateJob"]
    assert {span.parent_id for span in servers} == {within.span}
    assert one in {span.attributes["easyq.job"] for span in servers}


def test_a_trace_that_begins_here(farm: UpFarm, rest: Rest, collector: Collector, task: str) -> None:
    made = rest.post(f"/tasks/{task}", ECHO, headers={"traceparent": "00-no-trace-01"})
    ran(rest, made["jobId"])
    trace = output(rest, made["jobId"]).split("-")[1]
    spans = collector.wait_for(trace, SERVER, "submit", "execution", *STEPS)
    assert [span.parent_id for span in spans if span.name == SERVER] == [""]


def test_what_a_caller_does_not_record(farm: UpFarm, rest: Rest, collector: Collector, task: str) -> None:
    caller = Caller(trace=secrets.token_hex(16), span=secrets.token_hex(8), flags="00")
    seen = Caller(trace=secrets.token_hex(16), span=secrets.token_hex(8))
    for who in (caller, seen):
        made = rest.post(f"/tasks/{task}", ECHO, headers={**who.headers, "tracestate": "shop=1"})
        ran(rest, made["jobId"])
        if who is caller:
            assert output(rest, made["jobId"]) == f"{caller.traceparent}|shop=1"
    # What came later is there.
    collector.wait_for(seen.trace, SERVER, "submit", "execution", *STEPS)
    assert collector.spans(caller.trace) == []


def test_without_an_endpoint_the_callers_context_goes_on(shared_farm: UpFarm, task: str, caller: Caller) -> None:
    rest = shared_farm.rest
    made = rest.post(f"/tasks/{task}", ECHO, headers={**caller.headers, "tracestate": "shop=1"})
    ran(rest, made["jobId"])
    assert output(rest, made["jobId"]) == f"{caller.traceparent}|shop=1"
    made = rest.post(f"/tasks/{task}", ECHO)
    ran(rest, made["jobId"])
    assert output(rest, made["jobId"]) == "|"


def test_over_restarts(farm: UpFarm, rest: Rest, collector: Collector, task: str, caller: Caller) -> None:
    """Redis is emptied while a job waits, and the agent is killed while it runs."""
    [agent] = rest.get("/agents")["items"]
    rest.post(f"/agents/{agent['agentId']}/cordon")
    made = rest.post(f"/tasks/{task}", shell('echo "$TRACEPARENT|"; sleep 4'), headers=caller.headers)
    farm.kill("redis")
    assert rest.call("DELETE", f"/agents/{agent['agentId']}/cordon").status == 200
    # Not before the agent knows that it runs: it would be LOST, and run again.
    wait_until(lambda: output(rest, made["jobId"]).endswith("|"), 30)
    farm.kill("agent")
    ran(rest, made["jobId"])
    spans = collector.wait_for(caller.trace, SERVER, "submit", "execution", "queue", "assign", "run", "finish")
    [execution] = executions(spans)
    run = below(spans, execution)["run"]
    assert output(rest, made["jobId"]) == f"{context_of(run)}|"
    assert run.end - run.start > 3_900 * MS
    assert_in_order(execution.start, run.start, run.end, execution.end)
    assert not run.failed


def test_logs_name_the_trace(farm: UpFarm, rest: Rest, task: str, caller: Caller) -> None:
    ran(rest, rest.post(f"/tasks/{task}", ECHO, headers=caller.headers)["jobId"])
    wait_until(lambda: [line for line in farm.log.splitlines() if "finished" in line and caller.trace in line], 20)


def test_a_collector_that_hangs_harms_nothing(farm: UpFarm, rest: Rest, collector: Collector, task: str) -> None:
    with collector.hanging():
        for _ in range(3):
            ran(rest, rest.post(f"/tasks/{task}", shell("true"))["jobId"])
        # It is told once it is certain.
        wait_until(lambda: "spans_not_exported" in farm.log, 30)
        ran(rest, rest.post(f"/tasks/{task}", shell("true"))["jobId"])
    lines = [line for line in farm.log.splitlines() if "spans_not_exported" in line]
    assert 1 <= len(lines) <= 5, lines
    assert collector.url in lines[0]
    assert "opentelemetry" not in farm.log
