"""Docker Engines of our own: several on one machine, each with its own folder, socket and containerd."""

import contextlib
import json
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container

from tests.support import process
from tests.support.images import example_tar
from tests.support.missing import missing, require_program
from tests.support.server import Server

EXAMPLE_IMAGE = "easyq/example:1"


def dockerd_binary() -> Path:
    how = "apt-get install docker.io"
    binary = require_program("dockerd", how)
    require_program("containerd", how)
    if os.geteuid() != 0:
        missing("dockerd as a test starts it", "run the tests as root")
    return Path(binary)


class DockerHost(Server):
    """One dockerd. It has no bridge: containers use network `none` or `host`.

    `stop()` lets dockerd stop its containers as a shutdown does; `kill()` leaves them running until it comes back.
    """

    name = "dockerd"
    start_timeout = 60.0
    # By TERM, so that the daemon of a test run that died ends its containers before it goes.
    death_signal = signal.SIGTERM

    def __init__(self, binary: Path, label: str = "main", *, arguments: tuple[str, ...] = ()) -> None:
        super().__init__(process.make_folder("d"))
        self.binary = binary
        self.label = label
        self.arguments = arguments
        self._clients: list[docker.DockerClient] = []

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def namespace(self) -> str:
        """In case a containerd of the system runs: dockerd then uses that one. It takes no `_` beside a `-`."""
        return self.folder.name.replace("_", "x")

    def command(self) -> list[str | Path]:
        return [
            self.binary,
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            f"--host={self.url}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/x",
            f"--pidfile={self.folder}/pid",
            f"--config-file={self.folder}/daemon.json",
            f"--containerd-namespace={self.namespace}",
            f"--containerd-plugins-namespace={self.namespace}-plugins",
            *self.arguments,
        ]

    def environment(self) -> dict[str, str]:
        # Nothing of the user's: no proxies, no remote host, no context.
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return path | {name: value for name in kept if (value := os.environ.get(name)) and name != "PATH"}

    def start(self, *, wait: bool = True) -> "DockerHost":
        self._give_own_identity()
        if not self.running:
            self._forget_dead_processes()
        super().start(wait=wait)
        return self

    def _give_own_identity(self) -> None:
        """Gives the engine an id of its own: older ones make it from a key that all of a machine share (by default
        /etc/docker/key.json), later ones keep it in their data."""
        config, engine_id = self.folder / "daemon.json", self.folder / "data/engine-id"
        if config.exists():
            return
        told = subprocess.run([self.binary, "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"version v?(\d+)", told)
        old = found is not None and int(found.group(1)) < 23
        settings = {"deprecated-key-path": f"{self.folder}/key.json"} if old else {}
        config.write_text(json.dumps(settings), encoding="ascii")
        if not old:
            engine_id.parent.mkdir(mode=0o711)
            engine_id.write_text(str(uuid.uuid4()), encoding="ascii")

    def _forget_dead_processes(self) -> None:
        """Removes pid files of processes that ended: where PID 1 reaps nobody, dockerd takes the zombie of a killed
        containerd for a running one and waits for its socket in vain."""
        for file in (self.folder / "pid", self.folder / "x/containerd/containerd.pid"):
            with contextlib.suppress(OSError, ValueError):
                if not process.alive(int(file.read_text(encoding="ascii"))):
                    file.unlink()

    def ready(self) -> bool:
        try:
            with contextlib.closing(docker.DockerClient(base_url=self.url, timeout=2)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False

    def client(self, timeout: float = 30) -> docker.DockerClient:
        """A new client of the Docker SDK, closed with this host."""
        client = docker.DockerClient(base_url=self.url, timeout=int(timeout), max_pool_size=50)
        self._clients.append(client)
        return client

    def load_example_image(self, name: str = EXAMPLE_IMAGE) -> str:
        """Imports the busybox image where it is missing; its name."""
        client = self.client()
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            repository, _, tag = name.rpartition(":")
            changes = ["ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["/bin/sh"]']
            client.api.import_image_from_data(example_tar(), repository=repository, tag=tag, changes=changes)
        return name

    def containers(self, **filters: Any) -> list[Container]:
        """All its containers, ended ones as well; `label="x=y"`, `name="…"` as `docker ps --filter` knows them."""
        return self.client().containers.list(all=True, filters=filters, ignore_removed=True)

    def remove_containers(self) -> None:
        """Removes every container, running ones too."""
        for container in self.containers():
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)

    def close(self) -> None:
        try:
            if self.running:
                self.thaw()
                with contextlib.suppress(docker.errors.DockerException, OSError):
                    self.remove_containers()
            for client in self._clients:
                client.close()
            self._clients.clear()
        finally:
            super().close()
