"""Debian's Chromium, driven by Playwright."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.support.missing import require_program

#: WCAG 2.2 at level AA, and what axe's authors advise beyond.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window, or the end of the test where there is none."""
    program = require_program("chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A tab whose complaints are collected: errors of scripts, refusals by its policy, dialogs."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", self._dialog)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    async def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    async def axe(self, rules: Sequence[str] | None = None) -> list[str]:
        """What axe finds on the page as it stands; where, and why. `rules`: only those. (A page's policy takes no
        script of ours: axe is evaluated by the debugger.)"""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8") + ";0")
        wanted = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": _RULES}
        found = await self.page.evaluate(
            "wanted => axe.run(document, {runOnly: wanted, resultTypes: ['violations']})", wanted
        )
        return [
            f"{one['id']}: {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        wide: int = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return wide
