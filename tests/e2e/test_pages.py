"""The pages of `easyq up` in a real browser: a person looks for a job, watches it fail, and has it run again."""

import pytest
from playwright.async_api import expect

from tests.support.browser import Watched, chromium
from tests.support.farm import Rest, UpFarm, Witness, shell

pytestmark = pytest.mark.slow
SCRIPT = """
echo "attempt $EASYQ_ATTEMPT begins"
until [ -e /witness/go$EASYQ_ATTEMPT ]; do sleep 0.05; done
echo "attempt $EASYQ_ATTEMPT ends"
[ $EASYQ_ATTEMPT = 2 ] || exit 3
"""
# How long a busy machine may take.
PATIENCE = 60_000


@pytest.mark.timeout(240)
async def test_a_job_is_found_watched_and_run_again(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    job = rest.enqueue(task, shell(SCRIPT, mounts=witness.mounts, retries=0))["jobId"]
    expect.set_options(timeout=PATIENCE)
    async with chromium() as browser:
        page = await browser.new_page(base_url=rest.url)
        page.set_default_timeout(PATIENCE)
        watched = Watched(page)
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Running")).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type(job)
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name=job).first.click()
        state, log = page.locator(".title .state"), page.locator("#log")
        await expect(log).to_contain_text("attempt 1 begins")
        await expect(page.locator("#log-state")).to_have_text("Live")
        await expect(state).to_have_text("running")
        await page.evaluate("window.stayed = true")
        (witness.folder / "go1").touch()
        await expect(log).to_contain_text("attempt 1 ends")
        await expect(log).to_contain_text("failed, exit code 3")
        await expect(state).to_have_text("failed")
        assert await page.evaluate("window.stayed") is True
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".done")).to_have_text("Its next attempt is queued.")
        await expect(log).to_contain_text("attempt 2 begins")
        await page.evaluate("window.stayed = true")
        (witness.folder / "go2").touch()
        await expect(log).to_contain_text("succeeded, exit code 0")
        await expect(state).to_have_text("succeeded")
        assert await page.evaluate("window.stayed") is True
        assert watched.complaints == []
    assert [one["exitCode"] for one in rest.job(job)["executions"]] == [3, 0]
