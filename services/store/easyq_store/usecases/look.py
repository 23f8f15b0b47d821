"""Looks at jobs, executions and tasks: single ones, lists in pages, counts, search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from easyq_chassis.errors import NotFound
from easyq_store.domain import tokens
from easyq_store.domain.records import Agent, Execution, Job, Needs, Skip, Task
from easyq_store.domain.states import JobState
from easyq_store.ports import ExecutionFilter, Found, JobFilter, Place, Reads
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import execution_of, job_of

DEFAULT_PAGE = 50
_HITS = 50
# Records that one page looks at, at most, where no index has exactly what is asked for.
EXAMINED = 10_000
# Newest skips that a job is shown with.
_SKIPS = 20
_HELD_AT_MOST = 5_000
NOTHING = Needs()


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What waits of a task, and for how long the oldest of it has."""

    task_id: str
    queued: int
    oldest_ms: int


async def queues(ctx: Context, after: str, limit: int) -> list[Queue]:
    """Tasks above `after` that have QUEUED executions, by id. One after the other: nobody waits for it."""
    found: list[Queue] = []
    for task_id in await ctx.store.reads.queued_tasks(after, limit):
        queued, _ = await ctx.store.reads.count_open(task_id)
        since = await ctx.store.reads.oldest_queued(task_id)
        oldest = 0 if since is None else max(0, ctx.clock.now() - since)
        found.append(Queue(task_id=task_id, queued=queued, oldest_ms=oldest))
    return found


Key = TypeVar("Key", Job, Execution)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionView:
    """An execution with what is shown of its spec and logs."""

    execution: Execution
    spec: bytes
    stdout_bytes: int
    stderr_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job with its newest executions and skips, oldest first."""

    job: Job
    executions: tuple[ExecutionView, ...] = ()
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskView:
    """A task with its jobs by state."""

    task: Task
    states: Mapping[JobState, int]


async def get_job(ctx: Context, task_id: str, job_id: str, executions: int) -> JobView:
    """The job with so many of its newest executions. Errors: NOT_FOUND."""
    job = await job_of(ctx.store.reads, task_id, job_id)
    newest = await ctx.store.reads.executions_of(job_id, executions) if executions else []
    views = await execution_views(ctx.store.reads, newest[::-1], known=job)
    skips = await ctx.store.reads.skips(job_id, _SKIPS) if job.schedule is not None else []
    return JobView(job=job, executions=tuple(views), skips=tuple(skips[::-1]))


async def get_execution(ctx: Context, task_id: str, job_id: str, execution_id: str) -> ExecutionView:
    """Errors: NOT_FOUND."""
    execution = await execution_of(ctx.store.reads, task_id, job_id, execution_id)
    return (await execution_views(ctx.store.reads, [execution]))[0]


async def list_jobs(ctx: Context, where: JobFilter, token: str, size: int) -> tuple[list[JobView], str]:
    """A page of jobs without executions, and the next page's token. Errors: INVALID_ARGUMENT."""
    found = await ctx.store.reads.list_jobs(where, _place(token, where), size + 1, examine=EXAMINED)
    page, following = _page(found, size, where, lambda job: (job.created_at, job.job_id))
    return [JobView(job=job) for job in page], following


async def list_waiting(ctx: Context, task_id: str, limit: int) -> list[ExecutionView]:
    """The first QUEUED executions of a task, in order."""
    return await execution_views(ctx.store.reads, await ctx.store.reads.waiting(task_id, limit))


async def list_executions(
    ctx: Context, where: ExecutionFilter, token: str, size: int
) -> tuple[list[ExecutionView], str]:
    """A page of executions, and the next page's token. Errors: INVALID_ARGUMENT."""
    found = await ctx.store.reads.list_executions(where, _place(token, where), size + 1, examine=EXAMINED)
    page, following = _page(found, size, where, lambda e: (e.created_at, e.execution_id))
    return await execution_views(ctx.store.reads, page), following


async def get_task(ctx: Context, task_id: str) -> TaskView:
    """Errors: NOT_FOUND (TASK_NOT_FOUND)."""
    task = await ctx.store.reads.get_task(task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")
    return TaskView(task=task, states=await ctx.store.reads.count_jobs(task_id))


async def list_tasks(ctx: Context, token: str, size: int) -> tuple[list[Task], str]:
    """A page of tasks by name, and the next page's token. Errors: INVALID_ARGUMENT."""
    after = tokens.decode(token, "tasks", (str,))
    found = await ctx.store.reads.list_tasks(str(after[0]) if after else "", size + 1)
    page = found[:size]
    following = tokens.encode("tasks", [page[-1].task_id]) if len(found) > size else ""
    return page, following


async def search(ctx: Context, query: str) -> tuple[list[Task], list[Job], list[Execution]]:
    """Tasks, jobs and executions whose id begins so, and jobs by image and label; by ids first, 50 in all at most."""
    reads = ctx.store.reads
    tasks = await reads.tasks_beginning(query, _HITS)
    jobs = await reads.jobs_beginning(query, _HITS)
    executions = await reads.executions_beginning(query, _HITS)
    known = {job.job_id for job in jobs}
    for also in (await reads.jobs_by_image(query, _HITS), await reads.jobs_by_label(query, _HITS)):
        jobs += [job for job in also if job.job_id not in known]
        known |= {job.job_id for job in also}
    tasks = tasks[:_HITS]
    jobs = jobs[: _HITS - len(tasks)]
    return tasks, jobs, executions[: _HITS - len(tasks) - len(jobs)]


async def list_agents(ctx: Context) -> list[tuple[Agent, int, Needs]]:
    """All agents by name, each with how many executions it holds and what these ask for together."""
    reads = ctx.store.reads
    return [(agent, *await load_of(reads, agent)) for agent in await reads.agents()]


async def load_of(reads: Reads, agent: Agent) -> tuple[int, Needs]:
    """How many executions an agent holds, and what these ask for together."""
    held = await reads.held("", _HELD_AT_MOST, agent.agent_id)
    asked = [each.needs for each in held if each.needs is not None]
    gpus = sum(agent.offer_gpus if needs.gpus < 0 else needs.gpus for needs in asked)
    cpu_millis, memory = sum(needs.cpu_millis for needs in asked), sum(needs.memory for needs in asked)
    return len(held), Needs(cpu_millis=cpu_millis, memory=memory, gpus=gpus)


async def execution_views(
    reads: Reads, executions: Sequence[Execution], known: Job | None = None
) -> list[ExecutionView]:
    """Executions with what is shown of their specs and logs; `known` is a job whose present spec need not be read."""
    keys = {(e.job_id, e.spec_revision) for e in executions}
    specs: dict[tuple[str, int], bytes] = {}
    if known is not None:
        specs[known.job_id, known.revision] = known.spec
    if missing := keys - specs.keys():
        specs.update(await reads.specs(missing))
    ends = await reads.log_ends([e.execution_id for e in executions if not e.logs_complete])
    return [_view(e, specs.get((e.job_id, e.spec_revision), b""), ends) for e in executions]


def _view(execution: Execution, spec: bytes, ends: Mapping[str, tuple[int, int]]) -> ExecutionView:
    stdout, stderr = ends.get(execution.execution_id, (0, 0))
    if execution.logs_complete and execution.logs_removed_at is None:
        stdout, stderr = execution.stdout_size or 0, execution.stderr_size or 0
    return ExecutionView(execution=execution, spec=spec, stdout_bytes=stdout, stderr_bytes=stderr)


def _place(token: str, filters: object) -> Place | None:
    place = tokens.decode(token, filters, (int, str))
    return Place(created_at=int(place[0]), id=str(place[1])) if place else None


def _page(
    found: Found[Key], size: int, filters: object, key: Callable[[Key], tuple[int, str]]
) -> tuple[list[Key], str]:
    page: list[Key] = found[:size]
    if len(found) > size:
        return page, tokens.encode(filters, [*key(page[-1])])
    if found.stopped is not None:
        return page, tokens.encode(filters, [found.stopped.created_at, found.stopped.id])
    return page, ""
