"""Finds records by the ids of a path, and says NOT_FOUND in the same words everywhere."""

from easyq_chassis.errors import NotFound
from easyq_store.domain.records import Agent, Execution, Job
from easyq_store.ports import Lookups


async def job_of(lookups: Lookups, task_id: str, job_id: str) -> Job:
    """The job; it must be of the task unless that is empty. Errors: NOT_FOUND (JOB_NOT_FOUND)."""
    job = await lookups.get_job(job_id)
    if job is None or (task_id and job.task_id != task_id):
        where = f" in task {task_id}" if task_id else ""
        raise NotFound(f"there is no job {job_id}{where}", reason="JOB_NOT_FOUND")
    return job


async def execution_of(lookups: Lookups, task_id: str, job_id: str, execution_id: str) -> Execution:
    """The execution; it must be of the job and the task unless they are empty. Errors: NOT_FOUND."""
    execution = await lookups.get_execution(execution_id)
    if execution is None or (task_id and execution.task_id != task_id) or (job_id and execution.job_id != job_id):
        where = f" in job {job_id}" if job_id else ""
        raise NotFound(f"there is no execution {execution_id}{where}", reason="EXECUTION_NOT_FOUND")
    return execution


def agent_known(agent: Agent | None, agent_id: str) -> Agent:
    """The agent. Errors: NOT_FOUND (AGENT_NOT_FOUND)."""
    if agent is None:
        raise NotFound(f"there is no agent {agent_id}", reason="AGENT_NOT_FOUND")
    return agent
