"""Hosts, pools, limits and tasks for people. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import execution_state, job_state, state_cell, waiting, wrapped
from easyq.cli.plain import plain
from easyq.cli.table import Cell, Column, Screen, pairs, render
from easyq.v1.farm_service_pb2 import Agent, Breaker, ExplainPoolResponse, LimitStatus, PoolStatus, SearchHit
from easyq.v1.job_pb2 import Execution, Job, Task
from easyq.v1.job_service_pb2 import ExecutionExplanation, ExplainJobResponse
from easyq.v1.task_service_pb2 import ExplainTaskResponse, TaskQueue

# -------------------------------------------------------------------------------------------------------------- hosts


def hosts_view(found: Sequence[Agent], now: float, *, wide: bool) -> View:
    """The hosts of a farm."""

    def lines(screen: Screen) -> list[str]:
        if not found:
            return ["no host has connected yet; `easyq runner` beside a Docker Engine makes one"]
        columns = [Column("HOST"), Column("STATE"), Column("RUNNING", right=True), Column("SLOTS", right=True)]
        columns += [Column("POOLS", cut=True, drop=2)]
        if wide:
            columns += [Column("VERSION"), Column("BEAT", right=True), Column("USED"), Column("LABELS", cut=True)]
        columns.append(Column("REMARK", cut=True, drop=1))
        return render(columns, [_host_row(one, now, wide=wide) for one in found], screen)

    return View({"items": [to_tree(one) for one in found]}, lines)


def _host_row(one: Agent, now: float, *, wide: bool) -> list[str | Cell]:
    name = Agent.State.Name(one.state) if one.state in Agent.State.values() else str(int(one.state))
    if one.HasField("silent_since"):
        name = "SILENT"
    style = {"LIVE": "good" if one.healthy else "warn", "DEAD": "bad", "SILENT": "bad"}.get(name, "dim")
    row: list[str | Cell] = [one.agent_id, Cell(name, style), str(one.running), str(one.slots)]
    row.append(",".join(one.pools) or words.NONE)
    if wide:
        labels = ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
        beat = words.ago(one.last_beat_at, now) if one.HasField("last_beat_at") else words.NONE
        row += [one.version or words.NONE, beat, _used(one), labels or words.NONE]
    return [*row, host_remark(one)]


def host_remark(one: Agent) -> str:
    """What is odd about a host, in one line."""
    if one.HasField("silent_since"):
        return one.message
    if one.HasField("drained_at") and one.state == Agent.PARKED:
        return "drained; uncordon it and start its agent to have it back"
    if one.HasField("drained_at"):
        until = f" until {words.exact(one.drain_deadline)}" if one.HasField("drain_deadline") else ""
        return f"drains{until}"
    if one.HasField("cordoned_at"):
        return "cordoned"
    if one.healthy:
        return ""
    return " ".join(one.message.split()) or "takes no new work"


def _used(one: Agent) -> str:
    parts = []
    if one.capacity.cpus:
        parts.append(f"{one.used.cpus:g}/{one.capacity.cpus:g} cpus")
    if one.capacity.memory:
        parts.append(f"{words.size(one.used.memory)}/{words.size(one.capacity.memory)}")
    if one.capacity.gpus:
        parts.append(f"{one.used.gpus}/{one.capacity.gpus} gpus")
    return " ".join(parts) or words.NONE


# -------------------------------------------------------------------------------------------------------------- queues


def queues_view(
    pools: Sequence[PoolStatus],
    limits: Sequence[LimitStatus],
    breakers: Sequence[Breaker],
    why: Mapping[str, ExplainPoolResponse],
    now: float,
    *,
    tasks: Sequence[TaskQueue] = (),
    more: str = "",
) -> View:
    """Pools with what waits in them, tasks that wait, limits, and breakers that are not closed. `why` by the pool's
    name; `more` is said behind the tasks."""

    def lines(screen: Screen) -> list[str]:
        columns = [
            Column("POOL"),
            Column("TASKS", cut=True),
            Column("READY", right=True),
            Column("RUNNING", right=True),
        ]
        columns += [Column("MAX", right=True), Column("SLOTS", right=True), Column("HOSTS", right=True)]
        columns.append(Column("WAITS FOR", cut=True, drop=1))
        if not pools:
            return ["no pool is known: the dispatcher does not answer (`easyq doctor` says more)"]
        text = render(columns, [_pool_row(one, why) for one in pools], screen)
        if tasks:
            columns = [Column("TASK", cut=True), Column("QUEUED", right=True), Column("RUNNING", right=True)]
            columns += [Column("OLDEST", right=True), Column("POOL"), Column("WAITS FOR", cut=True, drop=1)]
            text += ["", *render(columns, [_task_row(one, now) for one in tasks], screen), *([more] if more else [])]
        if limits:
            columns = [Column("LIMIT OF TASKS", cut=True), Column("RUNNING", right=True), Column("MAX", right=True)]
            rows: list[list[str | Cell]] = [
                [one.pattern, _full(one.running, one.max_running), str(one.max_running)] for one in limits
            ]
            text += ["", *render(columns, rows, screen)]
        if breakers:
            columns = [Column("BREAKER"), Column("SUBJECT", cut=True), Column("STATE"), Column("FAILURES", right=True)]
            columns += [Column("NEXT TRY", right=True), Column("CAUSE", cut=True)]
            text += ["", *render(columns, [_breaker_row(one, now) for one in breakers], screen)]
        return text

    tree = {
        "pools": [
            {**to_tree(one), "waiting": to_tree(why[one.name]).get("waiting") if one.name in why else None}
            for one in pools
        ],
        "tasks": [to_tree(one) for one in tasks],
        "limits": [to_tree(one) for one in limits],
        "breakers": [to_tree(one) for one in breakers],
    }
    return View(tree, lines)


def _pool_row(one: PoolStatus, why: Mapping[str, ExplainPoolResponse]) -> list[str | Cell]:
    found = why.get(one.name)
    text = waiting(found.waiting) if found is not None and found.HasField("waiting") else ""
    return [
        one.name,
        one.pattern or words.NONE,
        str(one.ready),
        str(one.running),
        str(one.max_running) if one.max_running else words.NONE,
        str(one.slots),
        f"{one.healthy_agents}/{one.agents}",
        text,
    ]


def _task_row(one: TaskQueue, now: float) -> list[str | Cell]:
    since = words.ago(one.oldest_at, now) if one.HasField("oldest_at") else words.NONE
    why = waiting(one.waiting) if one.HasField("waiting") else ""
    return [one.task_id, f"{one.queued:,}", f"{one.running:,}", since, one.pool or words.NONE, why]


def _full(running: int, most: int) -> Cell:
    return Cell(str(running), "warn" if running >= most else "")


def _breaker_row(one: Breaker, now: float) -> list[str | Cell]:
    kind = Breaker.Kind.Name(one.kind).lower() if one.kind in Breaker.Kind.values() else str(int(one.kind))
    phase = Breaker.Phase.Name
    state = phase.Name(one.state) if one.state in phase.values() else str(int(one.state))
    when = words.ago(one.next_try_at, now) if one.HasField("next_try_at") else words.NONE
    return [kind, one.subject, Cell(state, "warn"), str(one.failures), when, one.cause]


# --------------------------------------------------------------------------------------------------------------- tasks


def tasks_view(found: Sequence[Task], now: float) -> View:
    """All tasks."""

    def lines(screen: Screen) -> list[str]:
        if not found:
            return ["no task yet; the first job of a task makes it: `easyq run --task NAME IMAGE`"]
        columns = [Column("TASK", cut=True), Column("JOBS", right=True), Column("LAST JOB"), Column("CREATED")]
        rows = [
            [one.task_id, f"{one.job_count:,}", words.ago(one.last_job_at, now), words.ago(one.created_at, now)]
            for one in found
        ]
        return render(columns, rows, screen)

    return View({"items": [to_tree(one) for one in found]}, lines)


def task_view(one: Task, now: float) -> View:
    """One task, with its jobs by state."""

    def lines(screen: Screen) -> list[str]:
        rows: list[tuple[str, str | Cell]] = [
            ("Task", one.task_id),
            ("Created", words.both(one.created_at, now)),
            ("Last job", words.both(one.last_job_at, now)),
            ("Jobs", f"{one.job_count:,}"),
        ]
        for count in one.states:
            name = Job.State.Name(count.state) if count.state in Job.State.values() else str(int(count.state))
            rows.append((f"  {name}", Cell(f"{count.count:,}", state_cell(name).style)))
        return pairs(rows, screen)

    return View(to_tree(one), lines)


# ------------------------------------------------------------------------------------------------------------- explain


def explain_job_view(found: ExplainJobResponse, job: Job, now: float) -> View:
    """Why a job, and each of its executions, waits."""

    def lines(screen: Screen) -> list[str]:
        text = [f"{plain(job.job_id)} of task {plain(job.task_id)} is {job_state(job).text}"]
        if found.HasField("waiting"):
            text += wrapped(plain(waiting(found.waiting)), screen)
        text += _explained(found.executions, now, screen)
        if len(text) == 1:
            text.append("Nothing of it waits.")
        return text

    return View(to_tree(found), lines)


def explain_task_view(found: ExplainTaskResponse, now: float) -> View:
    """Why the executions of a task wait."""

    def lines(screen: Screen) -> list[str]:
        rows: list[tuple[str, str | Cell]] = [
            ("Task", found.task_id),
            ("Pool", found.pool or words.NONE),
            ("Queued", f"{found.queued:,}"),
            ("Running", f"{found.running:,}"),
        ]
        rows += [("Limit", f"{one.running} of {one.max_running} ({one.pattern})") for one in found.limits]
        return [*pairs(rows, screen), *_explained(found.executions, now, screen)]

    return View(to_tree(found), lines)


def explain_pool_view(found: ExplainPoolResponse, now: float) -> View:
    """Why work of a pool waits."""

    def lines(screen: Screen) -> list[str]:
        pool = found.pool
        most = f", at most {pool.max_running}" if pool.max_running else ""
        rows: list[tuple[str, str | Cell]] = [
            ("Pool", pool.name),
            ("Tasks", pool.pattern or words.NONE),
            ("Ready", f"{pool.ready:,}"),
            ("Running", f"{pool.running:,} in {words.count(pool.slots, 'slot')}{most}"),
            ("Waits", waiting(found.waiting) if found.HasField("waiting") else "nothing is in its way"),
        ]
        text = pairs(rows, screen)
        return [*text, "", *hosts_view(found.agents, now, wide=False).lines(screen)] if found.agents else text

    return View(to_tree(found), lines)


def _explained(found: Sequence[ExecutionExplanation], now: float, screen: Screen) -> list[str]:
    text = []
    for one in found:
        since = (
            f", for {words.span(now - words.seconds_of(one.waiting.since))}" if one.waiting.HasField("since") else ""
        )
        name = execution_state(one.state).text
        text += ["", f"{plain(one.execution_id)}  {name}{since}"]
        why = waiting(one.waiting) if one.HasField("waiting") else _GOES_ON.get(one.state, "it waits for nothing")
        text += wrapped(plain(why), screen, "  ")
    return text


_GOES_ON = {Execution.RUNNING: "it runs", Execution.ASSIGNED: "its host starts it"}


def search_view(found: Sequence[SearchHit]) -> View:
    """What a search found, best first."""

    def lines(screen: Screen) -> list[str]:
        if not found:
            return ["nothing is called so, nor begins so"]
        columns = [Column("KIND"), Column("ID"), Column("STATE"), Column("TASK", cut=True), Column("JOB")]
        rows: list[list[str | Cell]] = [
            [
                one.kind,
                one.execution_id or one.job_id or one.task_id,
                state_cell(one.state) if one.state else words.NONE,
                one.task_id or words.NONE,
                one.job_id or words.NONE,
            ]
            for one in found
        ]
        return render(columns, rows, screen)

    return View({"items": [to_tree(one) for one in found]}, lines)
