"""Both wheels, installed where nothing else is: the client, also with the oldest of what it needs, and the server."""

import re
import subprocess
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farm import UpFarm
from tests.support.farm.up import clean_environment
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.wheels import CLIENT, ROOT, SERVER, Environment, build_wheels, oldest, requirements

LOCK = ("--constraint", str(ROOT / "requirements.lock"))
# What grpcio needs in turn.
_FURTHER = {"typing-extensions"}
# Packages are fetched where they are in no cache yet.
pytestmark = pytest.mark.timeout(600)

_SUBMITS = """
import asyncio, sys
import easyq

image, task = sys.argv[1:]
spec = easyq.job_spec(image, ["sh", "-c", "echo out; echo err >&2; exit 3"])

with easyq.Client() as client:
    [one] = client.submit_many([spec], task=task)
    assert client.wait(one.job.job_id, timeout=60).state
    assert client.stats(task).total.jobs >= 0
    assert client.schedule(f"{task}-s", easyq.job_spec(image, cron="@yearly"), task=task, coming=1).next_fires
    client.stop(f"{task}-s")

async def again():
    async with easyq.AsyncClient() as client:
        try:
            await client.run(spec, task=task, check=True)
        except easyq.JobFailed as error:
            return error.result

result = asyncio.run(again())
print(result.exit_code, result.stdout, result.stderr)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    assert [one.name.split("-")[0] for one in build_wheels(folder)] == ["easyq_client", "easyq_server"]
    return folder


@pytest.fixture(scope="module", params=["locked", "oldest"])
def client(request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The client alone."""
    made = Environment(tmp_path_factory.mktemp("client") / "env", wheels)
    made.install("easyq-client", *(LOCK if request.param == "locked" else oldest(CLIENT)))
    if request.param == "oldest":
        for pin in oldest(CLIENT):
            name, _, version = pin.partition("==")
            assert made.installed[name].startswith(version)
    return made


def test_the_client_brings_nothing_of_the_server(client: Environment) -> None:
    assert set(client.installed) - _FURTHER == {"easyq-client", *(one.name for one in requirements(CLIENT))}
    client.run(client.python, "-W", "error", "-c", "import easyq")
    assert "run" in client.run(client.easyq, "--help")
    up = subprocess.run([client.easyq, "up"], capture_output=True, text=True, check=False)
    assert (up.returncode, up.stderr) == (1, "easyq: easyq up needs the server: pip install easyq-server\n")


def test_the_client_alone_runs_jobs(client: Environment, farm: UpFarm, task: str) -> None:
    env = {**clean_environment(), "EASYQ_SERVER": farm.grpc_address, "HOME": str(client.folder)}
    assert "0.1.0" in client.run(client.easyq, "version", env=env)
    ran = client.run(client.easyq, "run", "--task", task, EXAMPLE_IMAGE, "echo", "hello", env=env)
    assert ran == "hello\n"
    assert client.run(client.python, "-c", _SUBMITS, EXAMPLE_IMAGE, task, env=env) == r"3 b'out\n' b'err\n'" + "\n"
    readme = (CLIENT / "README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    shown = shown.replace("127.0.0.1:10001", farm.grpc_address).replace("busybox:1", EXAMPLE_IMAGE)
    assert client.run(client.python, "-c", shown) == "hello\n\n"
    listed = client.run(client.easyq, "ps", "-a", "--task", task, "-o", "yaml", env=env)
    assert listed.count("state: FAILED") == 2
    assert client.run(client.easyq, "stats", task, "--json", env=env).startswith("{")


# -------------------------------------------------------------------------------------------------------------- server


@pytest.fixture(scope="module")
def server(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("server") / "env", wheels)
    made.install("easyq-server", *LOCK)
    return made


def test_the_server_brings_the_client_of_its_version(server: Environment) -> None:
    assert server.installed["easyq-client"] == server.installed["easyq-server"]
    assert {one.name for one in requirements(SERVER)} <= set(server.installed)
    versions = [
        tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        for project in (CLIENT, SERVER)
    ]
    assert len(set(versions)) == 1


def test_every_file_of_the_packages_is_in_a_wheel(wheels: Path) -> None:
    packed = {name for wheel in wheels.glob("*.whl") for name in zipfile.ZipFile(wheel).namelist()}
    folders = [*ROOT.glob("services/*/easyq_*"), ROOT / "protos/gen/easyq_internal", ROOT / "clients/python/easyq"]
    tracked = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in tracked.stdout.split("\0") if name]
    assert len(files) > 300
    missing = {
        str(file.relative_to(folder.parent))
        for file in files
        for folder in folders
        if file.is_relative_to(folder) and file.exists()
    } - packed
    assert not missing


class WheelFarm(UpFarm):
    """`easyq up` of an environment."""

    def __init__(self, environment: Environment, hosts: list[DockerHost]) -> None:
        super().__init__(hosts)
        self._easyq = environment.easyq

    def command(self) -> list[str]:
        return [self._easyq, *super().command()[1:]]


@pytest.fixture
def wheel_farm(server: Environment, hosts: list[DockerHost]) -> Iterator[UpFarm]:
    with WheelFarm(server, hosts[:1]) as farm:
        yield farm


def test_the_server_alone_is_a_whole_system(server: Environment, wheel_farm: UpFarm, task: str) -> None:
    env = {**clean_environment(), "EASYQ_SERVER": wheel_farm.grpc_address, "HOME": str(server.folder)}
    ran = server.run(server.easyq, "run", "--task", task, EXAMPLE_IMAGE, "echo", "hello", env=env)
    assert ran == "hello\n"
    # What needs files beside the code: pages, their style, the document of the API.
    for path in ("/", f"/admin/tasks/{task}", "/docs", "/openapi.json", "/status"):
        assert wheel_farm.rest.call("GET", path, headers={"Accept": "text/html"}).status == 200, path
