"""What the store asks of a database.

Writes go through *plans*: coroutine functions that read, decide with pure functions, and write, one document at a
time, through `Steps`. A plan awaits nothing but its `Steps`, and changes nothing but through them: it may run in
another thread than its caller's, and more than once. Each step is atomic by itself. Where `Steps.atomic` is
true, the whole plan is (SQLite: one transaction, in one thread, shared with other plans' commit); elsewhere
(MongoDB: no transactions) a crash may end a plan between any two steps, and plans run beside each other. So every
plan is written to be repeated harmlessly, marks what is not settled (`unsettled_since`) with the first step, and a
sweep completes what a crash left. A plan whose backend is atomic may leave these marks out.

When `run` or `run_all` returns, what the plans wrote is durable. Errors: `Unavailable` (the database can't be
reached, or the result isn't known); what a plan raises passes through, and an atomic backend has then undone the plan.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from easyq_chassis.errors import EasyQError
from easyq_store.domain.records import (
    Agent,
    Delivery,
    DueDelivery,
    DueHead,
    Execution,
    Head,
    HeldHead,
    Job,
    LogChunk,
    Skip,
    Task,
)
from easyq_store.domain.sites import Sites
from easyq_store.domain.states import ExecutionState, FailureReason, JobState, Stream, Trigger
from easyq_store.domain.stats import Cell

R = TypeVar("R")


# Skips of a job that are kept.
MOST_SKIPS = 1_000


# Higher than any priority.
ABOVE_ALL = 2**31


class Inserted(Enum):
    """What became of an insert of a job."""

    DONE = "done"
    # A job has this id already. Told also where the key is taken too.
    ID_TAKEN = "id_taken"
    # Another job of the task has this idempotency key.
    KEY_TAKEN = "key_taken"


class Lookups(Protocol):
    """Reads that plans need as well; inside a plan they see the plan's own writes."""

    async def get_job(self, job_id: str) -> Job | None:
        """The job, or None."""

    async def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        """The task's job with this (non-empty) idempotency key."""

    async def get_spec(self, job_id: str, revision: int) -> bytes | None:
        """Serialized spec of one revision of a job: the present one, or one kept aside."""

    async def get_asked(self, job_id: str, revision: int) -> bytes | None:
        """What was asked for with that spec; None too where that was not told."""

    async def get_execution(self, execution_id: str) -> Execution | None:
        """The execution, or None."""

    async def newest_execution(self, job_id: str) -> Execution | None:
        """The job's execution with the highest attempt."""

    async def open_executions(self, job_id: str) -> list[Execution]:
        """The job's executions that have not ended, by attempt. There are few."""

    async def open_series(self, job_id: str) -> list[Execution]:
        """Those, and the ended ones whose successor was decided on and may not be inserted yet; by attempt."""

    async def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        """The job's oldest executions, lowest attempt first."""

    async def held_by(self, agent_id: str) -> list[Execution]:
        """ASSIGNED and RUNNING executions of an agent, by id."""

    async def get_agent(self, agent_id: str) -> Agent | None:
        """The agent, or None."""

    async def get_delivery(self, delivery_id: str) -> Delivery | None:
        """The delivery, or None."""

    async def has_unsent(self, job_id: str, execution_id: str = "") -> bool:
        """Whether a delivery of the job, or of that execution of it, is neither taken nor given up yet."""

    async def generation(self) -> int:
        """Which filling of Redis is valid. 0 at first."""

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        """Stored bytes of a stream: the `end` of its last chunk, 0 if there is none."""


class Steps(Lookups, Protocol):
    """The writes of a plan.

    `change_*` reads the record, applies the pure function, and writes what it returns by compare-and-set; where
    somebody else was quicker it does so again, so the function may be called more than once. Returning the same
    object means no write. The function leaves ids and `write_no` alone; the backend sets `write_no`.
    They return the record as it stands afterwards, or None if there is none.
    """

    @property
    def atomic(self) -> bool:
        """All steps of the plan take effect together or not at all, and no other plan's come in between."""

    async def insert_job(self, job: Job) -> Inserted:
        """Inserts a job, and makes its task known: created_at, last_job_at, job_count."""

    async def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Job | None:
        """Changes a job."""

    async def keep_spec(self, job_id: str, revision: int, spec: bytes, asked: bytes | None = None) -> None:
        """Keeps an old revision's spec aside, and what was asked for; nothing happens if it is kept already."""

    async def keep_skips(self, job_id: str, skips: Sequence[Skip]) -> None:
        """Keeps skips of a job; nothing happens to one (by first and reason) that is kept already.

        Those before the newest `MOST_SKIPS` may be dropped.
        """

    async def insert_execution(self, execution: Execution) -> bool:
        """Inserts an execution; False (and nothing changed) if there is one with this id, or this job and attempt."""

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        """Changes an execution."""

    async def next_seq(self) -> int:
        """The next place in line: higher than any given out before, from 1. Gaps are fine."""

    async def insert_agent(self, agent: Agent) -> bool:
        """Inserts an agent; False if there is one with this id."""

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        """Changes an agent."""

    async def insert_delivery(self, delivery: Delivery) -> bool:
        """Inserts a delivery; False (and nothing changed) if there is one with this id."""

    async def change_delivery(self, delivery_id: str, decide: Callable[[Delivery], Delivery]) -> Delivery | None:
        """Changes a delivery."""

    async def delete_delivery(self, delivery_id: str) -> None:
        """Deletes a delivery, if there is one."""

    async def raise_generation(self, from_: int) -> bool:
        """Raises the generation by one if it is `from_`; whether it did."""

    async def insert_chunk(self, chunk: LogChunk) -> bool:
        """Stores a chunk (not empty); False if one begins at this offset of the stream already."""

    async def delete_chunks(self, execution_id: str, limit: int) -> int:
        """Deletes up to `limit` of an execution's chunks; how many. Fewer than `limit`: none is left."""

    async def delete_execution(self, execution: Execution) -> bool:
        """Deletes an execution with its deliveries, without its chunks, if it is as it was read.

        False if it was changed since.
        """

    async def delete_job(self, job: Job) -> bool:
        """Deletes a job with its old specs and skips, without its executions, if it is as it was read.

        False if it was changed since. Its task is told: job_count, last_job_at.
        """

    async def delete_task(self, task_id: str) -> None:
        """The task goes as soon as it has no jobs: now, or with the last of them. One that gets jobs again stays."""

    async def add_stats(self, cells: Sequence[Cell]) -> None:
        """Adds to the cells of these spans, times and tasks, each of which is named once."""

    async def delete_stats(self, span: int, before: int, limit: int) -> int:
        """Deletes up to `limit` cells of this span with at < before; how many. 0: none is left."""

    async def raise_clock(self, mark: int) -> int:
        """Raises the clock's high-water mark to `mark` if that is higher; the mark that holds. 0 at first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a list goes on: after this record in the order newest first, by (created_at, id) descending."""

    created_at: int
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Which jobs a list shows. Empty and None: no such condition."""

    task_id: str = ""
    states: tuple[JobState, ...] = ()
    # All of them, each `key=value`.
    labels: tuple[str, ...] = ()
    # All of them, as `Job.metadata` has them.
    metadata: tuple[str, ...] = ()
    # How the newest attempt that has ended did.
    ends: tuple[ExecutionState, ...] = ()
    # As `domain.images.is_named` has it.
    image: str = ""
    # created_at >= created_from, created_at < created_before.
    created_from: int | None = None
    created_before: int | None = None
    # Of jobs that have ended: last_modified_at >= ended_from, last_modified_at < ended_before.
    ended_from: int | None = None
    ended_before: int | None = None
    # Leaves out those that are to be deleted.
    kept_only: bool = False
    # Why the newest attempt that has ended failed.
    reasons: tuple[FailureReason, ...] = ()
    # Oldest first, instead of newest first.
    oldest: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionFilter:
    """Which executions a list shows."""

    task_id: str = ""
    job_id: str = ""
    states: tuple[ExecutionState, ...] = ()
    reasons: tuple[FailureReason, ...] = ()
    exit_codes: tuple[int, ...] = ()
    # Who held it last.
    agent_id: str = ""
    triggers: tuple[Trigger, ...] = ()
    image: str = ""
    created_from: int | None = None
    created_before: int | None = None
    # finished_at >= ended_from, finished_at < ended_before.
    ended_from: int | None = None
    ended_before: int | None = None
    # Oldest first, instead of newest first.
    oldest: bool = False


class Found(list[R]):
    """A page of a list. `stopped`: not everything behind this place was looked at; the list goes on after it."""

    def __init__(self, records: Iterable[R] = (), stopped: Place | None = None) -> None:
        super().__init__(records)
        self.stopped = stopped


class Reads(Lookups, Protocol):
    """Reads outside plans. They see every write that was answered before they began."""

    async def list_jobs(
        self, where: JobFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Job]:
        """Jobs in their order, those behind `after` in it.

        With `examine` about so many are looked at, at most.
        """

    async def count_listed(self, where: JobFilter) -> int:
        """How many jobs such a list has in all. Counts without making records of them."""

    async def list_executions(
        self, where: ExecutionFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Execution]:
        """Executions likewise."""

    async def jobs_by_label(self, prefix: str, limit: int) -> list[Job]:
        """Jobs one of whose labels (`key=value`) begins so; of which, where there are many, is not said."""

    async def executions_of(self, job_id: str, limit: int) -> list[Execution]:
        """The job's newest executions, highest attempt first."""

    async def next_attempt(self, job_id: str, after: int) -> Execution | None:
        """The job's execution with the lowest attempt above `after`."""

    async def specs(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        """Specs of many (job id, revision); unknown ones are left out."""

    async def get_task(self, task_id: str) -> Task | None:
        """The task, or None."""

    async def list_tasks(self, after: str, limit: int) -> list[Task]:
        """Tasks by id, those after `after`."""

    async def count_jobs(self, task_id: str = "") -> Mapping[JobState, int]:
        """Jobs by state, of one task or of all; states without jobs are left out. Cheap with millions of jobs."""

    async def task_ids(self, after: str, limit: int) -> list[str]:
        """Ids of tasks above `after`, by id; of one that is about to go as well."""

    async def count_open(self, task_id: str) -> tuple[int, int]:
        """Executions of a task that are QUEUED, and that are ASSIGNED or RUNNING."""

    async def oldest_queued(self, task_id: str) -> int | None:
        """The earliest `queued_at` among the first of each priority in a task's queue; None: it is empty.

        That is the oldest of all, but where one that was given back keeps a place in front of it.
        """

    async def ended_jobs(self, task_id: str, states: Collection[JobState], before: int, limit: int) -> list[str]:
        """Ids of a task's jobs in these states, all ended ones, with last_modified_at < before, oldest first."""

    async def doomed_jobs(self, after: str, limit: int) -> list[str]:
        """Ids above `after` of jobs that are to be deleted and have ended, by id."""

    async def with_logs(self, task_id: str, before: int, limit: int) -> list[str]:
        """Ids of a task's executions with finished_at < before that may have logs, longest ago first.

        Not those whose logs were removed already, or which wrote none.
        """

    async def tasks_beginning(self, prefix: str, limit: int) -> list[Task]:
        """Tasks whose id begins so, by id."""

    async def jobs_beginning(self, prefix: str, limit: int) -> list[Job]:
        """Jobs whose id begins so, by id."""

    async def executions_beginning(self, prefix: str, limit: int) -> list[Execution]:
        """Executions whose id begins so, by id."""

    async def jobs_by_image(self, prefix: str, limit: int) -> list[Job]:
        """Jobs for whose image `domain.images.matches(image, prefix)` holds, newest first as far as cheaply done."""

    async def queued_after(self, seq: int, limit: int) -> list[Head]:
        """QUEUED executions with a higher queue_seq, by queue_seq."""

    async def last_seq(self) -> int:
        """Highest queue_seq given out so far; 0 if none was."""

    async def task_queue(self, task_id: str, limit: int) -> list[Head]:
        """The task's first QUEUED executions: priority high to low, then queue_seq low to high."""

    async def waiting(self, task_id: str, limit: int) -> list[Execution]:
        """The same executions, whole."""

    async def queued_tasks(self, after: str, limit: int) -> list[str]:
        """Ids above `after` of tasks that have QUEUED executions, by id. Costs by tasks, not by executions."""

    async def held(self, after: str, limit: int, agent_id: str = "") -> list[HeldHead]:
        """ASSIGNED and RUNNING executions by id above `after`, of one agent or of all."""

    async def due(self, now: int, limit: int) -> list[DueHead]:
        """SCHEDULED executions with due_at <= now, by due_at."""

    async def next_due(self, after: int) -> int | None:
        """The lowest due_at above `after` of a SCHEDULED execution."""

    async def expired(self, now: int, limit: int) -> list[str]:
        """Ids of SCHEDULED and QUEUED executions with latest_start < now, by latest_start."""

    async def next_expiry(self, after: int) -> int | None:
        """The lowest latest_start above `after` of a SCHEDULED or QUEUED execution."""

    async def due_schedules(self, now: int, limit: int) -> list[Job]:
        """Jobs with fire_at <= now, by fire_at."""

    async def next_schedule(self, after: int) -> int | None:
        """The lowest fire_at above `after` of a job."""

    async def skips(self, job_id: str, limit: int) -> list[Skip]:
        """The job's newest skips, by first (and reason) high to low."""

    async def stats(self, span: int, task_id: str, start: int, end: int) -> list[Cell]:
        """The cells of a task (of the farm, with an empty one) with start <= at < end, by at."""

    async def deliveries_of(self, job_id: str, after: Place | None, limit: int) -> list[Delivery]:
        """A job's deliveries newest first, by (created_at, delivery_id) descending."""

    async def due_deliveries(
        self, now: int, per_lane: int, limit: int, *, full: Collection[str], sites: Sites | None = None
    ) -> list[DueDelivery]:
        """Deliveries with next_at <= now: at most `per_lane` of each lane, by next_at, and none of the `full` ones.
        `sites` has room for them, and is told of each.

        First those of the lanes that wait longest. Cheap however many of one lane, or of a full one, are due.
        """

    async def next_delivery(self, after: int) -> int | None:
        """The lowest next_at above `after` of a delivery."""

    async def agents(self) -> list[Agent]:
        """All agents by id."""

    async def unsettled_jobs(self, before: int, limit: int) -> list[str]:
        """Ids of jobs with unsettled_since < before, longest first."""

    async def unsettled_executions(self, before: int, limit: int) -> list[str]:
        """Ids of executions with unsettled_since < before, longest first."""

    async def log_ends(self, execution_ids: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """Stored bytes (stdout, stderr); executions without any are left out."""

    async def read_chunks(self, execution_id: str, stream: Stream, offset: int, max_bytes: int) -> list[LogChunk]:
        """Chunks in order from the one that holds byte `offset`: as many as fit in max_bytes, but at least one.

        Empty if nothing is stored from there on.
        """


Plan = Callable[[Steps], Awaitable[R]]


class Persistence(Protocol):
    """A database, opened."""

    @property
    def reads(self) -> Reads:
        """Reads outside plans."""

    async def open(self) -> None:
        """Connects, brings the schema forward, and makes ready.

        Errors: `Unavailable` (try again later), `FailedPrecondition` (the schema is newer than this program knows, or
        another process holds the database: trying again won't help).
        """

    async def close(self) -> None:
        """Lets go of everything; waits for plans under way."""

    async def run(self, plan: Plan[R]) -> R:
        """Runs one plan; durable on return."""

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        """Runs plans in one go; each succeeds or fails on its own, a failure stands in its place."""
