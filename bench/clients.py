"""Clients that enqueue as fast as they are answered, in a process of their own."""

import argparse
import asyncio
import json
import statistics
import time

import grpc.aio
import uvloop

from easyq.v1 import job_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub


def _request(task: str) -> job_service_pb2.CreateJobRequest:
    spec = spec_pb2.JobSpec(
        image="easyq/example:1", command=["python", "/app/sendmail.py"], envs={"SMTP_SERVER": "my-smtp-server"}
    )
    return job_service_pb2.CreateJobRequest(task_id=task, spec=spec)


async def _client(address: str, request: job_service_pb2.CreateJobRequest, count: int, times: list[float]) -> None:
    """One client with a connection of its own, one call after the other."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        jobs = JobServiceStub(channel)
        await channel.channel_ready()
        for _ in range(count):
            began = time.monotonic()
            await jobs.CreateJob(request, timeout=60)
            times.append(time.monotonic() - began)


async def _main(address: str, task: str, clients: int, count: int) -> None:
    times: list[float] = []
    request = _request(task)
    began = time.monotonic()
    await asyncio.gather(*(_client(address, request, count // clients, times) for _ in range(clients)))
    ended = time.monotonic()
    told = {
        "began": began,
        "ended": ended,
        "count": len(times),
        "p50": statistics.median(times) * 1000,
        "p99": statistics.quantiles(times, n=100)[-1] * 1000,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("task")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--count", type=int, default=3200)
    options = parser.parse_args()
    uvloop.run(_main(options.address, options.task, options.clients, options.count))
