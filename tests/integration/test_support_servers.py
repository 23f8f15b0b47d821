"""The test servers do what their fixtures promise."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import docker.errors
import pytest
from docker.models.containers import Container

from tests.support import (
    EXAMPLE_IMAGE,
    DockerHost,
    FerretDB,
    RedisServer,
    Registry,
    eventually,
    free_port,
    process,
    wait_until,
    waiting,
)
from tests.support.plugin import DockerFactory


# ------------------------------------------------------------------------------------------------------ waiting
def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_no_two_processes_are_given_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claims a block of them: of two blocks a third process gets none."""
    start = 40_000 + os.getpid() % 40 * 500
    monkeypatch.setattr(waiting, "_PORTS", range(start, start + 2 * waiting._BLOCK))
    monkeypatch.setattr(waiting, "_mine", [])
    monkeypatch.setattr(waiting, "_claims", [])
    block = free_port() // waiting._BLOCK
    script = (
        "from tests.support import waiting\n"
        f"waiting._PORTS = {waiting._PORTS!r}\n"
        "print(waiting.free_port(), flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as other:
        assert other.stdout is not None
        try:
            assert int(other.stdout.readline()) // waiting._BLOCK != block
            with pytest.raises(RuntimeError, match="have claimed all ports"):
                waiting._claimed_block()
        finally:
            other.communicate(b"\n")
    assert waiting._claimed_block()  # the other's are free again


def test_wait_until_gives_the_value_or_names_what_it_waited_for() -> None:
    values = iter([0, None, 7])
    assert wait_until(lambda: next(values), 1) == 7
    with pytest.raises(AssertionError, match=r"not within 0\.15 s: the moon"):
        wait_until(lambda: False, 0.05, message="the moon")


async def test_eventually_takes_plain_and_async_conditions() -> None:
    async def seven() -> int:
        return 7

    assert await eventually(seven) == 7
    assert await eventually(lambda: "x") == "x"
    with pytest.raises(AssertionError, match="never"):
        await eventually(lambda: False, 0.05, message="never")


def test_nothing_outlives_a_killed_test_run(tmp_path: Path) -> None:
    script = f"""
        import pathlib, time
        from tests.support import process
        child = process.spawn(["sleep", "300"], log=pathlib.Path({str(tmp_path / "log")!r}))
        print(child.pid, flush=True)
        time.sleep(300)
    """
    root = Path(__file__).resolve().parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.kill()
    run.wait()
    run.stdout.close()
    wait_until(lambda: not process.alive(child), 5)


# ------------------------------------------------------------------------------------------------------- Docker
def run_sleeper(host: DockerHost) -> tuple[Container, int]:
    """A container that sleeps and ends at once when it is told to; its process."""
    container = host.client().containers.run(
        EXAMPLE_IMAGE, ["sleep", "300"], network_mode="none", stop_signal="SIGKILL", detach=True
    )
    return container, host.client().api.inspect_container(str(container.id))["State"]["Pid"]


@pytest.mark.docker
def test_a_container_runs_with_the_applets(docker_host: DockerHost, busybox_image: str) -> None:
    client = docker_host.client()
    command = ["sh", "-c", "echo hello $NAME; seq 3 | tail -1; exit 7"]
    container = client.containers.run(
        busybox_image, command, network_mode="none", environment={"NAME": "you"}, detach=True
    )
    assert container.wait()["StatusCode"] == 7
    assert container.logs() == b"hello you\n3\n"
    assert [one.id for one in docker_host.containers()] == [container.id]


@pytest.mark.docker
def test_each_test_finds_its_host_without_containers(docker_host: DockerHost) -> None:
    assert docker_host.containers() == []


@pytest.mark.docker
def test_two_engines_run_at_once_and_know_nothing_of_each_other(dockerd: DockerFactory) -> None:
    one, two = dockerd("main"), dockerd("second")
    assert one.client().info()["ID"] != two.client().info()["ID"]
    one.client().containers.run(EXAMPLE_IMAGE, ["sleep", "60"], network_mode="none", detach=True, name="same")
    assert two.containers() == []
    two.client().containers.run(EXAMPLE_IMAGE, ["true"], network_mode="none", detach=True, name="same").wait()
    one.remove_containers()
    two.remove_containers()


@pytest.mark.docker
def test_an_engine_that_is_killed_leaves_its_containers_and_comes_back(new_dockerd: DockerFactory) -> None:
    host = new_dockerd("own")
    container, pid = run_sleeper(host)
    host.kill()
    assert not host.running
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
    with pytest.raises((docker.errors.DockerException, OSError)):
        host.client().ping()
    assert new_dockerd("own") is host
    wait_until(lambda: host.containers()[0].status == "exited", 10)
    host.restart(signal.SIGTERM)
    assert [one.id for one in host.containers()] == [container.id]


@pytest.mark.docker
def test_a_closed_engine_leaves_nothing(new_dockerd: DockerFactory) -> None:
    host = new_dockerd("own")
    _, pid = run_sleeper(host)
    host.kill()  # the container goes on: the hard case
    host.close()
    assert not host.folder.exists()
    assert process.processes_naming(host.folder) == []
    wait_until(lambda: not process.alive(pid), 5)
    assert str(host.folder) not in Path("/proc/self/mounts").read_text(encoding="utf-8")


@pytest.mark.docker
def test_a_frozen_engine_answers_nothing_until_it_thaws(new_dockerd: DockerFactory) -> None:
    host = new_dockerd("own")
    host.freeze()
    assert not host.ready()
    host.thaw()
    wait_until(host.ready, 10)


@pytest.mark.docker
def test_an_image_is_pulled_from_the_registry(docker_host: DockerHost, registry: Registry) -> None:
    name = registry.push_example(docker_host)
    assert name.startswith(f"127.0.0.1:{registry.port}/team/example")
    image = docker_host.client().images.pull(name)
    assert image.attrs["RepoDigests"][0].startswith(f"{registry.address}/team/example@sha256:")
    docker_host.client().images.remove(name)


@pytest.mark.docker
def test_a_private_registry_asks_who_is_there(docker_host: DockerHost, private_registry: Registry) -> None:
    name = private_registry.push_example(docker_host)
    client = docker_host.client()
    with pytest.raises(docker.errors.APIError, match="no basic auth credentials"):
        client.images.pull(name)
    client.images.pull(name, auth_config=private_registry.credentials)
    client.images.remove(name)


# -------------------------------------------------------------------------------------------------------- Redis
def test_redis_is_emptied_killed_and_started_again(any_redis_server: RedisServer) -> None:
    server = any_redis_server
    with server.client() as client:
        assert client.dbsize() == 0
        client.set("key", "value")
    server.flush()
    with server.client() as client:
        assert client.get("key") is None
        client.set("key", "value")
    before = server.run_id
    server.restart()
    assert server.run_id != before
    with server.client() as client:
        assert client.get("key") is None


def test_redis_may_keep_its_data(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(persistent=True)
    with server.client() as client:
        client.set("key", "value")
    server.restart()
    with server.client() as client:
        assert client.get("key") == b"value"


def test_the_two_flavours_tell_who_they_are(redis_server: RedisServer, valkey_server: RedisServer) -> None:
    with redis_server.client() as redis, valkey_server.client() as valkey:
        assert "valkey_version" not in redis.info("server")
        assert "valkey_version" in valkey.info("server")


# ------------------------------------------------------------------------------------------------------ MongoDB
def test_ferretdb_keeps_documents_over_a_kill(ferretdb: FerretDB, mongo_database: str) -> None:
    with ferretdb.client() as client:
        jobs = client[mongo_database]["jobs"]
        assert jobs.count_documents({}) == 0
        jobs.insert_one({"_id": 1, "state": "QUEUED"})
        swapped = jobs.find_one_and_update({"_id": 1, "state": "QUEUED"}, {"$set": {"state": "ASSIGNED"}})
        assert swapped is not None
        assert jobs.find_one_and_update({"_id": 1, "state": "QUEUED"}, {"$set": {"state": "LOST"}}) is None
    ferretdb.restart(signal.SIGKILL)
    with ferretdb.client() as client:
        assert client[mongo_database]["jobs"].find_one({"_id": 1}) == {"_id": 1, "state": "ASSIGNED"}


def test_each_test_has_a_database_of_its_own(ferretdb: FerretDB, mongo_url: str, mongo_database: str) -> None:
    assert mongo_url == f"{ferretdb.url}{mongo_database}"
    with ferretdb.client() as client:
        assert client[mongo_database].list_collection_names() == []
