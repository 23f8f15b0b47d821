"""Reads on MongoDB that ask several things at once."""

import asyncio
import gc
import warnings

from easyq_store.adapters.mongo_reads import MongoReads
from easyq_store.adapters.mongo_schema import Database
from easyq_store.domain.states import Stream


class Stuck(MongoReads):
    """On a server that does not answer."""

    def __init__(self) -> None:
        super().__init__(_no_database)
        self.asked: list[str] = []
        self.began = asyncio.Event()

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        self.asked.append(execution_id)
        self.began.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody answers")


def _no_database() -> Database:
    raise AssertionError("there is none")


async def test_who_gives_up_leaves_no_question_unasked() -> None:
    reads = Stuck()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call = asyncio.create_task(reads.log_ends([f"e-{number}" for number in range(50)]))
        await reads.began.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        del call
        gc.collect()
    assert 0 < len(reads.asked) < 50
    assert [str(one.message) for one in told] == []
