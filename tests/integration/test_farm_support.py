"""The harness of the e2e tests against a bare Docker Engine: it must see what it is there to see."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.farm import DockerObserver, Program, Witness, chatty, counted
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until


def run(host: DockerHost, program: Program, execution: str, witness: Witness | None = None) -> tuple[int, bytes, bytes]:
    """What EasyQ does with it, by the Docker SDK: exit code, stdout, stderr."""
    client = host.client()
    volumes: Any = {str(witness.folder): {"bind": "/witness", "mode": "rw"}} if witness else {}
    container = client.containers.run(
        program.spec["image"],
        program.spec["command"],
        detach=True,
        network="none",
        name=f"easyq-{execution}",
        environment={"EASYQ_EXECUTION_ID": execution, "EASYQ_FENCE": "1"},
        volumes=volumes,
    )
    status = container.wait()["StatusCode"]
    output = container.logs(stdout=True, stderr=False), container.logs(stdout=False, stderr=True)
    container.remove()
    return status, *output


def test_counted_bytes_tell_their_place() -> None:
    assert counted(20) == b"1000000\n1000001\n1000"
    assert counted(8, 5) == b"1000005\n"
    assert counted(0) == b""


@pytest.mark.docker
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("stdout", "stderr"), [(0, 0), (1, 0), (12_345, 7), (65_536, 300_001)])
def test_a_program_writes_what_it_promises(docker_host: DockerHost, parts: int, stdout: int, stderr: int) -> None:
    program = chatty(42, stdout=stdout, stderr=stderr, exit_code=3, parts=parts)
    assert run(docker_host, program, "e1") == (3, program.stdout, program.stderr)


@pytest.mark.docker
def test_witness_and_observer_see_a_container_that_runs_twice(docker_host: DockerHost, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    program = chatty(1, stdout=10, stderr=0, witness=witness)
    with DockerObserver([docker_host]) as observer:
        run(docker_host, program, "once", witness)
        witness.assert_none_twice()
        run(docker_host, program, "twice", witness)
        run(docker_host, program, "twice", witness)
        wait_until(lambda: len(observer.events("die")) == 3)
    assert witness.starts() == witness.ends() == {"once": 1, "twice": 2}
    with pytest.raises(AssertionError, match="twice"):
        witness.assert_none_twice()
    assert (observer.starts("once"), observer.starts("twice")) == (1, 2)
    assert observer.hosts_used() == {docker_host.label}


@pytest.mark.docker
def test_the_observer_counts_what_runs_at_once_over_a_restart_of_the_daemon(docker_host: DockerHost) -> None:
    with DockerObserver([docker_host]) as observer:
        client = docker_host.client()
        containers = [
            client.containers.run(
                "easyq/example:1", ["sleep", "60"], detach=True, network="none", name=f"easyq-{number}"
            )
            for number in range(2)
        ]
        containers[0].kill()
        client.containers.run("easyq/example:1", ["true"], network="none", name="easyq-3")
        client.containers.run("easyq/example:1", ["true"], network="none", name="other")
        docker_host.restart()
        client.containers.run("easyq/example:1", ["true"], network="none", name="easyq-4")
        wait_until(lambda: any(event.name == "easyq-4" for event in observer.events("die")))
    assert observer.most_on_host(docker_host.label) == 2
    assert {event.name for event in observer.events()} == {"easyq-0", "easyq-1", "easyq-3", "easyq-4"}
