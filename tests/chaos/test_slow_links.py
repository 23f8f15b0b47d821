"""An agent behind a slow link, by the kernel's own means and by a proxy: its output comes whole, its lease is kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.chaos.links import LinkedFarm, Links, Place
from tests.support.farm import Program, counted
from tests.support.netns import NetworkNamespace, NoNamespace
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

# Seconds. At this pace the output takes longer than the lease.
LEASE, LOST_AFTER = 3, 6
SIZE = 1_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkNamespace | NoNamespace]:
    """A network of the agent's own, or why there is none."""
    name = f"eqt-{tmp_path_factory.mktemp('ns').parent.name}-{Path('/proc/self').resolve().name}"
    try:
        with NetworkNamespace(name) as made:
            made.listen().close()
            yield made
    except NoNamespace as error:
        yield error


@pytest.fixture(scope="module")
def farm(
    namespace: NetworkNamespace | NoNamespace, dockerd: DockerFactory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LinkedFarm]:
    """One agent, which finds the other services by proxies on its own loopback interface."""
    inside = namespace if isinstance(namespace, NetworkNamespace) else None
    links = Links(inside)
    data = tmp_path_factory.mktemp("store")
    with RedisServer(redis_binary()) as redis:
        farm = LinkedFarm(
            [Place(label="slow", url=dockerd("split-a").url)],
            links=links,
            namespace=inside,
            redis=redis.url,
            store={"database": f"sqlite:///{data}/easyq.db", "lost_margin": "1", "lost_interval": "0.2"},
            copies=1,
            settings={"dispatcher": {"lost_after": f"{LOST_AFTER}s", "lease": f"{LEASE}", "beat_every": "0.5"}},
        )
        with farm:
            wait_until(lambda: farm.rest.get("/agents")["items"], 20, message="the agent is there")
            yield farm
    links.close()


Slowness = Callable[[LinkedFarm, NetworkNamespace | NoNamespace], AbstractContextManager[None]]


@contextmanager
def by_proxy(farm: LinkedFarm, _namespace: NetworkNamespace | NoNamespace) -> Iterator[None]:
    """200 ms for each 64 KiB at most, in each direction: delay and rate at once."""
    for link in farm.links.links:
        farm.links.slow(link, 0.2)
    try:
        yield
    finally:
        farm.links.heal()


def by_kernel(*discipline: str) -> Slowness:
    @contextmanager
    def shaped(_farm: LinkedFarm, namespace: NetworkNamespace | NoNamespace) -> Iterator[None]:
        try:
            if isinstance(namespace, NoNamespace):
                raise namespace
            with namespace.shaped(*discipline):
                yield
        except NoNamespace as error:
            pytest.skip(str(error))

    return shaped


KINDS = {
    "proxy": by_proxy,
    "netem": by_kernel("netem", "delay", "200ms", "50ms", "loss", "2%", "rate", "8mbit"),
    "rate": by_kernel("tbf", "rate", "2mbit", "burst", "16kb", "latency", "400ms"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_output_comes_whole_over_a_slow_link_and_the_lease_is_kept(
    farm: LinkedFarm, namespace: NetworkNamespace | NoNamespace, task: str, kind: str
) -> None:
    expected = counted(SIZE)
    program = Program(script=f"seq 1000000 {1_000_000 + SIZE // 8 - 1}", stdout=expected)
    session = farm.shown("slow")["session"]
    with KINDS[kind](farm, namespace):
        job = farm.rest.run(task, program.spec)
        shown = farm.shown("slow")
    [only] = job["executions"]
    assert (job["state"], only["logsComplete"]) == ("SUCCEEDED", True)
    assert farm.rest.output(job["jobId"], "stdout") == expected
    assert (shown["state"], shown["session"]) == ("LIVE", session)
    assert not any("agent_silent" in dispatcher.log for dispatcher in farm.dispatchers)
