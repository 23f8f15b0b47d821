"""The Python clients against a whole farm, while its gateway is killed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import easyq
from easyq.v1.job_pb2 import Job
from tests.support.farm import Rest, UpFarm, shell
from tests.support.hosts import EXAMPLE_IMAGE
from tests.support.waiting import wait_until

UNTIL_TERM = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"


def wait_sync(address: str, job_id: str) -> Job:
    with easyq.Client(address) as client:
        return client.wait(job_id)


def wait_async(address: str, job_id: str) -> Job:
    async def run() -> Job:
        async with easyq.AsyncClient(address) as client:
            return await client.wait(job_id)

    return asyncio.run(run())


@pytest.mark.parametrize("wait", [wait_sync, wait_async])
def test_wait_over_a_restart_of_the_gateway(
    farm: UpFarm, rest: Rest, task: str, wait: Callable[[str, str], Job]
) -> None:
    job_id = rest.enqueue(task, shell(UNTIL_TERM))["jobId"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, farm.grpc_address, job_id)
        wait_until(lambda: rest.job(job_id)["state"] == "RUNNING", 60)
        farm.kill("gateway")
        wait_until(lambda: rest.call("GET", "/healthcheck").status == 200, 60)
        rest.stop(job_id)
        job = waiting.result(60)
    assert (job.state, job.executions[-1].exit_code) == (Job.STOPPED, 5)


def test_run_ends_the_job_when_its_time_is_up(farm: UpFarm, rest: Rest, task: str) -> None:
    with easyq.Client(farm.grpc_address) as client:
        spec = easyq.job_spec(EXAMPLE_IMAGE, ["sh", "-c", UNTIL_TERM])
        with pytest.raises(easyq.DeadlineExceeded, match="had not ended"):
            client.run(spec, task=task, timeout=3)
        [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    assert rest.wait_job(job["jobId"])["state"] == "STOPPED"
