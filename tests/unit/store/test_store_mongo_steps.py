"""Compare-and-set that loses, without a database."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

import pytest

from easyq_chassis.errors import FailedPrecondition, Unavailable
from easyq_store.adapters.mongo_documents import JOBS, Document, Kind
from easyq_store.adapters.mongo_schema import Database
from easyq_store.adapters.mongo_steps import MongoSteps
from easyq_store.adapters.mongo_together import Turns
from easyq_store.adapters.mongo_writes import MongoWrites
from easyq_store.domain.records import Job
from tests.support.store_records import job


class Contended:
    """One stored job, which others change `times` times, each time before a compare-and-set comes."""

    def __init__(self, times: int) -> None:
        self.stored = JOBS.encode(job(attempts=0))
        self._left = times
        self._turns = Turns()

    def turn(self, collection: str, record_id: str) -> AbstractAsyncContextManager[None]:
        return self._turns.at((collection, record_id))

    async def replace_if(self, _: Kind[Job], stored: Mapping[str, Any], record: Job) -> bool:
        if self._left:
            self._left -= 1
            self.stored["attempts"] += 1
            self.stored["writeNo"] += 1
        if stored["writeNo"] != self.stored["writeNo"]:
            return False
        self.stored = JOBS.encode(record)
        return True

    async def make_task_known(self, _: Job) -> None:
        return

    # As a database, with one collection.
    def __getitem__(self, _: str) -> "Contended":
        return self

    async def find_one(self, *_: object, **__: object) -> Document:
        return dict(self.stored)

    def steps(self) -> MongoSteps:
        return MongoSteps(lambda: cast("Database", self), cast("MongoWrites", self))


def one_more(old: Job) -> Job:
    return replace(old, attempts=old.attempts + 1)


@pytest.mark.parametrize("times", [0, 1, 7])
async def test_a_change_comes_on_top_of_those_that_were_quicker(times: int) -> None:
    changed = await Contended(times).steps().change_job("job-1", one_more)
    assert changed == replace(job(), attempts=times + 1, write_no=times + 2)


async def test_a_change_that_never_wins_is_given_up() -> None:
    with pytest.raises(Unavailable, match="too many others"):
        await Contended(10_000).steps().change_job("job-1", one_more)


async def test_a_refusal_on_what_was_remembered_is_asked_again_on_what_is_stored() -> None:
    database = Contended(0)
    steps = database.steps()
    await steps.change_job("job-1", one_more)
    # Somebody else, after this plan's own write.
    database.stored |= {"attempts": 5, "writeNo": 9}
    seen: list[int] = []

    def decide(old: Job) -> Job:
        seen.append(old.attempts)
        if old.attempts == 1:
            raise FailedPrecondition("one is not enough")
        return one_more(old)

    changed = await steps.change_job("job-1", decide)
    assert seen == [1, 5]
    assert changed is not None
    assert (changed.attempts, changed.write_no) == (6, 10)
    with pytest.raises(FailedPrecondition):
        await database.steps().change_job("job-1", lambda old: decide(replace(old, attempts=1)))
