"""The store's database on MongoDB 7 or later, by the native asyncio client of PyMongo.

No transactions: each step of a plan is one document (see `easyq_store.ports`). Any number of store processes may use
one database. Writes wait for a majority of the replica set and its journals; reads come from the primary and show
only what a majority has, so that they see every write that was answered and nothing that a failover may take back.

FerretDB 1 speaks the protocol too and is good enough for trials. It does not change documents atomically, so only one
store process may use it: within one, the changes of a record take turns.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from easyq_chassis.errors import EasyQError, FailedPrecondition, Unavailable
from easyq_chassis.logs import get_logger
from easyq_store.adapters.mongo_documents import Document
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_reads import MongoReads
from easyq_store.adapters.mongo_schema import Database, bring_forward
from easyq_store.adapters.mongo_steps import MongoSteps
from easyq_store.adapters.mongo_writes import MongoWrites
from easyq_store.ports import Plan

R = TypeVar("R")

DEFAULT_DATABASE = "easyq"

# Where the URL says nothing else. A server that is away is told of after two seconds, one that took a call and does
# not answer after ten, a majority that does not confirm after eight.
_OPTIONS: dict[str, Any] = {
    "appName": "easyq-store",
    "serverSelectionTimeoutMS": 2_000,
    "connectTimeoutMS": 2_000,
    "socketTimeoutMS": 10_000,
    "waitQueueTimeoutMS": 5_000,
    "maxPoolSize": 100,
}
_MAJORITY_MS = 8_000
# Plans on the wire at once; the others wait, so that connections are left for reads.
_PLANS = 64


class MongoPersistence:
    """`easyq_store.ports.Persistence` on the database that a `mongodb://` URL names, or `easyq` if it names none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: AsyncMongoClient[Document] | None = None
        self._opened: tuple[Database, MongoWrites] | None = None
        self._reads = MongoReads(self._database)
        self._gate = asyncio.Semaphore(_PLANS)
        self._plans = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def reads(self) -> MongoReads:
        return self._reads

    async def open(self) -> None:
        await self.close()
        self._client = _client(self._url)
        database = _database(self._client)
        try:
            with translated():
                await _warn_of_ferretdb(database)
                await bring_forward(database)
        except BaseException:
            await self.close()
            raise
        self._opened = database, MongoWrites(database)

    async def close(self) -> None:
        # New plans are refused from here on.
        self._opened = None
        await self._idle.wait()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def run(self, plan: Plan[R]) -> R:
        database, writes = self._is_open()
        self._plans += 1
        self._idle.clear()
        try:
            async with self._gate:
                return await plan(MongoSteps(lambda: database, writes))
        finally:
            self._plans -= 1
            if not self._plans:
                self._idle.set()

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        results = await asyncio.gather(*(self.run(plan) for plan in plans), return_exceptions=True)
        told: list[R | EasyQError] = []
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, EasyQError):
                raise result
            told.append(result)
        return told

    def _is_open(self) -> tuple[Database, MongoWrites]:
        if self._opened is None:
            raise Unavailable("the connection to MongoDB is not open")
        return self._opened

    def _database(self) -> Database:
        return self._is_open()[0]


def _client(url: str) -> AsyncMongoClient[Document]:
    try:
        given = {option.lower() for option, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
        options = {name: value for name, value in _OPTIONS.items() if name.lower() not in given}
        return AsyncMongoClient(url, **options)
    except (PyMongoError, ValueError):
        # What the driver says may quote the URL, password and all.
        raise FailedPrecondition(
            "the MongoDB URL is not valid (mongodb://host[:port]/[database], with user:password@ before the host; what "
            "is none of A-Z a-z 0-9 - . _ ~ in these two must be percent-encoded)"
        ) from None


def _database(client: AsyncMongoClient[Document]) -> Database:
    return client.get_default_database(
        DEFAULT_DATABASE,
        write_concern=WriteConcern(w="majority", j=True, wtimeout=_MAJORITY_MS),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )


async def _warn_of_ferretdb(database: Database) -> None:
    about = await database.client.server_info()
    if "ferretdbVersion" in about:
        get_logger().warning(
            "ferretdb_is_for_trials",
            version=about["ferretdbVersion"],
            advice="it does not change documents atomically: run one store process only, or use MongoDB",
        )
