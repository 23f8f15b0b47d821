"""What each page tells of a farm that has something of everything. Nothing is changed here: the farm is one for all."""

import html
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.gateway.conftest import gateways
from tests.integration.gateway.furnished import Furnished, furnish

pytestmark = pytest.mark.asyncio(loop_scope="module")
HTML = {"Accept": "text/html"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def farm() -> AsyncIterator[Furnished]:
    async with gateways() as start:
        yield await furnish(await start(), int(time.time()) - 600)


async def source(farm: Furnished, path: str) -> str:
    answer = await farm.gateway.call("GET", path, **HTML)
    assert answer.status == 200, path
    return answer.body.decode()


async def words(farm: Furnished, path: str, part: str = "") -> str:
    """The words of a page, or of its section whose heading has that id."""
    text = await source(farm, path)
    if part:
        found = re.search(rf'<section[^>]* aria-labelledby="{part}".*?</section>', text, re.DOTALL)
        assert found, (path, part)
        text = found[0]
    # What only hovering shows.
    text = re.sub(r"<title>.*?</title>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


async def test_the_overview_tells_how_the_farm_is(farm: Furnished) -> None:
    page = await words(farm, "/")
    # Slots of hosts that live, of which one is in use; those of the dead one don't count.
    assert re.search(r"Running 2 of 4 slots Waiting 2 1 queued, 1 for later Gave up 2 in the error queue", page), page
    assert "Hosts 1 of 1 takes work" in page
    oldest = await words(farm, "/", "oldest-title")
    assert f"{farm.jobs['queued']} of mail" in oldest
    assert "It was queued a moment ago" in oldest
    assert "default 1 of 4 run · 1 ready" in await words(farm, "/", "pools-title")
    plots = await words(farm, "/", "plots-title")
    assert "of 234 succeeded." in plots
    assert "19 of 20 took less (p95)" in plots
    assert (await source(farm, "/?span=day")).count('aria-current="true"') == 1
    breakers = await words(farm, "/", "breakers-title")
    assert "open host host-1 disk full" in breakers
    assert "half open image registry.invalid/x:1" in breakers
    assert await words(farm, "/", "services-title") == (
        "Services Status store healthy scheduler healthy dispatcher healthy"
    )


async def test_tasks_are_counted(farm: Furnished) -> None:
    text = re.sub(r"<[^>]*>", " ", await source(farm, "/admin/tasks"))
    assert re.search(r"mail\s+1\s+1\s+1\s+1\s+4 ", text)


async def test_a_task_tells_its_rate_its_run_times_and_why_it_failed(farm: Furnished) -> None:
    page = await source(farm, "/admin/tasks/mail")
    assert len(re.findall(r'<rect class="(good|bad|other)"', page)) > 100
    assert page.count('<path class="line p50"') == 1
    # Two executions of it have run to their end.
    assert len(re.findall(r'<path class="dot \w+"', page)) == 2
    assert "exit 3 40" in await words(farm, "/admin/tasks/mail", "codes-title")
    jobs = await words(farm, "/admin/tasks/mail", "jobs-title")
    assert [name for name in farm.jobs if farm.jobs[name] in jobs] == ["running", "queued", "succeeded", "failed"]


async def test_executions_stand_on_one_line_of_time(farm: Furnished) -> None:
    page = await source(farm, f"/admin/jobs/{farm.jobs['failed']}")
    (wait,) = re.findall(r'<rect class="wait" x="([\d.]+)" y="35" width="([\d.]+)"', page)
    (ran,) = re.findall(r'<rect class="ran failed" x="([\d.]+)" y="10" width="([\d.]+)"', page)
    # It waited for three seconds and then ran, until the end of the line.
    assert float(wait[0]) == 0
    assert abs(float(wait[0]) + float(wait[1]) - float(ran[0])) < 1
    assert abs(float(ran[0]) + float(ran[1]) - 1000) < 1
    assert "waited 3.0 s, ran 11 s" in page
    assert "nonzero exit : exit code 3" in await words(farm, f"/admin/jobs/{farm.jobs['failed']}")


async def test_hosts_tell_what_runs_where_and_what_is_wrong(farm: Furnished) -> None:
    page = await words(farm, "/admin/hosts")
    assert "host-1 live breaker open alpha · pool default 1 of 4 slots" in page
    assert "disk full <script>alert(1)</script>" in page
    assert f"{farm.jobs['running']} mail" in page
    assert "gone dead no pool · last heard of – 1 of 4 slots silent;" in page
    held = await words(farm, "/admin/hosts/host-1", "held-title")
    assert f"running {farm.jobs['running']} mail busybox:1" in held
    assert "open host host-1 disk full" in await words(farm, "/admin/hosts/host-1", "breaker-title")


async def test_queues_tell_limits_and_pools(farm: Furnished) -> None:
    assert "mail-.* 2 of 2 run" in await words(farm, "/admin/queues", "limits-title")
    assert "default .* 1 4 1 1 of 2" in await words(farm, "/admin/queues", "pools-title")
    waiting = await words(farm, "/admin/queues", "waiting-title")
    assert re.search(r"mail 1 1 .* default It was queued a moment ago", waiting), waiting


async def test_coming_fires_stand_on_a_line_of_time(farm: Furnished) -> None:
    for window, least, most in (("hour", 0, 1), ("day", 23, 24), ("week", 24, 25)):
        page = await source(farm, f"/admin/schedules?window={window}")
        fires = page.count('<rect class="fire"')
        assert least <= fires <= most, window
        # Of a day, that depends on whether an hour has begun since the farm was furnished.
        assert window == "day" or (f"Only the next {fires} are drawn." in page) == (window == "week")
    assert "every-hour active of clock" in await words(farm, "/admin/schedules")


async def test_search_finds_everything_that_has_a_name(farm: Furnished) -> None:
    job, execution = farm.jobs["queued"], farm.executions["queued"]
    for wanted, kind, link in (
        ("mail", "Tasks", "/admin/tasks/mail"),
        (job, "Jobs", f"/admin/jobs/{job}"),
        (execution, "Executions", f"/admin/jobs/{job}?execution={execution}"),
        ("host-1", "Hosts", "/admin/hosts/host-1"),
        ("alpha", "Hosts", "/admin/hosts/host-1"),
        ("default", "Pools", "/admin/queues#pools"),
        ("busybox:1", "Jobs", f"/admin/jobs/{job}"),
    ):
        page = html.unescape(await source(farm, f"/admin/search?query={wanted}"))
        assert f'href="{link}"' in page, wanted
        assert re.search(rf"<h2[^>]*>{kind} ", page), wanted
    assert "Nothing is called “ nobody ”" in await words(farm, "/admin/search?query=nobody")


async def test_times_are_relative_with_the_exact_one_beside(farm: Furnished) -> None:
    page = await source(farm, f"/admin/jobs/{farm.jobs['failed']}")
    exact = re.findall(r'<time datetime="([^"]+)" title="([^"]+)">([^<]+)</time>', page)
    assert exact
    for iso, title, shown in exact:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso), iso
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", title), title
        assert re.fullmatch(r"now|(in )?[\d,]+ (s|min|h|d)( ago)?", shown), shown
