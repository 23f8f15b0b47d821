"""The pages as HTML over a socket: what they show, to whom, and what their forms do."""

import asyncio
import html
import re
import uuid
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest

from easyq.v1 import farm_service_pb2
from easyq.v1.job_pb2 import Execution, Job
from easyq.v1.notification_service_pb2 import Delivery
from tests.integration.gateway.conftest import Answer, Client, Starter
from tests.integration.gateway.furnished import CANARY, Furnished, furnish

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OWN = {"Sec_Fetch_Site": "same-origin"}


class Page(HTMLParser):
    """A page's elements and words; checks on the way what must hold for each."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._inside = ""
        self.text = answer.body.decode()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), (tag, attrs)
        assert "style" not in found, (tag, attrs)
        assert not [name for name in found if name.startswith(("on", "hx-on"))], (tag, attrs)
        assert tag not in {"style", "iframe", "object", "embed", "base"}
        assert tag != "script" or str(found.get("src", "")).startswith("/admin/static/"), attrs
        for name in ("href", "src", "action"):
            assert str(found.get(name) or "/").startswith(("/", "#")), (tag, attrs)
        self.elements.append((tag, found))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        assert self._inside != "script" or not data.strip(), data
        self.words += data

    def forms(self) -> dict[str, dict[str, str]]:
        """Each form that changes something: its action, and what it would send."""
        found: dict[str, dict[str, str]] = {}
        action = ""
        for tag, attrs in self.elements:
            if tag == "form":
                action = str(attrs["action"]) if attrs.get("method") == "post" else ""
                if action:
                    found[action] = {}
            elif tag == "input" and action and attrs.get("name"):
                found[action][str(attrs["name"])] = str(attrs.get("value") or "")
        return found


@pytest.fixture
async def farm(gateway: Client) -> Furnished:
    return await furnish(gateway)


async def look(gateway: Client, path: str, status: int = 200) -> Page:
    answer = await gateway.call("GET", path, **HTML)
    assert answer.status == status, (path, answer.status, answer.body[:300])
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    return Page(answer)


async def send(gateway: Client, path: str, headers: Any = None, **form: str) -> Answer:
    told = {"Content_Type": "application/x-www-form-urlencoded", **(OWN if headers is None else headers)}
    return await gateway.call("POST", path, urlencode(form).encode(), **told)


async def test_every_page_is_there_without_anything_inline(farm: Furnished) -> None:
    for path in farm.pages():
        page = await look(farm.gateway, path)
        titles = [tag for tag, _ in page.elements if tag == "h1"]
        assert titles == ["h1"], path


async def test_an_empty_farm_has_every_page(gateway: Client) -> None:
    for path in ("/", "/status", "/admin/tasks", "/admin/jobs", "/admin/queues", "/admin/hosts", "/admin/schedules",
                 "/admin/errors", "/admin/errors/retry", "/admin/search"):  # fmt: skip
        page = await look(gateway, path)
        assert "None" not in page.words, path


async def test_bad_words_are_only_words(farm: Furnished) -> None:
    for path in farm.pages():
        answer = await farm.gateway.call("GET", path, **HTML)
        body = answer.body.decode()
        assert "<script>alert" not in body, path
        assert "<img" not in body, path
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", body), path
        assert len(body) < 300_000, path
    page = await look(farm.gateway, f"/admin/jobs/{farm.jobs['evil']}")
    assert "<script>alert(1)</script>" in page.words
    assert "⟨RLO⟩gnp.exe" in page.words
    assert "996,000 more characters" in page.words
    assert "the end" in page.words


async def test_secrets_are_nowhere(farm: Furnished) -> None:
    for path in farm.pages():
        answer = await farm.gateway.call("GET", path, **HTML)
        assert CANARY not in answer.body.decode(), path
    page = await look(farm.gateway, f"/admin/jobs/{farm.jobs['running']}")
    assert "[redacted]" in page.words


async def test_colours_of_output(farm: Furnished) -> None:
    answer = await farm.gateway.call("GET", f"/admin/jobs/{farm.jobs['running']}", **HTML)
    assert (
        '<span class="ansi-ink2">green</span> <span class="ansi-bold ansi-ink1">red</span> plain'
        in answer.body.decode()
    )
    assert '<div class="line err">to stderr</div>' in answer.body.decode()


async def test_search_in_output(farm: Furnished) -> None:
    page = await look(farm.gateway, f"/admin/jobs/{farm.jobs['evil']}?find=THE+END")
    assert "1 line with “THE END”" in page.words
    page = await look(farm.gateway, f"/admin/jobs/{farm.jobs['evil']}?{urlencode({'find': '<b>&'})}")
    assert "0 lines with “<b>&”" in page.words


# --------------------------------------------------------------------------------------------- browsers and programs
async def test_programs_get_json_where_browsers_get_pages(farm: Furnished) -> None:
    for path in ("/", "/status"):
        for accept in ("*/*", "application/json", "application/json, text/html", ""):
            answer = await farm.gateway.call("GET", path, Accept=accept)
            assert answer.headers["Content-Type"].startswith("application/json"), (path, accept)
        assert "text/html" in (await farm.gateway.call("GET", path, **HTML)).headers["Content-Type"]
        part = await farm.gateway.call("GET", path, Accept="*/*", HX_Request="true")
        assert "text/html" in part.headers["Content-Type"]
        assert "Accept" in part.headers["Vary"]


async def test_live_output_is_the_jobs_page_to_browsers(farm: Furnished) -> None:
    job, execution = farm.jobs["running"], farm.executions["running"]
    answer = await farm.gateway.call("GET", f"/jobs/{job}/stream", **HTML)
    assert (answer.status, answer.headers["Location"]) == (303, f"/admin/jobs/{job}#output")
    answer = await farm.gateway.call("GET", f"/executions/{execution}/stream", **HTML)
    assert answer.headers["Location"] == f"/admin/jobs/{job}?execution={execution}#output"


async def test_what_has_a_page_leads_browsers_there_and_programs_get_json(farm: Furnished) -> None:
    """As the links in notifications do."""
    job, execution = farm.jobs["running"], farm.executions["running"]
    task = farm.gateway.store.jobs[job].task_id
    page, chosen = f"/admin/jobs/{job}", f"/admin/jobs/{job}?execution={execution}"
    for path, target in (
        (f"/tasks/{task}/jobs/{job}", page),
        (f"/jobs/{job}", page),
        (f"/tasks/{task}/jobs/{job}/executions/{execution}", chosen),
        (f"/jobs/{job}/executions/{execution}", chosen),
        (f"/executions/{execution}", chosen),
        (f"/tasks/{task}", f"/admin/tasks/{task}"),
        (f"/tasks/{task}/jobs", f"/admin/jobs?taskId={task}"),
        ("/tasks", "/admin/tasks"),
        ("/jobs?state=RUNNING", "/admin/jobs?state=RUNNING"),
        ("/errors", "/admin/errors"),
        ("/search?query=a", "/admin/search?query=a"),
        ("/agents", "/admin/hosts"),
    ):
        answer = await farm.gateway.call("GET", path, **HTML)
        assert (answer.status, answer.headers.get("Location")) == (303, target), path
        assert "Accept" in answer.headers["Vary"]
        await look(farm.gateway, target)
        for accept in ("*/*", "application/json", "application/json, text/html", ""):
            told = await farm.gateway.call("GET", path, Accept=accept)
            assert (told.status, told.headers["Content-Type"]) == (200, "application/json; charset=utf-8"), path


async def test_what_is_not_there_is_a_page_to_browsers(farm: Furnished) -> None:
    job = farm.jobs["running"]
    for path in (
        "/nope",
        f"/tasks/another/jobs/{job}",
        "/jobs/none",
        f"/executions/{uuid.uuid4()}",
        "/jobs/none/stream",
    ):
        page = await look(farm.gateway, path, status=404)
        assert "Overview" in page.words
        assert (await farm.gateway.call("GET", path, Accept="*/*")).error["code"] == "NOT_FOUND"


async def test_errors_are_pages_to_browsers_and_json_to_programs(gateway: Client) -> None:
    for path, status in (
        ("/admin/jobs/none", 404),
        ("/admin/tasks/none", 404),
        ("/admin/hosts/none", 404),
        ("/admin/none", 404),
        ("/admin/jobs?state=WRONG", 400),
        ("/admin/jobs?createdAfter=soon", 400),
        ("/admin/jobs?label=x", 400),
        ("/admin/errors?reason=WRONG", 400),
        ("/admin/jobs?pageToken=x", 400),
        ("/admin/jobs/%00", 400),
    ):
        page = await look(gateway, path, status)
        answer = await gateway.call("GET", path, Accept="application/json")
        if path.startswith("/admin/jobs/none"):
            assert "There is no such job" in page.words  # it begins a sentence
        assert answer.status == status, path
        assert answer.error["message"]


async def test_a_store_that_is_away_is_told(start_gateway: Starter) -> None:
    gateway = await start_gateway(store_patience=0.3)
    await gateway.behind.stop("store")
    page = await look(gateway, "/")
    assert "jobs are refused" in page.words
    page = await look(gateway, "/admin/jobs", 503)
    assert "Not there now" in page.words
    await look(gateway, "/status")


async def test_files_are_kept_by_browsers_until_they_change(gateway: Client) -> None:
    page = await look(gateway, "/")
    files = [str(attrs.get("src") or attrs.get("href")) for tag, attrs in page.elements if tag in {"script", "link"}]
    assert len(files) == 5
    for path in files:
        answer = await gateway.call("GET", path)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await gateway.call("GET", "/admin/static/manifest.json")).status == 404


# ------------------------------------------------------------------------------------------------------- forms
async def test_forms_of_others_do_nothing(farm: Furnished) -> None:
    for headers in (
        {},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {**OWN, "Content_Type": "text/plain"},
        {**OWN, "Content_Type": "multipart/form-data"},
        {**OWN, "Host": "evil.example"},
    ):
        answer = await send(farm.gateway, f"/admin/jobs/{farm.jobs['running']}/stop", headers, x="1")
        assert answer.status == 403, headers
    assert farm.gateway.store.jobs[farm.jobs["running"]].state == Job.RUNNING
    assert "StopJob" not in farm.gateway.store.calls


async def test_our_own_forms_work(farm: Furnished) -> None:
    for name, headers in (("queued", OWN), ("later", {"Origin": farm.gateway.url})):
        answer = await send(farm.gateway, f"/admin/jobs/{farm.jobs[name]}/stop", headers)
        assert (answer.status, answer.headers["Location"]) == (303, f"/admin/jobs/{farm.jobs[name]}?done=stopped")
        assert farm.gateway.store.jobs[farm.jobs[name]].state == Job.STOPPED
        assert "Stopped." in (await look(farm.gateway, answer.headers["Location"])).words


async def test_links_cannot_put_words_on_a_page(farm: Furnished) -> None:
    page = await look(farm.gateway, "/?done=%3Cb%3Epay+me&n=1")
    assert "pay me" not in page.words
    assert "some jobs" in (await look(farm.gateway, "/?done=many-retried&n=%3Cb")).words


async def test_a_form_leads_nowhere_else(farm: Furnished) -> None:
    for came_from in ("//evil.example/", "https://evil.example/", "/admin/\\evil", "/admin/x\r\nSet-Cookie: a=b", "x"):
        answer = await send(farm.gateway, "/admin/hosts/host-1/cordon", **{"from": came_from})
        assert answer.headers["Location"] == "/admin/hosts/host-1?done=cordoned", came_from
        assert "Set-Cookie" not in answer.headers


async def test_a_form_leads_back(farm: Furnished) -> None:
    answer = await send(farm.gateway, "/admin/hosts/host-1/cordon", **{"from": "/admin/hosts?x=1&done=old&n=3"})
    assert answer.headers["Location"] == "/admin/hosts?x=1&done=cordoned"


async def test_what_a_job_offers_is_what_its_state_allows(farm: Furnished) -> None:
    offered = {
        name: {action.rpartition("/")[2] for action in (await look(farm.gateway, f"/admin/jobs/{job}")).forms()}
        for name, job in farm.jobs.items()
    }
    assert offered == {
        "running": {"stop"},
        "queued": {"stop"},
        "succeeded": {"retry", "delete"},
        # A notification of its end can be sent again.
        "failed": {"retry", "delete", "resend"},
        "timed_out": {"retry", "delete"},
        "evil": {"retry", "delete"},
        "later": {"stop", "trigger"},
        "cron": {"stop", "pause", "trigger"},
    }


async def test_jobs_are_steered(farm: Furnished) -> None:
    store, jobs = farm.gateway.store, farm.jobs
    for deed, name, done in (
        ("pause", "cron", "paused"),
        ("resume", "cron", "resumed"),
        ("trigger", "later", "triggered"),
        ("retry", "failed", "retried"),
        ("stop", "running", "stopping"),
    ):
        answer = await send(farm.gateway, f"/admin/jobs/{jobs[name]}/{deed}")
        assert answer.headers["Location"].endswith(f"?done={done}"), answer
    assert store.jobs[jobs["failed"]].execution_count == 2
    answer = await send(farm.gateway, f"/admin/jobs/{jobs['succeeded']}/delete")
    assert answer.headers["Location"] == "/admin/jobs?done=deleted"
    assert jobs["succeeded"] not in store.jobs
    answer = await send(farm.gateway, f"/admin/jobs/{jobs['queued']}/retry", {**OWN, **HTML})
    assert answer.status == 409
    assert "That did not work" in Page(answer).words


async def test_hosts_are_steered(farm: Furnished) -> None:
    store = farm.gateway.store
    for deed, form, done in (
        ("cordon", {}, "cordoned"),
        ("uncordon", {}, "uncordoned"),
        ("drain", {"deadline": "10m"}, "draining"),
    ):
        answer = await send(farm.gateway, f"/admin/hosts/host-1/{deed}", **form)
        assert answer.headers["Location"] == f"/admin/hosts/host-1?done={done}", answer
    assert store.agent("host-1").HasField("drained_at")
    store.agent("host-1").state = farm_service_pb2.Agent.PARKED
    page = await look(farm.gateway, "/admin/hosts/host-1")
    assert ("parked" in page.words, "draining" in page.words) == (True, False)
    answer = await send(farm.gateway, "/admin/hosts/host-1/uncordon")
    assert "once its agent runs again" in (await look(farm.gateway, answer.headers["Location"])).words
    assert (await send(farm.gateway, "/admin/hosts/host-1/drain", deadline="soon")).status == 400
    assert (await send(farm.gateway, "/admin/hosts/gone/declare-dead", name="host-1")).status == 400
    answer = await send(farm.gateway, "/admin/hosts/gone/declare-dead", name="gone")
    assert "done=dead" in answer.headers["Location"]
    answer = await send(farm.gateway, "/admin/breakers/reset", kind="HOST", subject="host-1", **{"from": "/"})
    assert answer.headers["Location"] == "/?done=reset"
    (reset,) = farm.gateway.behind.dispatchers[0].resets
    assert (reset.kind, reset.subject) == (farm_service_pb2.Breaker.HOST, "host-1")
    assert (await send(farm.gateway, "/admin/breakers/reset", kind="WRONG", subject="x")).status == 400


async def test_errors_are_counted_before_anything_is_done(farm: Furnished) -> None:
    page = await look(farm.gateway, "/admin/errors")
    links = [str(attrs.get("href")) for tag, attrs in page.elements if tag == "a"]
    assert [one for one in links if "/errors/" in one] == ["/admin/errors/retry", "/admin/errors/discard"]
    page = await look(farm.gateway, "/admin/errors/retry?taskId=mail&reason=NONZERO_EXIT")
    assert "Retry 1 job?" in page.words
    form = page.forms()["/admin/errors/retry"]
    before = form.pop("createdBefore")
    assert form == {"taskId": "mail", "reason": "NONZERO_EXIT"}
    # One that comes while somebody reads the count was not counted, and is not meant.
    late = await farm.gateway.enqueue("mail")
    await farm.gateway.store.move(late["executionId"], Execution.FAILED)
    answer = await send(farm.gateway, "/admin/errors/retry", **form, createdBefore=before)
    assert answer.headers["Location"] == "/admin/errors?done=many-retried&n=1"
    assert farm.gateway.store.jobs[late["jobId"]].state == Job.FAILED
    assert farm.gateway.store.jobs[farm.jobs["failed"]].state != Job.FAILED


async def test_all_errors_are_counted_before_anything_is_done(farm: Furnished) -> None:
    assert "Discard 2 jobs" in (await look(farm.gateway, "/admin/errors/discard")).words
    assert farm.gateway.store.jobs[farm.jobs["failed"]].state == Job.FAILED
    answer = await send(farm.gateway, "/admin/errors/retry", taskId="mail")
    assert answer.headers["Location"] == "/admin/errors?done=many-retried&n=1"
    answer = await send(farm.gateway, "/admin/errors/discard")
    assert answer.headers["Location"] == "/admin/errors?done=many-discarded&n=1"
    assert farm.jobs["timed_out"] not in farm.gateway.store.jobs


async def test_errors_are_chosen_one_by_one(farm: Furnished) -> None:
    gateway, store = farm.gateway, farm.gateway.store
    failed, timed_out, succeeded = (farm.jobs[name] for name in ("failed", "timed_out", "succeeded"))
    page = await look(gateway, "/admin/errors")
    boxes = [attrs for tag, attrs in page.elements if tag == "input" and attrs.get("type") == "checkbox"]
    assert {(box["form"], box["name"], box["value"]) for box in boxes} == {
        ("chosen", "job", failed),
        ("chosen", "job", timed_out),
    }
    assert not [box for box in boxes if "checked" in box]
    assert "/admin/errors?select=all" in [attrs.get("href") for tag, attrs in page.elements if tag == "a"]
    every = await look(gateway, "/admin/errors?select=all&taskId=images")
    assert len([attrs for _, attrs in every.elements if "checked" in attrs]) == 1
    assert "/admin/errors?taskId=images" in [attrs.get("href") for tag, attrs in every.elements if tag == "a"]
    page = await look(gateway, f"/admin/errors/retry?chosen=1&taskId=mail&job={failed}&job={succeeded}&job=none")
    assert "Retry 1 job?" in page.words
    assert "2 of those chosen have left the error queue meanwhile" in page.words
    form = page.forms()["/admin/errors/retry"]
    assert form == {"taskId": "mail", "chosen": "1", "jobs": failed}
    answer = await send(gateway, "/admin/errors/retry", **form)
    assert answer.headers["Location"] == "/admin/errors?taskId=mail&done=many-retried&n=1"
    assert (store.jobs[failed].execution_count, store.jobs[timed_out].execution_count) == (2, 1)
    several = f"{failed},{succeeded},{timed_out},{timed_out}"
    answer = await send(gateway, "/admin/errors/discard", chosen="1", jobs=several)
    assert answer.headers["Location"] == "/admin/errors?done=many-discarded&n=1"
    assert set(farm.jobs.values()) - set(store.jobs) == {timed_out}


async def test_no_choice_means_no_job(farm: Furnished) -> None:
    for deed in ("retry", "discard"):
        page = await look(farm.gateway, f"/admin/errors/{deed}?chosen=1")
        assert "No job was chosen" in page.words
        assert page.forms() == {}
        answer = await send(farm.gateway, f"/admin/errors/{deed}", chosen="1", jobs="")
        assert answer.headers["Location"].endswith("&n=0")
    many = "&".join(f"job=j{number}" for number in range(201))
    await look(farm.gateway, f"/admin/errors/discard?chosen=1&{many}", 400)
    assert farm.gateway.store.jobs[farm.jobs["failed"]].state == Job.FAILED


# ------------------------------------------------------------------------------------------------- notifications
async def test_notifications_are_told_and_sent_again(farm: Furnished) -> None:
    gateway, job = farm.gateway, farm.jobs["failed"]
    page = await look(gateway, f"/admin/jobs/{job}")
    words = " ".join(page.words.split())
    assert "https://bob:[redacted]@hook.test/x" in words
    for told in ("delivered", "pending", "failed", "503", "ops@example.org", "refused", "<script>alert(1)</script>"):
        assert told in words, told
    assert "every=5" in next(str(attrs["data-live"]) for _, attrs in page.elements if attrs.get("id") == "live")
    deed = f"/admin/jobs/{job}/deliveries/d-lost/resend"
    assert deed in page.forms()
    assert (await send(gateway, deed, {"Sec_Fetch_Site": "cross-site"})).status == 403
    (lost,) = (one for one in gateway.store.deliveries.by_job[job] if one.delivery_id == "d-lost")
    assert lost.state == Delivery.FAILED
    answer = await send(gateway, deed, **page.forms()[deed])
    assert answer.headers["Location"] == f"/admin/jobs/{job}?done=resent"
    assert lost.state == Delivery.PENDING
    assert (await send(gateway, deed.replace("d-lost", "none"))).status == 404


async def test_older_notifications_have_pages(farm: Furnished) -> None:
    job = farm.jobs["failed"]
    for number in range(20):
        farm.gateway.store.deliveries.put(job, f"d-{number}", target=f"http://hook.test/{number}")
    seen, path = "", f"/admin/jobs/{job}"
    for _ in range(3):
        page = await look(farm.gateway, path)
        seen += page.words
        links = [str(attrs["href"]) for tag, attrs in page.elements if tag == "a" and attrs.get("rel") == "next"]
        path = links[0].partition("#")[0] if links else ""
    assert not path
    assert all(f"http://hook.test/{number}" in seen for number in range(20))
    assert "https://bob:[redacted]@" in seen


async def test_who_is_to_be_told_is_said_before(farm: Furnished) -> None:
    await farm.job("tells", "mail", notify={"finishes": ["ops@example.org"]})
    farm.gateway.store.deliveries.by_job[farm.jobs["tells"]] = []
    assert "Nobody was told yet" in (await look(farm.gateway, f"/admin/jobs/{farm.jobs['tells']}")).words
    assert "Notifications" not in (await look(farm.gateway, f"/admin/jobs/{farm.jobs['queued']}")).words


# -------------------------------------------------------------------------------------------------------- queues
def rows_of(page: Page, first: str) -> list[list[str]]:
    """The cells' words of each row that has a link to `first`."""
    found: list[list[str]] = []
    for row in re.findall(r"<tr>(.*?)</tr>", page.text, re.DOTALL):
        cells = [re.sub(r"<[^>]*>", " ", cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        if cells and f'href="{first}' in row:
            found.append([" ".join(html.unescape(cell).split()) for cell in cells])
    return found


async def test_each_task_that_waits_is_found_with_its_sizes(gateway: Client) -> None:
    for number in range(45):
        await gateway.enqueue(f"task-{number:02}")
    ids = [(await gateway.enqueue("task-07"))["executionId"] for _ in range(3)]
    await gateway.store.move(ids[0], Execution.RUNNING)
    names: list[str] = []
    path, pages = "/admin/queues", 0
    sizes: dict[str, list[str]] = {}
    words = ""
    while path:
        page = await look(gateway, path)
        words += " ".join(page.words.split())
        rows = rows_of(page, "/admin/tasks/")
        names += [row[0] for row in rows]
        sizes |= {row[0]: row[1:3] for row in rows}
        links = [str(attrs["href"]) for tag, attrs in page.elements if tag == "a" and attrs.get("rel") == "next"]
        path, pages = links[0] if links else "", pages + 1
    assert names == [f"task-{number:02}" for number in range(45)]
    assert pages == 3
    assert (sizes["task-07"], sizes["task-08"]) == (["3", "1"], ["1", "0"])
    assert words.count("Tasks that wait 45") == 3
    assert "No further task waits" in (await look(gateway, "/admin/queues?pageToken=zzz")).words


async def test_the_task_that_waits_longest_is_first(gateway: Client) -> None:
    for name in ("zebra", "ant", "mole"):
        await gateway.enqueue(name)
    page = await look(gateway, "/admin/queues")
    assert [row[0] for row in rows_of(page, "/admin/tasks/")] == ["zebra", "ant", "mole"]


async def test_queues_are_told_without_a_dispatcher(gateway: Client) -> None:
    await gateway.enqueue("mail")
    await gateway.behind.stop("dispatcher0")
    page = await look(gateway, "/admin/queues")
    assert [row[:3] for row in rows_of(page, "/admin/tasks/")] == [["mail", "1", "0"]]


# ------------------------------------------------------------------------------------------ again, with changes
def fields(page: Page, answer: Answer) -> dict[str, str]:
    found = {
        str(attrs["name"]): str(attrs.get("value") or "")
        for tag, attrs in page.elements
        if tag == "input" and attrs.get("name")
    }
    found.pop("query", None)
    areas = re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>(.*?)</textarea>', answer.body.decode(), re.DOTALL)
    return {**found, **{name: html.unescape(text) for name, text in areas}}


async def form_of(gateway: Client, job: str) -> dict[str, str]:
    answer = await gateway.call("GET", f"/admin/jobs/{job}/again", **HTML)
    return fields(Page(answer), answer)


async def test_an_unchanged_form_makes_the_same_job_with_its_secrets(farm: Furnished) -> None:
    for name in ("running", "evil", "cron", "failed"):
        values = await form_of(farm.gateway, farm.jobs[name])
        answer = await send(farm.gateway, f"/admin/jobs/{farm.jobs[name]}/again", **values)
        assert answer.status == 303, (name, Page(answer).words)
        made = re.fullmatch(r"/admin/jobs/([0-9a-f]{24})\?done=created", answer.headers["Location"])
        assert made, answer.headers
        copy, old = farm.gateway.store.jobs[made[1]], farm.gateway.store.jobs[farm.jobs[name]]
        assert copy.task_id == old.task_id
        assert not copy.spec.HasField("cron")
        same: Any = type(old.spec)()
        same.CopyFrom(old.spec)
        for field in ("cron", "time_zone", "overlap", "misfire", "misfire_deadline", "jitter"):
            same.ClearField(field)
            copy.spec.ClearField(field)
        assert copy.spec == same


async def test_changes_are_taken_and_what_is_wrong_is_told_at_its_field(farm: Furnished) -> None:
    job = farm.jobs["running"]
    values = await form_of(farm.gateway, job)
    wrong = {
        **values,
        "image": "",
        "envs": "A=1\nB\nEASYQ_X=2",
        "timeout": "soon",
        "retries": "x",
        "rest": '{"nope": 1}',
    }
    count = len(farm.gateway.store.jobs)
    answer = await send(farm.gateway, f"/admin/jobs/{job}/again", **wrong)
    assert answer.status == 400
    page = Page(answer)
    told = {str(attrs["id"]) for tag, attrs in page.elements if tag == "span" and attrs.get("class") == "field-error"}
    assert told == {"image-error", "envs-error", "timeout-error", "retries-error", "rest-error"}
    assert fields(page, answer)["envs"] == wrong["envs"]
    assert len(farm.gateway.store.jobs) == count
    envs = "API_TOKEN=[redacted]\nREGION=us\nTEXT=a\\nb\\\\n"
    answer = await send(farm.gateway, f"/admin/jobs/{job}/again", **{**values, "envs": envs, "command": "date -u"})
    made = farm.gateway.store.jobs[answer.headers["Location"].split("/")[3].split("?")[0]]
    assert dict(made.spec.envs) == {"API_TOKEN": CANARY, "REGION": "us", "TEXT": "a\nb\\n"}
    assert list(made.spec.command) == ["date", "-u"]


# ---------------------------------------------------------------------------------------------------- live
async def test_a_page_is_told_when_to_read_itself_anew(farm: Furnished) -> None:
    gateway = farm.gateway
    async with gateway.session.get(f"{gateway.url}/admin/live?jobId={farm.jobs['running']}") as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert await response.content.readuntil(b"event: begin\ndata: 1\n\n")
        await gateway.store.move(farm.executions["queued"], Execution.RUNNING)
        await gateway.store.move(farm.executions["running"], Execution.SUCCEEDED)
        assert (await response.content.readuntil(b"\n\n")) == b"event: changed\ndata: 1\n\n"


async def test_what_changes_before_a_page_listens_is_told_as_soon_as_it_does(farm: Furnished) -> None:
    """When nobody has listened to the feed yet, and when somebody does."""
    gateway, path = farm.gateway, f"/admin/jobs/{farm.jobs['running']}"
    for state in (Execution.ASSIGNED, Execution.SUCCEEDED):
        [url] = [attrs["data-live"] for _, attrs in (await look(gateway, path)).elements if attrs.get("data-live")]
        await gateway.store.move(farm.executions["running"], state)
        async with gateway.session.get(f"{gateway.url}{url}") as response:
            assert await response.content.readuntil(b"event: begin\ndata: 1\n\n")
            # Sooner than it would look in any case.
            async with asyncio.timeout(15):
                assert (await response.content.readuntil(b"\n\n")) == b"event: changed\ndata: 1\n\n"
