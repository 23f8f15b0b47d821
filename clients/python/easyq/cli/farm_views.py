"""Hosts, pools, limits and tasks for people. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import execution_state, job_state, state_cell, waiting, wrapped
from easyq.cli.plain import plain
from easyq.cli.table import Cell, Column, Screen, pairs, render
from easyq.v1.farm_service_pb2 import Agent, ExplainPoolResponse, SearchHit
from easyq.v1.job_pb2 import Execution, Job, Task
from easyq.v1.job_service_pb2 import ExecutionExplanation, ExplainJobResponse
from easyq.v1.task_service_pb2 import ExplainTaskResponse

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
