"""What the pages' buttons do: POSTs of forms, each answered by a redirect to where its effect is seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl

from aiohttp import web

from easyq.v1 import farm_service_pb2, job_service_pb2, notification_service_pb2
from easyq_chassis.errors import InvalidArgument, PermissionDenied
from easyq_gateway.codec.wellknown import fill_duration
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.same_origin import FORM, form_refusal
from easyq_gateway.http_rules import Variable
from easyq_gateway.pages import chosen
from easyq_gateway.pages.answers import see_other
from easyq_gateway.pages.rendering import path, query
from easyq_gateway.pages.sources import Sources
from easyq_gateway.pages.views import again, errors
from easyq_gateway.pages.views.page import Page
from easyq_gateway.places import Place
from easyq_gateway.rest.requests import read_body
from easyq_gateway.rest.routes import Handler, Route

Form: TypeAlias = Mapping[str, str]
#: Carries a form out; returns where to go.
Deed: TypeAlias = Callable[[Form, dict[str, str]], Awaitable[str]]
Show: TypeAlias = Callable[[web.BaseRequest, Page, str], web.Response]

# The largest spec, as a form: every character may take three.
_MOST_BODY = 1024 * 1024
_MOST_FIELDS = 64
_JOB = ("admin", "jobs", Variable("job_id"))
_HOST = ("admin", "hosts", Variable("agent_id"))


class Actions:
    """The handlers."""

    def __init__(self, sources: Sources, *, show: Show) -> None:
        self._sources = sources
        self._show = show

    def routes(self) -> Iterator[Route]:
        """Yields the routes."""
        deeds: tuple[tuple[Place, Deed], ...] = (
            ((*_JOB, "stop"), self._stop),
            ((*_JOB, "retry"), self._retry),
            ((*_JOB, "pause"), self._pause),
            ((*_JOB, "resume"), self._resume),
            ((*_JOB, "trigger"), self._trigger),
            ((*_JOB, "delete"), self._delete),
            ((*_JOB, "deliveries", Variable("delivery_id"), "resend"), self._resend),
            ((*_HOST, "cordon"), self._cordon),
            ((*_HOST, "uncordon"), self._uncordon),
            ((*_HOST, "drain"), self._drain),
            ((*_HOST, "declare-dead"), self._declare_dead),
            (("admin", "breakers", "reset"), self._reset),
            (("admin", "errors", "retry"), self._retry_errors),
            (("admin", "errors", "discard"), self._discard_errors),
        )
        for segments, deed in deeds:
            yield Route(verb="POST", segments=segments, handler=_handler(deed))
        yield Route(verb="POST", segments=(*_JOB, "again"), handler=self._again)

    # ---------------------------------------------------------------------------------------------------- jobs
    async def _stop(self, form: Form, where: dict[str, str]) -> str:
        answer = await self._sources.steering.stop_job(job_service_pb2.StopJobRequest(job_id=where["job_id"]))
        stopped = answer.outcome == job_service_pb2.StopJobResponse.STOPPED
        return _to(form, path("admin", "jobs", where["job_id"]), "stopped" if stopped else "stopping")

    async def _retry(self, form: Form, where: dict[str, str]) -> str:
        await self._sources.steering.retry_job(job_service_pb2.RetryJobRequest(job_id=where["job_id"]))
        return _to(form, path("admin", "jobs", where["job_id"]), "retried")

    async def _pause(self, form: Form, where: dict[str, str]) -> str:
        await self._sources.recurring.pause_job(job_service_pb2.PauseJobRequest(job_id=where["job_id"]))
        return _to(form, path("admin", "jobs", where["job_id"]), "paused")

    async def _resume(self, form: Form, where: dict[str, str]) -> str:
        await self._sources.recurring.resume_job(job_service_pb2.ResumeJobRequest(job_id=where["job_id"]))
        return _to(form, path("admin", "jobs", where["job_id"]), "resumed")

    async def _trigger(self, form: Form, where: dict[str, str]) -> str:
        await self._sources.recurring.trigger_job(job_service_pb2.TriggerJobRequest(job_id=where["job_id"]))
        return _to(form, path("admin", "jobs", where["job_id"]), "triggered")

    async def _delete(self, _form: Form, where: dict[str, str]) -> str:
        await self._sources.deleting.delete_job(job_service_pb2.DeleteJobRequest(job_id=where["job_id"]))
        return f"/admin/jobs{query(done='deleted')}"

    async def _resend(self, form: Form, where: dict[str, str]) -> str:
        request = notification_service_pb2.ResendDeliveryRequest(
            job_id=where["job_id"], delivery_id=where["delivery_id"]
        )
        await self._sources.notifications.resend(request)
        return _to(form, path("admin", "jobs", where["job_id"]), "resent")

    async def _again(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        """A new job from the form; where something is wrong the form comes again, with what it had."""
        form = await read_form(request)
        job = await self._sources.reading.get_job(job_service_pb2.GetJobRequest(job_id=where["job_id"]))
        spec, problems = again.read(form)
        try:
            answer = await self._sources.again.run(where["job_id"], spec, problems)
        except InvalidArgument as error:
            found = again.by_field(error.fields)
            page = again.page(job, form, found, "" if found else error.message)
            return self._show(request, page, "jobs")
        return see_other(path("admin", "jobs", answer.job_id) + query(done="created"))

    # --------------------------------------------------------------------------------------------------- hosts
    async def _cordon(self, form: Form, where: dict[str, str]) -> str:
        await self._sources.upkeep.cordon(farm_service_pb2.CordonAgentRequest(agent_id=where["agent_id"]))
        return _to(form, path("admin", "hosts", where["agent_id"]), "cordoned")

    async def _uncordon(self, form: Form, where: dict[str, str]) -> str:
        request = farm_service_pb2.UncordonAgentRequest(agent_id=where["agent_id"])
        agent = (await self._sources.upkeep.uncordon(request)).agent
        done = "uncordoned" if agent.state == farm_service_pb2.Agent.LIVE else "uncordoned-ended"
        return _to(form, path("admin", "hosts", where["agent_id"]), done)

    async def _drain(self, form: Form, where: dict[str, str]) -> str:
        request, problems = farm_service_pb2.DrainAgentRequest(agent_id=where["agent_id"]), Problems()
        if form.get("deadline", "").strip():
            fill_duration(form["deadline"].strip(), request.deadline, "deadline", problems)
        await self._sources.upkeep.drain(request, problems)
        return _to(form, path("admin", "hosts", where["agent_id"]), "draining")

    async def _declare_dead(self, form: Form, where: dict[str, str]) -> str:
        if form.get("name", "").strip() != where["agent_id"]:
            raise InvalidArgument("the host's name must be typed to declare it dead, exactly as it is shown")
        answer = await self._sources.upkeep.declare_dead(
            farm_service_pb2.DeclareAgentDeadRequest(agent_id=where["agent_id"])
        )
        return path("admin", "hosts", where["agent_id"]) + query(done="dead", n=answer.lost)

    async def _reset(self, form: Form, _: dict[str, str]) -> str:
        kinds = farm_service_pb2.Breaker.Kind
        kind = kinds.Value(form.get("kind", "")) if form.get("kind") in kinds.keys() else kinds.UNSPECIFIED  # noqa: SIM118 - no mapping
        await self._sources.matchings.reset_breaker(
            farm_service_pb2.ResetBreakerRequest(kind=kind, subject=form.get("subject", ""))
        )
        return _to(form, "/admin/hosts", "reset")

    # -------------------------------------------------------------------------------------------------- errors
    async def _retry_errors(self, form: Form, _: dict[str, str]) -> str:
        if form.get("chosen"):
            retried = await chosen.retry(self._sources, chosen.ids_of(form.get("jobs", "")))
            return _to_errors(form, "many-retried", retried)
        request = job_service_pb2.RetryErrorsRequest(selection=errors.selection_of(form))
        answer = await self._sources.many.retry_errors(request)
        return f"/admin/errors{query(done='many-retried', n=answer.retried)}"

    async def _discard_errors(self, form: Form, _: dict[str, str]) -> str:
        if form.get("chosen"):
            discarded = await chosen.discard(self._sources, chosen.ids_of(form.get("jobs", "")))
            return _to_errors(form, "many-discarded", discarded)
        request = job_service_pb2.DiscardErrorsRequest(selection=errors.selection_of(form))
        answer = await self._sources.many.discard_errors(request)
        return f"/admin/errors{query(done='many-discarded', n=answer.discarded)}"


def _to_errors(form: Form, done: str, count: int) -> str:
    """Back to the error queue as it was narrowed."""
    base = f"/admin/errors{errors.narrowed(form)}"
    return f"{base}{'&' if '?' in base else '?'}{query(done=done, n=count)[1:]}"


async def read_form(request: web.BaseRequest) -> dict[str, str]:
    """Returns a form's fields. Raises `PermissionDenied` where it may come from a page of somebody else."""
    refusal = form_refusal(
        origin=request.headers.get("Origin"),
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        content_type=request.content_type if request.body_exists else FORM,
    )
    if refusal is not None:
        raise PermissionDenied(refusal, reason="ORIGIN_NOT_ALLOWED")
    body = await read_body(request, _MOST_BODY)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise InvalidArgument("the form can't be read", reason="MALFORMED_BODY") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def _handler(deed: Deed) -> Handler:
    async def handle(request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        return see_other(await deed(await read_form(request), where))

    return handle


def _to(form: Form, otherwise: str, done: str) -> str:
    """Where a form says that it came from, if that is a page of ours; with the word for what was done."""
    came_from = form.get("from", "")
    target = came_from if came_from.startswith(("/admin/", "/?")) or came_from == "/" else otherwise
    base, _, rest = target.partition("?")
    if any(character < "!" or character > "~" or character == "\\" for character in target):
        base, rest = otherwise, ""
    kept = "&".join(one for one in rest.split("&") if one and not one.startswith(("done=", "n=")))
    return f"{base}?{kept}&done={done}" if kept else f"{base}?done={done}"
