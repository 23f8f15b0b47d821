"""Pools, what waits in them, limits and breakers for people. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import waiting
from easyq.cli.status_views import unknown_lines
from easyq.cli.table import Cell, Column, Screen, render
from easyq.v1.farm_service_pb2 import Breaker, ExplainPoolResponse, LimitStatus, PoolStatus, Unknown
from easyq.v1.task_service_pb2 import TaskQueue


def queues_view(
    pools: Sequence[PoolStatus],
    limits: Sequence[LimitStatus],
    breakers: Sequence[Breaker],
    why: Mapping[str, ExplainPoolResponse],
    now: float,
    *,
    tasks: Sequence[TaskQueue] = (),
    more: str = "",
    unknown: Sequence[Unknown] = (),
) -> View:
    """Pools with what waits in them, tasks that wait, limits, and breakers that are not closed. `why` by the pool's
    name; `more` is said behind the tasks; `unknown`: what can't be told now is shown as `?`."""
    gaps = {one.field for one in unknown}

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
        text = unknown_lines(unknown, screen)
        text += render(columns, [_pool_row(one, why, gaps) for one in pools], screen)
        if tasks:
            columns = [Column("TASK", cut=True), Column("QUEUED", right=True), Column("RUNNING", right=True)]
            columns += [Column("OLDEST", right=True), Column("POOL"), Column("WAITS FOR", cut=True, drop=1)]
            text += ["", *render(columns, [_task_row(one, now) for one in tasks], screen), *([more] if more else [])]
        if limits:
            columns = [Column("LIMIT OF TASKS", cut=True), Column("RUNNING", right=True), Column("MAX", right=True)]
            rows: list[list[str | Cell]] = [
                [one.pattern, _counted(one.running, one.max_running, "limits.running" in gaps), str(one.max_running)]
                for one in limits
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
        "unknown": [to_tree(one) for one in unknown],
    }
    return View(tree, lines)


def _pool_row(one: PoolStatus, why: Mapping[str, ExplainPoolResponse], gaps: set[str]) -> list[str | Cell]:
    found = why.get(one.name)
    text = waiting(found.waiting) if found is not None and found.HasField("waiting") else ""
    return [
        one.name,
        one.pattern or words.NONE,
        "?" if "pools.ready" in gaps else str(one.ready),
        "?" if "pools.running" in gaps else str(one.running),
        str(one.max_running) if one.max_running else words.NONE,
        str(one.slots),
        f"{one.healthy_agents}/{one.agents}",
        text,
    ]


def _task_row(one: TaskQueue, now: float) -> list[str | Cell]:
    since = words.ago(one.oldest_at, now) if one.HasField("oldest_at") else words.NONE
    why = waiting(one.waiting) if one.HasField("waiting") else ""
    return [one.task_id, f"{one.queued:,}", f"{one.running:,}", since, one.pool or words.NONE, why]


def _counted(running: int, most: int, unknown: bool) -> Cell:
    return Cell("?") if unknown else Cell(str(running), "warn" if running >= most else "")


def _breaker_row(one: Breaker, now: float) -> list[str | Cell]:
    kind = Breaker.Kind.Name(one.kind).lower() if one.kind in Breaker.Kind.values() else str(int(one.kind))
    phase = Breaker.Phase.Name
    state = phase.Name(one.state) if one.state in phase.values() else str(int(one.state))
    when = words.ago(one.next_try_at, now) if one.HasField("next_try_at") else words.NONE
    return [kind, one.subject, Cell(state, "warn"), str(one.failures), when, one.cause]
