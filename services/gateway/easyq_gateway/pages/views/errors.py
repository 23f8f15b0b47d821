"""The error queue: what gave up, and doing something about many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from easyq.v1 import job_pb2, job_service_pb2
from easyq_gateway.codec.wellknown import show_timestamp
from easyq_gateway.pages import chosen
from easyq_gateway.pages.sources import Sources
from easyq_gateway.pages.views import filters
from easyq_gateway.pages.views.page import Page, Query

_REASON = job_pb2.Failure.Reason
_PAGE = 50
_SAMPLE = 10
#: What narrows the error queue: parameters of the page, which are also fields of the forms.
FILTERS = ("taskId", "reason", "label", "createdAfter", "createdBefore")
#: What can be done to all that match: the verb, and what it does in words.
DEEDS = {
    "retry": ("Retry", "run once more, as the next attempt"),
    "discard": ("Discard", "be deleted, executions and output with it; this can't be undone"),
}


async def errors(sources: Sources, query: Query) -> Page:
    """`/admin/errors`."""
    request = job_service_pb2.ListErrorsRequest(
        task_id=query.get("taskId", ""),
        reason=filters.states_of(query, "reason", _REASON),
        label=filters.labels_of(query),
        page_size=_PAGE,
        page_token=query.get("pageToken", ""),
    )
    filters.set_time(request, "created_after", query, "createdAfter")
    filters.set_time(request, "created_before", query, "createdBefore")
    page = await sources.many.list_errors(request)
    kept, picked = [(name, query[name]) for name in FILTERS if query.get(name)], query.get("select") == "all"
    return Page(
        template="errors",
        context={
            "jobs": page.items,
            "next": page.next_page_token,
            "asked": query,
            "reasons": [name for name in _REASON.keys() if name != "UNSPECIFIED"],  # noqa: SIM118 - no mapping
            "filtered": any(query.get(name) for name in FILTERS),
            "narrowed": narrowed(query),
            "kept": kept,
            "picked": picked,
            # The same page with all of its jobs chosen, or with none: for readers without scripts.
            "pick_query": {**dict(kept), "pageToken": request.page_token, "select": "" if picked else "all"},
        },
        live=None if request.page_token else {},
    )


async def confirm(sources: Sources, query: Query, deed: str) -> Page:
    """`/admin/errors/{deed}`: how many it would be, and which are the first of them. `?chosen=1` means those in `jobs`,
    be it none: all others are not meant."""
    if query.get("chosen"):
        return await _confirm_chosen(sources, query, deed)
    selection = selection_of(query)
    request = job_service_pb2.ListErrorsRequest(
        task_id=selection.task_id, reason=selection.reason, label=selection.label, page_size=_SAMPLE
    )
    for field in ("created_after", "created_before"):
        if selection.HasField(field):
            getattr(request, field).CopyFrom(getattr(selection, field))
    sample = (await sources.many.list_errors(request)).items
    if sample:
        # A job that is made and fails while somebody reads the count was not counted, and is not meant.
        newest = max(job.created_at.ToMilliseconds() for job in sample)
        selection.created_before.FromMilliseconds(newest + 1)
    return _confirmation(query, deed, await count(sources, selection, deed), sample, selection=selection)


async def _confirm_chosen(sources: Sources, query: Query, deed: str) -> Page:
    ids = chosen.ids_of(query.get("jobs", ""))
    found = await chosen.look(sources, ids)
    return _confirmation(query, deed, len(found), found, jobs=[job.job_id for job in found], gone=len(ids) - len(found))


def _confirmation(
    query: Query,
    deed: str,
    matched: int,
    sample: Sequence[job_pb2.Job],
    *,
    jobs: Sequence[str] | None = None,
    gone: int = 0,
    selection: job_service_pb2.JobSelection | None = None,
) -> Page:
    """`jobs`: those that were chosen; None: all of `selection`. `gone`: chosen, but in the queue no more."""
    verb, words = DEEDS[deed]
    filters = [(name, query[name]) for name in FILTERS if query.get(name)]
    meant = dict(filters)
    if selection is not None and selection.HasField("created_before"):
        meant["createdBefore"] = show_timestamp(selection.created_before)
    return Page(
        template="confirm",
        context={
            "deed": deed,
            "verb": verb,
            "words": words,
            "matched": matched,
            "sample": sample,
            "filters": filters,
            # What the form sends.
            "meant": meant,
            "narrowed": narrowed(query),
            "jobs": None if jobs is None else ",".join(jobs),
            "gone": gone,
        },
        live=None,
    )


async def count(sources: Sources, selection: job_service_pb2.JobSelection, deed: str) -> int:
    """Returns how many jobs match, and changes nothing."""
    if deed == "retry":
        wanted = job_service_pb2.RetryErrorsRequest(selection=selection, dry_run=True)
        return (await sources.many.retry_errors(wanted)).matched
    unwanted = job_service_pb2.DiscardErrorsRequest(selection=selection, dry_run=True)
    return (await sources.many.discard_errors(unwanted)).matched


def selection_of(query: Query) -> job_service_pb2.JobSelection:
    """Returns the same filters as a selection."""
    selection = job_service_pb2.JobSelection(
        task_id=query.get("taskId", ""),
        reason=filters.states_of(query, "reason", _REASON),
        label=filters.labels_of(query),
    )
    filters.set_time(selection, "created_after", query, "createdAfter")
    filters.set_time(selection, "created_before", query, "createdBefore")
    return selection


def narrowed(query: Query) -> str:
    """Returns the filters as a query, with its `?`."""
    told = [(name, query[name]) for name in FILTERS if query.get(name)]
    return f"?{urlencode(told)}" if told else ""
