"""The farm that is broken: services with proxies between them, three Docker Engines, Redis, a small disk, a clock."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.nemesis.faults import DATABASE_LINK
from tests.chaos.nemesis.intents import HOSTS
from tests.chaos.nemesis.proxy import Network
from tests.support import process
from tests.support.farm import SplitFarm, Witness
from tests.support.farm.split import RunnerService, Service
from tests.support.farm.up import Engine
from tests.support.ferretdb import FerretDB, ferretdb_binary
from tests.support.hosts import DockerHost, dockerd_binary
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import free_port

SLOTS = 3
ROOT = Path(__file__).parents[3]
LIMITS = (("limited-.*", 2), ("limited-b", 1))
POOLS = (("small", "pooled-.*", 3),)
# What the gateway allows, and megabytes of an agent's disk, where outages are planned.
STREAMS = 20
_HOST_DISK = 4096
# So long the store waits until it gives an agent up; short, so that a run of minutes sees it.
LOST_AFTER = 8


class _Service(Service):
    """With variables that are no settings."""

    extra: Mapping[str, str] = {}

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.extra}


class _RunnerService(RunnerService):
    extra: Mapping[str, str] = {}

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.extra}


class ChaosFarm(SplitFarm):
    """Each agent has connections of its own, which can be cut. `extra`: variables for all services, or, as
    `dispatcher-0:NAME`, for one."""

    def __init__(self, docker: Sequence[Engine], *, network: Network, extra: Mapping[str, str], **more: object) -> None:
        self._network = network
        self._extra = extra
        self._copies: Counter[str] = Counter()
        self._redis = str(more["redis"])
        super().__init__(docker, route=self._route, **more)  # type: ignore[arg-type]

    @property
    def targets(self) -> dict[str, str]:
        """Where each process serves its metrics, by the name that faults have for it."""
        named = {"gateway": self.gateway, "store": self.store}
        named |= {f"scheduler-{number}": one for number, one in enumerate(self.schedulers)}
        named |= {f"dispatcher-{number}": one for number, one in enumerate(self.dispatchers)}
        named |= {f"runner-{label}": one for label, one in zip(HOSTS, self.runners, strict=True)}
        return {name: one.metrics for name, one in named.items()}

    def _route(self, caller: str, callee: str, address: str) -> str:
        # Those of agents are made one by one.
        if caller == "runner" or callee != "store":
            return address
        return self._network.between(f"{caller}-{callee}", address)

    def _service(self, name: str, address: str, **settings: str) -> Service:
        service = _Service(
            name,
            settings={"ops_listen": f"127.0.0.1:{free_port()}", **settings, **self._more.get(name, {})},
            address=address,
            mark=str(self.folder),
        )
        if name == "dispatcher":
            address = self._redis.removeprefix("redis://").partition("/")[0]
            service.settings["redis"] = self._redis.replace(address, self._network.between("dispatcher-redis", address))
        service.extra = self._variables(name, f"{name}-{self._copies[name]}")
        self._copies[name] += 1
        return service

    def _variables(self, *names: str) -> dict[str, str]:
        parts = [(*variable.rpartition(":")[::2], value) for variable, value in self._extra.items()]
        return {variable: value for target, variable, value in parts if target in {"", *names}}

    def _runner(self, host: Engine, dispatchers: list[str], store: str) -> RunnerService:
        link = f"agent-{host.label}"
        plain = super()._runner(
            host,
            [self._network.between(f"{link}-dispatcher", one) for one in dispatchers],
            self._network.between(f"{link}-store", store),
        )
        process.remove_folder(plain.folder)
        settings = {**plain.settings, "labels": f"host={host.label}"}
        service = _RunnerService("runner", settings=settings, mark=str(self.folder))
        service.extra = self._variables(f"runner-{host.label}")
        return service


class Disk:
    """A file system in memory that can be made full, without using memory for it."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._size = f"{megabytes}m"
        folder.mkdir(parents=True, exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={self._size}", "tmpfs")

    def fill(self) -> None:
        """No room beyond what is used, but for a few pages."""
        stat = os.statvfs(self.folder)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        self._mount("-o", f"remount,size={used + 4 * stat.f_frsize}")

    def free(self) -> None:
        self._mount("-o", f"remount,size={self._size}")

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.folder)], check=True, capture_output=True)


class Stage:
    """Everything, started by `start`. `extra` are variables for all services; `mongo`: the store on FerretDB.

    `outages`: it is made for those (`outages.py`), with a file of rules, a disk for each agent, a gateway of few
    streams.

    The services are started from a copy of `services`: whoever edits the source during an hour does not change what
    the next restart brings up.
    """

    def __init__(
        self,
        *,
        minutes: float,
        mongo: bool = False,
        services: Path,
        extra: Mapping[str, str] | None = None,
        outages: bool = False,
    ) -> None:
        self._closing = process.Closing()
        self.folder = process.make_folder("chaos")
        self._closing.add(lambda: process.remove_folder(self.folder))
        code = {"PYTHONPATH": os.pathsep.join(map(str, _copied(services, self.folder / "code")))}
        self.clock_file = self.folder / "clock"
        self.network = Network()
        self._closing.add(self.network.close)
        self.redis = RedisServer(redis_binary())
        self._closing.add(self.redis.close)
        self.hosts = [DockerHost(dockerd_binary(), label) for label in HOSTS]
        for host in self.hosts:
            self._closing.add(host.close)
        self.ferretdb: FerretDB | None = None
        self.disk: Disk | None = None
        if mongo:
            self.ferretdb = FerretDB(ferretdb_binary())
            self._closing.add(self.ferretdb.close)
            # In memory: it writes to disk for each document, and what is tried here is not a power failure.
            Disk(self.ferretdb.folder / "data", int(256 + 24 * minutes))
            address = f"127.0.0.1:{self.ferretdb.port}"
            database = f"mongodb://{self.network.between(DATABASE_LINK, address)}/chaos"
        else:
            self.disk = Disk(self.folder / "disk", int(256 + 24 * minutes))
            database = f"sqlite:///{self.disk.folder}/easyq.db"
        self.rules = self.folder / "rules.toml"
        self.rules.write_text("", encoding="ascii")
        self.farm = ChaosFarm(
            self.hosts,
            network=self.network,
            redis=self.redis.url,
            store={"database": database},
            slots=SLOTS,
            extra={"EASYQ_TEST_CLOCK_FILE": str(self.clock_file), **code, **(extra or {})},
            settings=_settings(mongo=mongo, rules=str(self.rules) if outages else ""),
        )
        self._closing.add(self.farm.close)
        self.host_disks = {
            label: Disk(Path(runner.settings["data"]), _HOST_DISK)
            for label, runner in zip(HOSTS, self.farm.runners, strict=True)
            if outages
        }
        self.witness = Witness(self.farm.mounts / "w")

    def start(self) -> None:
        self.redis.start()
        if self.ferretdb is not None:
            self.ferretdb.start()
        for host in self.hosts:
            host.start(wait=False)
        for host in self.hosts:
            host.wait_ready()
            host.load_example_image()
        self.farm.start()

    def set_clock(self, offset_ms: int) -> None:
        """By how much the services' wall clock is wrong."""
        new = self.clock_file.with_suffix(".new")
        new.write_text(str(offset_ms), encoding="ascii")
        new.rename(self.clock_file)

    def service(self, target: str) -> Service:
        """By the name that faults have for it."""
        farm = self.farm
        services: dict[str, Service] = {"gateway": farm.gateway, "store": farm.store}
        services |= {f"scheduler-{number}": one for number, one in enumerate(farm.schedulers)}
        services |= {f"dispatcher-{number}": one for number, one in enumerate(farm.dispatchers)}
        return services[target]

    def runner(self, label: str) -> RunnerService:
        return self.farm.runners[HOSTS.index(label)]

    def host(self, label: str) -> DockerHost:
        return self.hosts[HOSTS.index(label)]

    def logs(self) -> dict[str, Path]:
        """The log of each process, by a name for it."""
        names = ["gateway", "store", "scheduler-0", "scheduler-1", "dispatcher-0", "dispatcher-1"]
        found = {name: self.service(name).log_path for name in names}
        found |= {f"runner-{label}": self.runner(label).log_path for label in HOSTS}
        found |= {f"dockerd-{label}": self.host(label).log_path for label in HOSTS}
        return {**found, "redis": self.redis.log_path}

    def close(self) -> None:
        self._closing.close()


def _copied(services: Path, folder: Path) -> list[Path]:
    """The source of the services, the stubs and the client below `folder`; the paths to import from."""
    sources = [
        *(path for path in sorted(services.iterdir()) if path.is_dir()),
        ROOT / "protos/gen",
        ROOT / "clients/python",
    ]
    leave = shutil.ignore_patterns("__pycache__", "tests", ".*")
    return [Path(shutil.copytree(one, folder / str(n) / one.name, ignore=leave)) for n, one in enumerate(sources)]


def _settings(*, mongo: bool, rules: str) -> dict[str, dict[str, str]]:
    # What FerretDB is asked for, again and again, where nothing is due; each time it goes through all there is.
    scheduler = {"poll_interval": "2", "expiry_interval": "4"} if mongo else {}
    settings = {
        "scheduler": scheduler,
        # The checker looks at everything that ever was.
        "store": {"lost_margin": "2", "lost_interval": "0.5", "log_level": "debug", "retain_executions": "0"},
        "dispatcher": {
            "lost_after": f"{LOST_AFTER}s",
            "lease": "5",
            "beat_every": "1",
            "limits": "\n".join(f"{regex}={most}" for regex, most in LIMITS),
            "pools": "\n".join(f"{name}={regex}:{most}" for name, regex, most in POOLS),
        },
        "runner": {"pools": "default,small", "engine_lost_after": "6", "shutdown_grace": "2"},
        "gateway": {},
    }
    if rules:
        for name in ("gateway", "store", "dispatcher"):
            settings[name]["rules"] = rules
        settings["gateway"]["max_streams"] = str(STREAMS)
        # Time is stretched for the rules: a second is fifteen.
        settings["dispatcher"]["gauge_interval"] = "0.7"
    return settings
