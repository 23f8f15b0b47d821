"""Tables and indices, and how older databases come forward.

`MIGRATIONS[n]` brings version n to n + 1; a released one is never edited. The version stands in `PRAGMA user_version`.
"""

import json
import sqlite3
from collections.abc import Sequence

from easyq_chassis.errors import FailedPrecondition
from easyq_store.convert.spec import needs_in

_FIRST = """
-- Single values: generation, clock (its high-water mark), seq (up to which places in line may have been given out).
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE job (
    "row" INTEGER PRIMARY KEY,
    "job_id" TEXT NOT NULL UNIQUE,
    "task_id" TEXT NOT NULL,
    "state" INTEGER NOT NULL,
    "revision" INTEGER NOT NULL,
    "spec" BLOB NOT NULL,
    "image" TEXT NOT NULL,
    "labels" TEXT,                -- JSON list of key=value; NULL: none
    "idempotency_key" TEXT NOT NULL,
    "first_execution_id" TEXT NOT NULL,
    "created_at" INTEGER NOT NULL,
    "last_modified_at" INTEGER NOT NULL,
    "next_run_at" INTEGER,
    "stop_requested_at" INTEGER,
    "attempts" INTEGER NOT NULL,
    "projected_attempt" INTEGER NOT NULL,
    "projected_write" INTEGER NOT NULL,
    "pending" TEXT,               -- JSON of a planned execution
    "unsettled_since" INTEGER,
    "write_no" INTEGER NOT NULL
);
-- An idempotency key once per task.
CREATE UNIQUE INDEX job_key ON job (task_id, idempotency_key) WHERE idempotency_key <> '';
-- Lists newest first: all, of a task, in a state, and both.
CREATE INDEX job_created ON job (created_at, job_id);
CREATE INDEX job_task ON job (task_id, created_at, job_id);
CREATE INDEX job_state ON job (state, created_at, job_id);
CREATE INDEX job_task_state ON job (task_id, state, created_at, job_id);
-- Search by image.
CREATE INDEX job_image ON job (image, created_at);
-- The sweep.
CREATE INDEX job_unsettled ON job (unsettled_since) WHERE unsettled_since IS NOT NULL;

-- Lists by label, newest first.
CREATE TABLE job_label (
    label TEXT NOT NULL, created_at INTEGER NOT NULL, job_id TEXT NOT NULL,
    PRIMARY KEY (label, created_at, job_id)
) WITHOUT ROWID;

-- Specs of older revisions.
CREATE TABLE old_spec (
    job_id TEXT NOT NULL, revision INTEGER NOT NULL, spec BLOB NOT NULL, PRIMARY KEY (job_id, revision)
);

-- Kept with each commit, so that nobody counts jobs.
CREATE TABLE task (
    task_id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, last_job_at INTEGER NOT NULL, job_count INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE task_state (
    task_id TEXT NOT NULL, state INTEGER NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (task_id, state)
) WITHOUT ROWID;
-- Images that jobs have named, by the whole reference and by its last part.
CREATE TABLE image (image TEXT PRIMARY KEY, short_name TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX image_short ON image (short_name);

CREATE TABLE execution (
    "row" INTEGER PRIMARY KEY,
    "execution_id" TEXT NOT NULL UNIQUE,
    "job_id" TEXT NOT NULL,
    "task_id" TEXT NOT NULL,
    "attempt" INTEGER NOT NULL,
    "fence" INTEGER NOT NULL,
    "trigger" INTEGER NOT NULL,
    "state" INTEGER NOT NULL,
    "epoch" INTEGER NOT NULL,
    "priority" INTEGER NOT NULL,
    "queue_seq" INTEGER NOT NULL,
    "spec_revision" INTEGER NOT NULL,
    "created_at" INTEGER NOT NULL,
    "due_at" INTEGER NOT NULL,
    "latest_start" INTEGER,
    "retries_used" INTEGER NOT NULL,
    "infra_used" INTEGER NOT NULL,
    "series_due_at" INTEGER NOT NULL,
    "queued_at" INTEGER,
    "assigned_at" INTEGER,
    "started_at" INTEGER,
    "finished_at" INTEGER,
    "stop_requested_at" INTEGER,
    "agent_id" TEXT NOT NULL,
    "session" INTEGER NOT NULL,
    "pool" TEXT NOT NULL,
    "container_id" TEXT NOT NULL,
    "image_digest" TEXT NOT NULL,
    "outcome" INTEGER,
    "exit_code" INTEGER,
    "failure" TEXT,               -- JSON [reason, message]
    "stdout_size" INTEGER,
    "stderr_size" INTEGER,
    "stdout_truncated" INTEGER NOT NULL,
    "stderr_truncated" INTEGER NOT NULL,
    "logs_complete" INTEGER NOT NULL,
    "ran_ms" INTEGER,
    "next" TEXT,                  -- JSON of a planned execution
    "unsettled_since" INTEGER,
    "write_no" INTEGER NOT NULL,
    "failure_reason" INTEGER GENERATED ALWAYS AS (json_extract("failure", '$[0]')) VIRTUAL
);
-- A job's executions; an attempt once.
CREATE UNIQUE INDEX execution_job ON execution (job_id, attempt);
-- Lists newest first: all, of a task, in a state, failed for a reason.
CREATE INDEX execution_created ON execution (created_at, execution_id);
CREATE INDEX execution_task ON execution (task_id, created_at, execution_id);
CREATE INDEX execution_state ON execution (state, created_at, execution_id);
CREATE INDEX execution_reason ON execution (failure_reason, created_at, execution_id)
    WHERE failure_reason IS NOT NULL;
-- The queue of each task (and, by skipping from task to task, the tasks that have one); the queue over the farm. Both
-- hold all that a head has and a query names, since a task's heads lie far apart in the table.
CREATE INDEX execution_queue ON execution (task_id, priority DESC, queue_seq, epoch, execution_id, state)
    WHERE state = 2;
CREATE INDEX execution_seq ON execution (queue_seq, task_id, priority, epoch, execution_id, state) WHERE state = 2;
-- What is due, and what expires.
CREATE INDEX execution_due ON execution (due_at) WHERE state = 1;
CREATE INDEX execution_latest ON execution (latest_start) WHERE state IN (1, 2) AND latest_start IS NOT NULL;
-- What is assigned or runs: over the farm, and of an agent.
CREATE INDEX execution_held ON execution (execution_id) WHERE state IN (3, 4);
CREATE INDEX execution_agent ON execution (agent_id, execution_id) WHERE state IN (3, 4);
-- The sweep.
CREATE INDEX execution_unsettled ON execution (unsettled_since) WHERE unsettled_since IS NOT NULL;

CREATE TABLE agent (
    "agent_id" TEXT PRIMARY KEY,
    "daemon_id" TEXT NOT NULL,
    "session" INTEGER NOT NULL,
    "state" INTEGER NOT NULL,
    "beats" INTEGER NOT NULL,
    "hostname" TEXT NOT NULL,
    "pools" TEXT,                 -- JSON list
    "slots" INTEGER NOT NULL,
    "labels" TEXT,                -- JSON list of [key, value]
    "version" TEXT NOT NULL,
    "healthy" INTEGER NOT NULL,
    "message" TEXT NOT NULL,
    "lost_after_ms" INTEGER NOT NULL,
    "connected_at" INTEGER NOT NULL,
    "last_beat_at" INTEGER NOT NULL,
    "write_no" INTEGER NOT NULL
) WITHOUT ROWID;

-- Log bytes. The key finds a stream's end, and the chunk that holds a byte.
CREATE TABLE chunk (
    execution_id TEXT NOT NULL, stream INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    size INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (execution_id, stream, "offset")
);
"""

# Recurring jobs, what executions need, upkeep of agents.
_SECOND = """
ALTER TABLE job ADD COLUMN "failure" TEXT;               -- JSON [reason, message]
ALTER TABLE job ADD COLUMN "delete_requested" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN "schedule" TEXT;              -- JSON object
ALTER TABLE job ADD COLUMN "fire_at" INTEGER;
-- Several may be pending: a list of what was one.
UPDATE job SET pending = '[' || pending || ']' WHERE pending IS NOT NULL;
-- Recurring jobs whose fires are to be looked at.
CREATE INDEX job_fire ON job (fire_at) WHERE fire_at IS NOT NULL;

ALTER TABLE execution ADD COLUMN "fire_at" INTEGER;
ALTER TABLE execution ADD COLUMN "needs" TEXT;           -- JSON [cpu_millis, memory, gpus, [[key, value], ...]]
ALTER TABLE execution ADD COLUMN "image" TEXT NOT NULL DEFAULT '';
-- What has ended needs none.
UPDATE execution SET image = coalesce((SELECT j.image FROM job j WHERE j.job_id = execution.job_id), '')
    WHERE state IN (1, 2, 3, 4);
DROP INDEX execution_queue;
DROP INDEX execution_seq;
CREATE INDEX execution_queue ON execution
    (task_id, priority DESC, queue_seq, epoch, execution_id, state, needs, image) WHERE state = 2;
CREATE INDEX execution_seq ON execution
    (queue_seq, task_id, priority, epoch, execution_id, state, needs, image) WHERE state = 2;

ALTER TABLE agent ADD COLUMN "cordoned_at" INTEGER;
ALTER TABLE agent ADD COLUMN "drained_at" INTEGER;
ALTER TABLE agent ADD COLUMN "drain_deadline" INTEGER;
ALTER TABLE agent ADD COLUMN "declared_dead" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN "offer_cpu_millis" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN "offer_memory" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN "offer_gpus" INTEGER NOT NULL DEFAULT 0;

-- Fires that did not run, the newest of each job.
CREATE TABLE skip (
    job_id TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
    reason INTEGER NOT NULL, decided_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, first, reason)
) WITHOUT ROWID;

-- A task that is to go with the last of its jobs.
ALTER TABLE task ADD COLUMN delete_requested INTEGER NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN "logs_removed_at" INTEGER;
-- Retention: what has ended of a task, oldest end first; executions that may have logs.
CREATE INDEX job_ended ON job (task_id, state, last_modified_at, job_id) WHERE state IN (5, 6, 7, 8, 9);
CREATE INDEX execution_logs ON execution (task_id, finished_at, execution_id)
    WHERE finished_at IS NOT NULL AND logs_removed_at IS NULL AND coalesce(stdout_size + stderr_size, 1) > 0;
-- Jobs that are to be deleted, and may be.
CREATE INDEX job_doomed ON job (job_id) WHERE delete_requested = 1 AND state IN (5, 6, 7, 8, 9);
"""

# Why jobs failed, and what executions that are older than that column need.
_THIRD = """
ALTER TABLE job ADD COLUMN "failure_reason" INTEGER
    GENERATED ALWAYS AS (json_extract("failure", '$[0]')) VIRTUAL;
-- Lists of what failed for a reason, newest first: all, of a task.
CREATE INDEX job_failure ON job (failure_reason, created_at, job_id) WHERE failure_reason IS NOT NULL;
CREATE INDEX job_task_failure ON job (task_id, failure_reason, created_at, job_id) WHERE failure_reason IS NOT NULL;
-- A job's executions that have not ended: a fire asks for them, and a recurring job has a thousand that have.
CREATE INDEX execution_open ON execution (job_id, attempt) WHERE state IN (1, 2, 3, 4);

UPDATE execution SET needs = needs_of_spec(coalesce(
    (SELECT j.spec FROM job j WHERE j.job_id = execution.job_id AND j.revision = execution.spec_revision),
    (SELECT o.spec FROM old_spec o WHERE o.job_id = execution.job_id AND o.revision = execution.spec_revision)))
    WHERE state IN (1, 2, 3, 4) AND needs IS NULL;
"""

# What clients asked for, by which a repeat is known although the defaults are others meanwhile.
_FOURTH = """
ALTER TABLE job ADD COLUMN "asked" BLOB;                 -- NULL: not told
ALTER TABLE old_spec ADD COLUMN "asked" BLOB;
"""

# Statistics.
_FIFTH = """
-- Counters of a minute or an hour (`span`, in ms) that begins at `at`: of a task, or of the farm (an empty one).
CREATE TABLE stat (
    span INTEGER NOT NULL, task_id TEXT NOT NULL, at INTEGER NOT NULL,
    counts TEXT NOT NULL,         -- JSON object
    PRIMARY KEY (span, task_id, at)
) WITHOUT ROWID;
-- Retention.
CREATE INDEX stat_age ON stat (span, at);
"""

# What lists are asked for.
_SIXTH = """
ALTER TABLE job ADD COLUMN "metadata" TEXT;              -- JSON list of path=value; NULL: none
ALTER TABLE job ADD COLUMN "last_end" INTEGER;
UPDATE job SET last_end = CASE state WHEN 9 THEN 10 ELSE state END WHERE state IN (5, 6, 7, 8, 9);
-- Lists by metadata.
CREATE TABLE job_metadata (
    term TEXT NOT NULL, created_at INTEGER NOT NULL, job_id TEXT NOT NULL,
    PRIMARY KEY (term, created_at, job_id)
) WITHOUT ROWID;
-- Lists by image.
DROP INDEX job_image;
CREATE INDEX job_image ON job (image, created_at, job_id);
-- Lists of what did not succeed, and of programs that failed.
CREATE INDEX job_last_end ON job (last_end, created_at, job_id) WHERE last_end IS NOT NULL AND last_end <> 5;
CREATE INDEX execution_exit ON execution (exit_code, created_at, execution_id)
    WHERE exit_code IS NOT NULL AND exit_code <> 0;
"""

# Notifications.
_SEVENTH = """
CREATE TABLE delivery (
    "delivery_id" TEXT PRIMARY KEY,
    "execution_id" TEXT NOT NULL,
    "job_id" TEXT NOT NULL,
    "task_id" TEXT NOT NULL,
    "event" INTEGER NOT NULL,
    "channel" INTEGER NOT NULL,
    "target" BLOB NOT NULL,
    "lane" TEXT NOT NULL,
    "state" INTEGER NOT NULL,
    "outcome" INTEGER NOT NULL,
    "created_at" INTEGER NOT NULL,
    "armed_at" INTEGER NOT NULL,
    "attempts" INTEGER NOT NULL,
    "tries" INTEGER NOT NULL,
    "next_at" INTEGER,
    "claimed_until" INTEGER,
    "last_attempt_at" INTEGER,
    "delivered_at" INTEGER,
    "response_code" INTEGER,
    "error" TEXT NOT NULL,
    "write_no" INTEGER NOT NULL
) WITHOUT ROWID;
-- A job's, newest first; an execution's, which go with it.
CREATE INDEX delivery_job ON delivery (job_id, created_at, delivery_id);
CREATE INDEX delivery_execution ON delivery (execution_id);
-- What is to be sent: of each lane, by skipping from lane to lane; the next one over all.
CREATE INDEX delivery_lane ON delivery (lane, next_at, delivery_id) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_next ON delivery (next_at) WHERE next_at IS NOT NULL;
"""

# Since when an agent is unwell.
_EIGHTH = """
ALTER TABLE agent ADD COLUMN "unhealthy_since" INTEGER;
"""

# By what requests that are made again are known.
_NINTH = """
ALTER TABLE job ADD COLUMN "requests" TEXT;              -- JSON list of ids; NULL: none
"""

# Where they stand in a trace.
_TENTH = """
ALTER TABLE job ADD COLUMN "trace" TEXT NOT NULL DEFAULT '';
ALTER TABLE execution ADD COLUMN "trace" TEXT NOT NULL DEFAULT '';
"""

# After what time a host is silent.
_ELEVENTH = """
ALTER TABLE agent ADD COLUMN "lease_ms" INTEGER NOT NULL DEFAULT 15000;
"""

MIGRATIONS: tuple[str, ...] = (
    *(_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH, _NINTH, _TENTH),
    _ELEVENTH,
)


def bring_forward(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Brings the schema to the version of this program, each step in a transaction of its own.

    Raises FailedPrecondition if the schema is newer than this program knows.
    """
    connection.create_function("needs_of_spec", 1, _needs_of_spec, deterministic=True)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise FailedPrecondition(
            f"the database has schema version {version}; this program knows versions up to {len(migrations)}:"
            " start the newer version of EasyQ, or restore an older backup"
        )
    for number in range(version, len(migrations)):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{migrations[number]}\nPRAGMA user_version = {number + 1};\nCOMMIT;"
        )


def _needs_of_spec(spec: bytes | None) -> str | None:
    """What stands in `execution.needs` for a serialized spec, in the form of version 2 whatever later ones write."""
    needs = needs_in(spec) if spec is not None else None
    return json.dumps([needs.cpu_millis, needs.memory, needs.gpus, needs.labels]) if needs is not None else None
