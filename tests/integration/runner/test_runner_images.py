"""Registries that are busy, and the room for images, on a real Docker Engine."""

from collections.abc import Callable, Iterator

import docker.errors
import pytest

from easyq.v1.job_pb2 import Failure
from easyq.v1.spec_pb2 import JobSpec, Pull
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.integration.runner.conftest import AgentProcess
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.registry import Registry
from tests.support.registry_proxy import RegistryProxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

NewAgent = Callable[..., AgentProcess]


@pytest.fixture
def proxy(registry: Registry) -> Iterator[RegistryProxy]:
    with RegistryProxy(registry) as running:
        yield running


def echo(farm: FakeFarm, image: str, **spec: object) -> FarmExecution:
    return farm.run(JobSpec(image=image, command=["echo", "hi"], **spec))  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [None, b"busy", b""])
async def test_registry_rate_limits(
    *, new_agent: NewAgent, farm: FakeFarm, docker_host: DockerHost, proxy: RegistryProxy, body: bytes | None
) -> None:
    """PrefectHQ/prefect#12003: registry rate limits fail jobs."""
    image = proxy.image(proxy.registry.push_example(docker_host, name="team/busy"))
    docker_host.load_example_image()
    proxy.busy, proxy.retry_after = True, "17"
    proxy.body = proxy.body if body is None else body
    agent = await new_agent().ready()
    one = await farm.ended(echo(farm, image))
    assert one.state == "QUEUED", (one.finish, agent.log)
    assert one.give_back.failure.reason == Failure.Reason.REGISTRY_BUSY
    # The engine keeps it to itself; the registry was asked.
    assert one.give_back.retry_after.ToMilliseconds() == 17_000, proxy.requests
    # Others' images still run meanwhile.
    assert (await farm.ended(echo(farm, EXAMPLE_IMAGE))).stdout == b"hi\n"
    proxy.busy = False
    farm.assign_again(one)
    assert (await farm.ended(one)).stdout == b"hi\n"
    docker_host.client().images.remove(image)


async def test_a_registry_that_fails_otherwise_counts_as_before(
    *, new_agent: NewAgent, farm: FakeFarm, docker_host: DockerHost, proxy: RegistryProxy
) -> None:
    image = proxy.image(proxy.registry.push_example(docker_host, name="team/gone"))
    await new_agent().ready()
    proxy.registry.stop()
    one = await farm.ended(echo(farm, image))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", Failure.Reason.PULL_FAILED)


def push_tiny(registry: Registry, host: DockerHost, name: str) -> str:
    """An image of its own layers: the example with some bytes on top."""
    client = host.client()
    repository = f"{registry.address}/team/{name}"
    made = client.containers.create(host.load_example_image(), ["true"], network_mode="none")
    made.commit(repository, "1", changes=f"LABEL name={name}")
    made.remove()
    for line in client.api.push(repository, "1", stream=True, decode=True):
        assert "error" not in line, line
    client.images.remove(f"{repository}:1")
    return f"{repository}:1"


def present(host: DockerHost, image: str) -> bool:
    try:
        host.client().images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


async def test_images_do_not_fill_the_disk(
    *, new_agent: NewAgent, farm: FakeFarm, docker_host: DockerHost, registry: Registry
) -> None:
    """hashicorp/nomad#26452: images fill the disk."""
    docker_host.remove_containers()
    names = [push_tiny(registry, docker_host, name) for name in ("one", "two", "three", "theirs")]
    foreign = names.pop()
    docker_host.client().images.pull(foreign)
    size = docker_host.client().images.get(EXAMPLE_IMAGE).attrs["Size"]
    settings = {"image_cache": str(int(size * 2.5))}
    agent = await new_agent(**settings).ready()
    # One that another container is made of is in use, whosever that is.
    assert (await farm.ended(echo(farm, names[0]))).stdout == b"hi\n"
    theirs = docker_host.client().containers.create(names[0], "true", network_mode="none")
    assert (await farm.ended(echo(farm, foreign))).stdout == b"hi\n"
    assert (await farm.ended(echo(farm, names[1]))).stdout == b"hi\n"
    await agent.end()
    await agent.ready()
    assert (await farm.ended(echo(farm, names[2]))).stdout == b"hi\n"
    await eventually(lambda: not present(docker_host, names[1]), 45, message="the least recently used one goes")
    assert all(present(docker_host, name) for name in (names[0], names[2], foreign, EXAMPLE_IMAGE))
    theirs.remove()
    assert (await farm.ended(echo(farm, names[1], pull=Pull.MISSING))).stdout == b"hi\n"
    await eventually(lambda: not present(docker_host, names[0]), 45)
    assert present(docker_host, foreign)
    docker_host.client().images.remove(foreign)
