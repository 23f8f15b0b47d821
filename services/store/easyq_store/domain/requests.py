"""Requests that are made again because their answer was lost, and must not be refused for what they did themselves.

A PUT raises the revision that its repeat would be checked against; a run by hand leaves nothing that waits for its
time. So the job remembers who asked, by the execution id that the edge makes for each request: the same for all of its
repeats.
"""

from dataclasses import replace

from easyq_store.domain.records import Job

# A repeat comes within seconds; so many others may come in between.
MOST_REQUESTS = 8


def was_made_by(job: Job, request: str) -> bool:
    """Whether this request has changed the job, or made it."""
    return bool(request) and (request in job.requests or request == job.first_execution_id)


def with_request(job: Job, request: str) -> Job:
    """The job, changed by this request."""
    if not request or request in job.requests:
        return job
    return replace(job, requests=(*job.requests, request)[-MOST_REQUESTS:])
