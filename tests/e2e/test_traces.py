"""One trace from the request to the container's end, collected over real OTLP."""

import secrets
from collections.abc import Iterator

import pytest

from tests.support.collector import Collector, Received
from tests.support.farm import Rest, UpFarm, shell
from tests.support.hosts import DockerHost

MS = 1_000_000
ECHO = shell('echo "$TRACEPARENT|$TRACESTATE"')


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def traced_farm(collector: Collector, hosts: list[DockerHost]) -> Iterator[UpFarm]:
    arguments = ["--otlp-endpoint", collector.url]
    with UpFarm(hosts[:1], slots=3, arguments=arguments, env={"OTEL_BSP_SCHEDULE_DELAY": "200"}) as farm:
        yield farm


@pytest.fixture
def farm(traced_farm: UpFarm) -> UpFarm:
    return traced_farm


def new_caller(*, flags: str = "01") -> tuple[str, str, str]:
    """A trace's id, a span's, and the header that names them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-{flags}"


def ended(rest: Rest, job_id: str, state: str = "SUCCEEDED") -> dict:
    job = rest.get(f"/jobs/{job_id}?wait=60s")
    assert job["state"] == state, job
    return job


def output(rest: Rest, job_id: str) -> str:
    return rest.call("GET", f"/jobs/{job_id}/stdout").body.decode()


def test_the_whole_tree(farm: UpFarm, rest: Rest, collector: Collector, task: str) -> None:
    trace, caller, header = new_caller()
    made = rest.post(f"/tasks/{task}", ECHO, headers={"traceparent": header, "tracestate": "shop=a1,x@y=2"})
    job = ended(rest, made["jobId"])
    names = ("submit", "execution", "queue", "assign", "create", "run", "finish")
    spans = collector.wait_for(trace, "POST /tasks/{task_id}", *names)
    print(spans)
