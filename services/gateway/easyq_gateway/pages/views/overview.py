"""The farm at a glance, and its health in full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2
from easyq_gateway.domain.gaps import FIELDS
from easyq_gateway.domain.status import is_missed, takes_work
from easyq_gateway.pages.figures import SPANS
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.page import Page, Query
from easyq_gateway.pages.views.plots import outcome_plot, series_of, time_plot
from easyq_gateway.usecases.farm import agent_facts

_JOB = job_pb2.Job
_OLDEST = 5
_NEWEST = 8
#: Seconds after which a page is read anew though the feed tells nothing: queues, breakers and health are not in it.
EVERY = "5"


async def overview(sources: Sources, query: Query) -> Page:
    """`/`."""
    span = SPANS.get(query.get("span", ""), SPANS["hour"])
    now = sources.clock.now_ms()
    oldest = job_service_pb2.ListJobsRequest(state=[_JOB.QUEUED], order=job_pb2.ListOrder.OLDEST, page_size=_OLDEST)
    status, waiting, newest, series = await asyncio.gather(
        sources.farm.status(farm_service_pb2.GetStatusRequest()),
        if_there(sources.reading.list_jobs(oldest)),
        if_there(sources.reading.list_jobs(job_service_pb2.ListJobsRequest(page_size=_NEWEST))),
        series_of(sources, "", span, now),
    )
    counts = counts_of(status.jobs)
    live = [agent for agent in status.agents if agent.state == farm_service_pb2.Agent.LIVE]
    facts = [agent_facts(agent) for agent in status.agents]
    return Page(
        template="overview",
        context={
            "status": status,
            "unknown": unknown_of(status),
            "span": span,
            "spans": SPANS,
            "series": series,
            "outcomes": outcome_plot(series, span),
            "times": time_plot(series, span),
            "running": sum(agent.running for agent in status.agents),
            "slots": sum(agent.slots for agent in live),
            "hosts": {
                "live": sum(not agent.HasField("silent_since") for agent in live),
                "ready": sum(takes_work(agent) for agent in facts),
                "all": sum(agent.state != "DEAD" or is_missed(agent, now) for agent in facts),
            },
            "waiting": waiting.items if waiting else None,
            "newest": newest.items if newest else None,
            "counts": counts,
            "gave_up": counts["FAILED"] + counts["TIMED_OUT"],
        },
        live={"every": EVERY},
    )


async def health(sources: Sources, _query: Query) -> Page:
    """`/status`, for people."""
    status = await sources.farm.status(farm_service_pb2.GetStatusRequest())
    context = {"status": status, "unknown": unknown_of(status), "counts": counts_of(status.jobs)}
    return Page(template="status", context=context, live={"every": EVERY})


def unknown_of(status: farm_service_pb2.Status) -> dict[str, str]:
    """Returns why each field is not known; empty for those that are."""
    return dict.fromkeys(FIELDS, "") | {one.field: one.why for one in status.unknown}


def counts_of(states: Iterable[job_pb2.StateCount]) -> dict[str, int]:
    """Returns the number of jobs in each state, by its name."""
    counts = {name: 0 for name in _JOB.State.keys() if name != "UNSPECIFIED"}  # noqa: SIM118 - no mapping
    counts.update((_JOB.State.Name(one.state), one.count) for one in states if one.state in _JOB.State.values())
    return counts
