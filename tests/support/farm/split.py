"""The services as commands of their own, on a real Redis and a real MongoDB protocol: as on several machines."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import process
from tests.support.farm import processes
from tests.support.farm.rest import Rest
from tests.support.farm.up import EASYQ, Engine, clean_environment
from tests.support.server import Server
from tests.support.waiting import free_port, wait_until


class Service(Server):
    """One `easyq <name>`, configured by its environment; `address` is where it serves, if it does."""

    def __init__(self, name: str, *, settings: Mapping[str, str], address: str = "", mark: str = "") -> None:
        self.name = name
        super().__init__()
        self.settings = dict(settings)
        self.address = address
        self._mark = mark

    def command(self) -> list[str | Path]:
        return [EASYQ, self.name]

    @property
    def metrics(self) -> str:
        """Where it serves its metrics and health."""
        return f"http://{self.settings['ops_listen']}"

    def environment(self) -> dict[str, str]:
        prefix = f"EASYQ_{self.name.upper()}_"
        own = {f"{prefix}{name.upper()}": value for name, value in self.settings.items()}
        return {**clean_environment(), processes.MARK: self._mark, **own}

    def ready(self) -> bool:
        """It answers; whether it can do its work depends on the others."""
        if not self.address:
            return True
        with grpc.insecure_channel(self.address) as channel:
            try:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return True


class RunnerService(Service):
    """One `easyq runner`: a watchdog (`pid`) and its agent. To freeze and to thaw it means both."""

    @property
    def agent_pid(self) -> int:
        """Of the living agent."""
        return wait_until(lambda: processes.child_of(self.pid, "easyq_runner.agent"), message="the agent lives")

    def freeze(self) -> None:
        # The watchdog first, so that it does not see what becomes of the other.
        for pid in (self.pid, self.agent_pid):
            process.freeze(pid)

    def thaw(self) -> None:
        if self.running:
            for pid in (self.pid, processes.child_of(self.pid, "easyq_runner.agent")):
                if pid:
                    os.kill(pid, signal.SIGCONT)


class SplitFarm:
    """A gateway, a store, two schedulers, two dispatchers, and an agent for each Docker host.

    `store` are the settings of the store (`{"database": url}`), `settings` further ones by service. `route` may put
    something between two services: it is given caller, callee and the callee's address, and gives the address to take.
    """

    def __init__(
        self,
        docker: Sequence[Engine],
        *,
        redis: str,
        store: Mapping[str, str],
        slots: int = 4,
        copies: int = 2,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        route: Callable[[str, str, str], str] = lambda _caller, _callee, address: address,
    ) -> None:
        self.folder = process.make_folder("split")
        self.mounts = self.folder / "mounts"
        self.mounts.mkdir()
        self.slots = slots
        self._more = settings or {}
        self.rest_port, self.grpc_port = free_port(), free_port()
        store_at = _address()
        scheduler_at = [_address() for _ in range(copies)]
        dispatcher_at = [_address() for _ in range(copies)]
        self.store = self._service("store", store_at, listen=store_at, **store)
        self.dispatchers = [
            self._service("dispatcher", at, listen=at, store=route("dispatcher", "store", store_at), redis=redis)
            for at in dispatcher_at
        ]
        self.schedulers = [
            self._service(
                "scheduler",
                at,
                listen=at,
                store=route("scheduler", "store", store_at),
                dispatchers=",".join(route("scheduler", "dispatcher", one) for one in dispatcher_at),
            )
            for at in scheduler_at
        ]
        self.gateway = self._service(
            "gateway",
            f"127.0.0.1:{self.grpc_port}",
            rest_listen=f"127.0.0.1:{self.rest_port}",
            grpc_listen=f"127.0.0.1:{self.grpc_port}",
            store=route("gateway", "store", store_at),
            schedulers=",".join(route("gateway", "scheduler", one) for one in scheduler_at),
            dispatchers=",".join(route("gateway", "dispatcher", one) for one in dispatcher_at),
        )
        runner_dispatchers = [route("runner", "dispatcher", one) for one in dispatcher_at]
        runner_store = route("runner", "store", store_at)
        self.runners = [self._runner(host, runner_dispatchers, runner_store) for host in docker]

    def _runner(self, host: Engine, dispatchers: list[str], store: str) -> RunnerService:
        settings = {
            "dispatchers": ",".join(dispatchers),
            "store": store,
            "docker_host": host.url,
            "data": str(self.folder / f"agent-{host.label}"),
            "agent_id": f"agent-{host.label}",
            "slots": str(self.slots),
            "allowed_mounts": str(self.mounts),
            "ops_listen": _address(),
            **self._more.get("runner", {}),
        }
        return RunnerService("runner", settings=settings, mark=str(self.folder))

    def _service(self, name: str, address: str, **settings: str) -> Service:
        all_of_them = {"ops_listen": _address(), **settings, **self._more.get(name, {})}
        return Service(name, settings=all_of_them, address=address, mark=str(self.folder))

    # Life ------------------------------------------------------------------------------------------------------
    @property
    def services(self) -> list[Service]:
        """In an order in which they may be started."""
        return [self.store, *self.dispatchers, *self.schedulers, self.gateway, *self.runners]

    def start(self) -> Self:
        for service in self.services:
            service.start(wait=False)
        for service in self.services:
            service.wait_ready()
        what = "running" if self.runners else "accepting"
        wait_until(lambda: self.rest.get("/status")[what], 60, message=f"the farm is {what}")
        return self

    def mend(self) -> None:
        """Has back what a test has stopped, frozen or killed: no job is left, every service runs, and the store has
        heard each agent since."""
        for service in self.services:
            if service.running:
                service.thaw()
            service.start(wait=False)
        for service in self.services:
            service.wait_ready()
        wait_until(self.rest.accepting, 60, message="the farm is accepting")
        self.rest.post("/jobs/stop", {"selection": {"taskPattern": ".*"}})
        began = datetime.now(UTC)
        wait_until(lambda: self._all_heard(began), 60, message="all agents are heard, and run nothing")

    def _all_heard(self, since: datetime) -> bool:
        agents = {agent["agentId"]: agent for agent in self.rest.get("/agents")["items"]}
        return all(
            (agent := agents.get(runner.settings["agent_id"]))
            and (agent["state"], agent["healthy"], agent["silentSince"], agent["running"]) == ("LIVE", True, None, 0)
            and datetime.fromisoformat(agent["lastBeatAt"]) > since
            for runner in self.runners
        )

    def close(self) -> None:
        """Ends all of it at once: nothing of it is needed any more, and to say goodbye takes time. Containers stay."""
        errors = []
        for service in self.services:
            service.kill()
        for service in reversed(self.services):
            try:
                service.close()
            except Exception as error:  # noqa: BLE001 - the others still have to be closed
                errors.append(error)
        processes.kill(list(processes.marked(self.folder)))
        process.remove_folder(self.folder)
        if errors:
            raise ExceptionGroup("services did not close", errors)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # What it is ------------------------------------------------------------------------------------------------
    @property
    def rest(self) -> Rest:
        return Rest(f"http://127.0.0.1:{self.rest_port}")

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def tail(self) -> str:
        return "\n".join(f"--- {service.name}\n{process.tail(service.log_path, 3000)}" for service in self.services)


def _address() -> str:
    return f"127.0.0.1:{free_port()}"
