"""A Docker registry on the loopback interface: Debian's docker-registry."""

import urllib.error
import urllib.request
from pathlib import Path

from tests.support.hosts import DockerHost
from tests.support.missing import require_program
from tests.support.server import Server
from tests.support.waiting import free_port

USER = "easyq"
PASSWORD = "only-for-tests"
# `htpasswd -nbB` of the two above; the registry knows bcrypt only.
HTPASSWD = "easyq:$2b$04$dTzXX25U8skDYGZGX68LGeiWFJOw.uNlfGKITdAxV3FZCEWd5X0RG\n"


def registry_binary() -> Path:
    return Path(require_program("docker-registry", "apt-get install docker-registry"))


class Registry(Server):
    """`address` is what stands before the slash of an image's name; with `private` it asks for USER and PASSWORD."""

    name = "registry"

    def __init__(self, binary: Path, *, private: bool = False) -> None:
        super().__init__()
        self.binary = binary
        self.private = private
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str] | None:
        """What the Docker SDK takes as `auth_config`."""
        return {"username": USER, "password": PASSWORD} if self.private else None

    def command(self) -> list[str | Path]:
        (self.folder / "config.yml").write_text(self._config(), encoding="ascii")
        (self.folder / "htpasswd").write_text(HTPASSWD, encoding="ascii")
        return [self.binary, "serve", self.folder / "config.yml"]

    def _config(self) -> str:
        auth = f"auth:\n  htpasswd:\n    realm: easyq\n    path: {self.folder}/htpasswd\n" if self.private else ""
        return (
            "version: 0.1\n"
            "log:\n  level: warn\n"
            f"storage:\n  filesystem:\n    rootdirectory: {self.folder}/data\n  delete:\n    enabled: true\n"
            f"http:\n  addr: {self.address}\n{auth}"
        )

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return self.private and error.code == 401

    def push_example(self, host: DockerHost, name: str = "team/example", tag: str = "1") -> str:
        """Puts the busybox image into the registry by way of `host`, and removes it there; its full name."""
        repository = f"{self.address}/{name}"
        client = host.client()
        client.images.get(host.load_example_image()).tag(repository, tag)
        for line in client.api.push(repository, tag, stream=True, decode=True, auth_config=self.credentials):
            assert "error" not in line, line
        client.images.remove(f"{repository}:{tag}")
        return f"{repository}:{tag}"
