"""Records as MongoDB documents: what is stored, what a change writes."""

from dataclasses import dataclass, replace

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.adapters.mongo_documents import AGENTS, EXECUTIONS, JOBS, SCHEMA_VERSION, Kind
from easyq_store.adapters.mongo_schema import INDEXES, MIGRATIONS
from easyq_store.domain.records import Failure
from easyq_store.domain.states import ENDED, ExecutionState, FailureReason, JobState
from tests.support.store_records import T0, agent, execution, job


def test_a_document_holds_plain_values_and_nothing_that_is_none() -> None:
    made = execution(failure=Failure(reason=FailureReason.OOM_KILLED, message="oom"))
    document = EXECUTIONS.encode(made)
    assert document["_id"] == "job-1-1"
    assert document["state"] == 2
    assert type(document["state"]) is int
    assert document["failure"] == {"reason": 2, "message": "oom"}
    assert document["schemaVersion"] == SCHEMA_VERSION
    assert None not in document.values()
    assert "latestStart" not in document
    assert AGENTS.encode(agent(labels=(("disk", "ssd"),)))["labels"] == [{"key": "disk", "value": "ssd"}]
    assert EXECUTIONS.decode(document) == made


def test_a_field_that_a_document_lacks_has_its_default() -> None:
    document = JOBS.encode(job(labels=("a=1",)))
    del document["labels"]
    assert JOBS.decode({**document, "ofANewerProgram": 1}) == job()


def test_a_document_of_a_newer_program_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="newer EasyQ"):
        JOBS.decode({**JOBS.encode(job()), "schemaVersion": SCHEMA_VERSION + 1})


def test_a_change_writes_what_differs_and_leaves_the_rest() -> None:
    stored = {**JOBS.encode(job(next_run_at=T0)), "ofANewerProgram": 1}
    changed = replace(job(), state=JobState.RUNNING, write_no=2)
    assert JOBS.update(stored, changed) == {"$set": {"state": 3, "writeNo": 2}, "$unset": {"nextRunAt": ""}}


def test_a_change_does_not_take_a_number_for_a_flag() -> None:
    stored = {**AGENTS.encode(agent()), "healthy": 1}
    assert AGENTS.update(stored, replace(agent(), write_no=2))["$set"] == {"healthy": True, "writeNo": 2}


def test_index_fields_come_and_go_with_the_state() -> None:
    names = {"openOf", "heldBy", "lineTask", "linePriority", "lineSeq", "firesAt", "expiresAt"}

    def derived(state: ExecutionState) -> set[str]:
        return names & EXECUTIONS.encode(execution(state=state, latest_start=T0)).keys()

    line = {"lineTask", "linePriority", "lineSeq"}
    assert derived(ExecutionState.SCHEDULED) == {"openOf", "firesAt", "expiresAt"}
    assert derived(ExecutionState.QUEUED) == {"openOf", "expiresAt"} | line
    assert derived(ExecutionState.ASSIGNED) == derived(ExecutionState.RUNNING) == {"openOf", "heldBy"}
    assert all(derived(state) == set() for state in ENDED)
    queued = EXECUTIONS.encode(execution())
    update = EXECUTIONS.update(queued, replace(execution(), state=ExecutionState.ASSIGNED, agent_id="host-a"))
    assert update == {"$set": {"state": 3, "agentId": "host-a", "heldBy": "host-a"}, "$unset": dict.fromkeys(line, "")}


def test_keys_and_short_names_are_stored_only_where_there_are_any() -> None:
    keyed = JOBS.encode(job(idempotency_key="k/1"))
    assert keyed["idempotency"] == "mail/k/1"
    assert keyed["shortImage"] == "echo:1"
    assert {"idempotency", "shortImage"} & JOBS.encode(job(image="redis")).keys() == set()


def test_a_record_that_can_not_be_stored_is_told_at_once() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        id: str
        share: float

    with pytest.raises(TypeError, match="float"):
        Kind(Odd, "odd", "id", lambda _: {})  # type: ignore[type-var]

    @dataclass(frozen=True, kw_only=True)
    class Filled:
        id: str
        number: int | None = 1

    with pytest.raises(TypeError, match="number"):
        Kind(Filled, "filled", "id", lambda _: {})  # type: ignore[type-var]


def test_each_version_has_its_migration() -> None:
    assert len(MIGRATIONS) == SCHEMA_VERSION - 1


def test_no_index_deletes_by_itself() -> None:
    documents = [index.document for indexes in INDEXES.values() for index in indexes]
    assert not [document for document in documents if "expireAfterSeconds" in document]
    assert len({(name, index.document["name"]) for name, all_ in INDEXES.items() for index in all_}) == len(documents)
