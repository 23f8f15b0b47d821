"""Real servers and waiting, for tests: `plugin` has the fixtures, the other modules what they hand out."""

from tests.support.ferretdb import FerretDB
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.redis_server import RedisServer
from tests.support.registry import Registry
from tests.support.waiting import eventually, free_port, wait_until

__all__ = [
    "EXAMPLE_IMAGE",
    "DockerHost",
    "FerretDB",
    "RedisServer",
    "Registry",
    "eventually",
    "free_port",
    "wait_until",
]
