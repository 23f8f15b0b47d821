"""The pages in a real browser: accessible in both themes and at both widths, by keyboard, live, and unharmed."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from easyq.v1.job_pb2 import Execution, Job
from easyq.v1.log_service_pb2 import LogStream
from easyq_gateway.pages.rendering import output
from tests.integration.gateway.conftest import gateways
from tests.integration.gateway.furnished import Furnished, furnish
from tests.support.browser import Watched, chromium

# The browser is one for all of them, and so is their event loop.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]
LINES = [
    "plain <b>&amp;",
    "\x1b[1;31mred\x1b[0m \x1b[42mon green",
    "still on green\x1b[m \x1b[7minverse\x1b[27;4m under \x1b[38;5;208morange\x1b[48;2;1;2;200m blue",
    "\x1b[38;5;7m10%\r20%\r30%\x1b[0m",
    "\x1b]0;title\x07after\x1b]8;;http://x\x1b\\link\x1b[2K\x1b[?25l.",
    "a\u202eb\x00c\x07d\u200be\U000e0041f\x85",
    "x" * 5000 + "\x1b[31m" + "y" * 10,
    "\x1b[38;5;300mx\x1b[38my\x1b[90;107mz\x1b",
]
# What depends on the theme or the width; all else of a page is the same in both.
LOOKS = ("color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable")
# How long a busy machine may take.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


Tab = Callable[..., Awaitable[Watched]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def farm(request: pytest.FixtureRequest) -> AsyncIterator[Furnished]:
    """With settings of its gateway by a parameter."""
    async with gateways() as start:
        yield await furnish(await start(**getattr(request, "param", {})))


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, farm: Furnished) -> AsyncIterator[Tab]:
    """Opens tabs of browsers of their own at the farm's gateway; they are closed with the test."""
    opened = []

    async def open_tab(*, width: int = 1280, javascript: bool = True) -> Watched:
        context = await browser.new_context(
            base_url=farm.gateway.url, viewport={"width": width, "height": 800}, java_script_enabled=javascript
        )
        opened.append(context)
        context.set_default_timeout(PATIENCE)
        return Watched(await context.new_page())

    yield open_tab
    for context in opened:
        await context.close()


async def open_job(watched: Watched, farm: Furnished, name: str) -> Page:
    await watched.page.goto(f"/admin/jobs/{farm.jobs[name]}")
    return watched.page


async def test_axe_finds_nothing_and_nothing_is_cut_off(tab: Tab, farm: Furnished) -> None:
    watched = await tab()
    page, found = watched.page, []
    jobs = [f"/admin/jobs/{farm.jobs[name]}" for name in ("succeeded", "queued", "timed_out", "later")]
    for path in [one for one in farm.pages() if one not in jobs]:
        await page.set_viewport_size({"width": 1280, "height": 800})
        await page.emulate_media(color_scheme="light")
        await page.goto(path)
        await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for theme, width, rules in (("light", 1280, None), ("dark", 360, LOOKS)):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
            found += [f"{path} in {theme} at {width}: {one}" for one in await watched.axe(rules)]
            if await watched.overflow() > 0:
                found.append(f"{path} at {width}: is wider than the window")
    assert found == []
    assert watched.complaints == []


async def test_buttons_do_not_fade_while_the_page_reads_itself_anew(tab: Tab, farm: Furnished) -> None:
    """They can be used then, and have to be read."""
    watched = await tab()
    await watched.page.goto("/admin/jobs/every-hour")
    faded = "document.querySelector('#live').classList.add('htmx-request')"
    await watched.page.evaluate(faded)
    button = watched.page.locator("#live button").first
    assert await button.evaluate("one => getComputedStyle(one).opacity") == "1"


async def test_the_documentation_fits_a_phone(tab: Tab, farm: Furnished) -> None:
    watched = await tab(width=360)
    await watched.page.goto("/docs")
    assert await watched.overflow() <= 0
    # What scrolls sideways there can be reached by keyboard.
    assert await watched.axe(["scrollable-region-focusable", "landmark-unique", "aria-allowed-role"]) == []
    assert await watched.page.get_by_role("link", name="Back to the pages").get_attribute("href") == "/"


async def test_what_was_done_stays_true_as_the_page_goes_on(tab: Tab, farm: Furnished) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(f"/admin/jobs/{farm.jobs['running']}?done=stopping")
    await farm.gateway.store.move(farm.executions["running"], Execution.STOPPED)
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.locator(".state.stopped").first).to_be_visible()
    await expect(page.locator(".done")).to_have_text("It was asked to stop.")


async def test_hostile_words_do_no_harm(tab: Tab, farm: Furnished) -> None:
    watched = await tab(width=360)
    page = await open_job(watched, farm, "evil")
    log = page.locator("#log")
    await expect(log).to_contain_text("the end")
    await expect(log).to_contain_text("<script>alert(1)</script>")
    await expect(log).to_contain_text("⟨RLO⟩gnp.exe")
    await expect(log).to_contain_text("996,000 more characters")
    assert await page.locator("main img, main script").count() == 0
    assert len(await log.inner_text()) < 20_000
    assert await watched.overflow() <= 0
    assert watched.complaints == []


async def test_output_is_followed_searched_and_ends(tab: Tab, farm: Furnished) -> None:
    gateway, execution = farm.gateway, farm.executions["running"]
    watched = await tab()
    page = await open_job(watched, farm, "running")
    log = page.locator("#log")
    await expect(page.locator("#log-state")).to_have_text("Live")
    await expect(log.locator(".ansi-ink2").first).to_have_text("green")
    # As the script draws it: the page came with these lines, and they say nothing of whether the stream has got so far.
    await expect(log.locator(".line.err:has(.at)")).to_contain_text("to stderr")
    await gateway.store.write(execution, LogStream.STDOUT, b"half a li")
    await expect(log.locator(".line").last).to_contain_text("half a li")
    await gateway.store.write(execution, LogStream.STDOUT, b"ne\nneedle one\nNEEDLE two\n")
    await expect(log).to_contain_text("half a line")
    await page.fill("#find", "needle")
    await expect(page.locator("#found")).to_have_text("2 here")
    await page.click("#next-hit")
    await expect(log.locator(".line.hit.at")).to_contain_text("needle one")
    await expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    await gateway.store.move(execution, Execution.SUCCEEDED, exit_code=0, logs_complete=True)
    await expect(log.locator(".attempt").last).to_contain_text("succeeded, exit code 0")
    await expect(page.locator("#log-state")).to_have_text("Ended")
    await expect(page.locator(".title .state")).to_have_text("succeeded")
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="stdout").click()
    assert (await download.value).suggested_filename.endswith("-stdout.log")
    assert watched.complaints == []


async def test_pages_live_without_a_reload(tab: Tab, farm: Furnished) -> None:
    watched = await tab()
    page = watched.page
    await page.goto("/admin/jobs")
    await page.evaluate("window.stayed = true")
    await expect(page.locator("tbody tr")).to_have_count(8)
    row = page.locator("tr", has=page.locator(f"a[href='/admin/jobs/{farm.jobs['running']}']"))
    link = row.get_by_role("link").first
    await link.focus()
    await farm.gateway.store.move(farm.executions["running"], Execution.SUCCEEDED, exit_code=0)
    await expect(row.locator(".state")).to_have_text("succeeded")
    await expect(link).to_be_focused()
    assert await page.evaluate("window.stayed") is True


async def test_a_button_that_is_pressed_stays_until_it_is_released(tab: Tab, farm: Furnished) -> None:
    """A click is a press and a release on the same element: what changes meanwhile is shown afterwards."""
    page = await open_job(await tab(), farm, "queued")
    button = page.get_by_role("button", name="Stop")
    await button.hover()
    await page.mouse.down()
    async with page.expect_response(lambda answer: "hx-request" in answer.request.headers) as read_anew:
        await farm.gateway.store.move(farm.executions["queued"], Execution.RUNNING)
    await (await read_anew.value).finished()
    # Its words are there, and so is what was made of them.
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await expect(page.locator(".title .state")).to_have_text("queued")
    await page.mouse.up()
    await expect(page.locator(".done")).to_have_text("It was asked to stop.")
    await expect(page.locator(".title .state")).not_to_have_text("queued")


@pytest.mark.parametrize("button", ["right", "left"])
async def test_a_page_whose_button_was_pressed_and_never_let_go_is_live(
    tab: Tab, farm: Furnished, button: Literal["right", "left"]
) -> None:
    """A menu of the system's takes the release away."""
    page = await open_job(await tab(), farm, "queued")
    await page.get_by_role("heading").first.hover()
    await page.mouse.down(button=button)
    if button == "left":
        await page.dispatch_event("body", "contextmenu")
    await farm.gateway.store.move(farm.executions["queued"], Execution.RUNNING)
    await expect(page.locator(".title .state")).not_to_have_text("queued")


@pytest.mark.parametrize("farm", [{"store_patience": 3.0}], indirect=True, ids=["soon"])
async def test_a_page_tells_that_it_hears_nothing(tab: Tab, farm: Furnished) -> None:
    page = (await tab()).page
    # It reads itself anew every few seconds.
    await page.goto("/admin/hosts")
    await page.evaluate("window.stayed = true")
    await farm.gateway.behind.stop("store")
    await expect(page.locator("#connection")).to_be_visible()
    await farm.gateway.behind.start("store")
    await expect(page.locator("#connection")).to_be_hidden()
    assert await page.evaluate("window.stayed") is True


async def test_by_keyboard_alone(tab: Tab, farm: Furnished) -> None:
    watched = await tab()
    page = watched.page
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("/")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.type(farm.jobs["queued"])
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin/search?query=*")
    hit = page.get_by_role("link", name=farm.jobs["queued"]).first
    await hit.focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/admin/jobs/{farm.jobs['queued']}*")
    stop = page.get_by_role("button", name="Stop")
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await stop.evaluate("one => one === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").filter(has_text="Stopped.")).to_be_visible()
    assert farm.gateway.store.jobs[farm.jobs["queued"]].state == Job.STOPPED
    assert watched.complaints == []


async def test_each_button(tab: Tab, farm: Furnished) -> None:
    watched = await tab()
    page, store = watched.page, farm.gateway.store

    async def press(path: str, name: str, then: str) -> None:
        await page.goto(path)
        await page.get_by_role("button", name=re.compile(f"^{name}")).first.click()
        await expect(page.locator(".done")).to_contain_text(then)

    job = "/admin/jobs/"
    await press(job + "every-hour", "Pause", "Paused")
    await press("/admin/schedules", "Resume", "Resumed")
    await press(job + farm.jobs["later"], "Run now", "It runs now")
    await press(job + farm.jobs["failed"], "Send again", "sent again")
    await press(job + farm.jobs["failed"], "Retry", "next attempt")
    await press("/admin/hosts", "Cordon", "takes nothing new")
    await press("/admin/hosts/host-1", "Uncordon", "takes new work")
    await press("/admin/hosts/host-1", "Close it", "breaker is closed")
    await page.goto("/admin/hosts/host-1")
    await page.get_by_label("Deadline").fill("10m")
    await page.get_by_role("button", name="Drain").click()
    await expect(page.locator(".title .state")).to_have_text("draining")
    await page.goto("/admin/hosts/gone")
    await expect(page.locator(".title .state")).to_have_text("dead")
    await page.get_by_text("Declare it dead").click()
    await page.get_by_label("Type its name").fill("gone")
    await page.get_by_role("button", name="Declare dead").click()
    await expect(page.locator(".done")).to_contain_text("Declared dead")
    await page.goto("/admin/errors?taskId=images")
    await page.get_by_role("link", name="Discard all that match").click()
    await page.get_by_role("button", name="Discard 1 job").click()
    await expect(page.locator(".done")).to_contain_text("Deleted: 1 job.")
    assert farm.jobs["timed_out"] not in store.jobs
    await page.goto(f"/admin/jobs/{farm.jobs['running']}")
    await page.get_by_role("link", name="Run again with changes").click()
    await page.get_by_label("Command").fill("date -u")
    await page.get_by_role("button", name="Run").click()
    await expect(page.locator(".done")).to_contain_text("A new job was made")
    assert [list(one.spec.command) for one in store.jobs.values()][-1] == ["date", "-u"]
    await page.goto(f"/admin/jobs/{farm.jobs['succeeded']}")
    await page.get_by_text("Delete the job").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.locator(".done")).to_contain_text("Deleted")
    assert watched.complaints == []


async def test_errors_are_chosen_and_stay_chosen(tab: Tab, farm: Furnished) -> None:
    watched = await tab(width=360)
    page, store, jobs = watched.page, farm.gateway.store, farm.jobs
    await page.goto("/admin/errors")
    retry = page.get_by_role("button", name="Retry chosen")
    await page.locator("#pick-all").click()
    await expect(retry).to_have_text("Retry chosen (2)…")
    await page.locator("#pick-all").click()
    await expect(retry).to_have_text("Retry chosen…")
    await page.get_by_label(f"Choose {jobs['failed']}").check()
    await expect(retry).to_have_text("Retry chosen (1)…")
    # The page reads itself anew: what is chosen stays so, and what comes is not.
    await store.move(farm.executions["evil"], Execution.FAILED, exit_code=1)
    await expect(page.locator(".pick input")).to_have_count(3)
    await expect(page.get_by_label(f"Choose {jobs['failed']}")).to_be_checked()
    await expect(page.locator(".pick :checked")).to_have_count(1)
    await expect(retry).to_have_text("Retry chosen (1)…")
    await retry.click()
    await expect(page.locator("h1")).to_have_text("Retry 1 job?")
    await page.get_by_role("button", name="Retry 1 job").click()
    await expect(page.locator(".done")).to_contain_text("Queued for")
    assert [store.jobs[jobs[name]].execution_count for name in ("failed", "timed_out", "evil")] == [2, 1, 1]
    assert watched.complaints == []


async def test_without_scripts_everything_can_be_read_and_done(tab: Tab, farm: Furnished) -> None:
    watched = await tab(javascript=False)
    page = watched.page
    for path in farm.pages():
        await page.goto(path)
        await expect(page.locator("h1")).to_have_count(1)
    await page.goto("/admin/errors")
    await page.get_by_role("link", name="Choose all on this page").click()
    await page.get_by_label(f"Choose {farm.jobs['failed']}").uncheck()
    await page.get_by_role("button", name="Discard chosen").click()
    await page.get_by_role("button", name="Discard 1 job").click()
    await expect(page.locator(".done")).to_be_visible()
    assert farm.jobs["timed_out"] not in farm.gateway.store.jobs
    page = await open_job(watched, farm, "running")
    await expect(page.locator("#log")).to_contain_text("green red plain")
    await expect(page.locator("#log-switches")).to_be_hidden()
    await page.fill("#find", "to stderr")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator(".found-words")).to_contain_text("1 line with “to stderr”")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".done")).to_be_visible()


async def test_colours_are_the_same_with_and_without_scripts(tab: Tab) -> None:
    watched = await tab()
    await watched.page.goto("/")
    drawn = await watched.page.evaluate(
        """lines => { const ansi = new EasyQ.Ansi(); return lines.map((line) => {
            const element = document.createElement("div"); ansi.fill(element, line); return element.innerHTML; }); }""",
        LINES,
    )
    made = [re.sub(r' title="[^"]*"', "", str(line)) for line in output(LINES)]
    assert [re.sub(r' title="[^"]*"', "", line) for line in drawn] == made
