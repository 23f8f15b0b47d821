"""FerretDB 1.24 with its SQLite back end: MongoDB's protocol on one small binary."""

import os
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.support.missing import cache_bin, find_program, missing
from tests.support.server import Server
from tests.support.waiting import free_port


def ferretdb_binary() -> Path:
    # Built by `make servers`; another FerretDB on PATH may be a version that needs PostgreSQL.
    built = cache_bin() / "ferretdb"
    if built.exists():
        return built
    other = find_program("ferretdb")
    return Path(other) if other else missing("FerretDB", "install Go, then `make servers` builds it")


class FerretDB(Server):
    """`url` has no database; give each test one of its own (fixture `mongo_url`)."""

    name = "ferretdb"

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self.binary = binary
        self.port = free_port()
        (self.folder / "data").mkdir()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    def command(self) -> list[str | Path]:
        return [
            self.binary,
            f"--listen-addr=127.0.0.1:{self.port}",
            "--handler=sqlite",
            f"--sqlite-url=file:{self.folder}/data/",
            f"--state-dir={self.folder}",
            "--telemetry=disable",
            "--debug-addr=-",
            "--log-level=WARN",
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DO_NOT_TRACK": "1"}

    def ready(self) -> bool:
        with self.client(timeout=1) as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
            return True

    def client(self, timeout: float = 10) -> "pymongo.MongoClient[dict[str, Any]]":
        return pymongo.MongoClient(self.url, serverSelectionTimeoutMS=int(timeout * 1000))
