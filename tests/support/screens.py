"""Screenshots, where somebody asks for them."""

from __future__ import annotations

import os

from playwright.async_api import Page

_HEIGHT = "() => Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))"
_AT_MOST = 6000


async def photograph(page: Page, name: str) -> None:
    """Write the whole page into the directory that `DOCJOBS_SCREENSHOTS` names; without one do nothing."""
    directory, size = os.environ.get("DOCJOBS_SCREENSHOTS"), page.viewport_size
    if not directory or not size:
        return
    height = min(await page.evaluate(_HEIGHT) + 40, _AT_MOST)
    await page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})
    await page.wait_for_timeout(500)  # until what fades in is there
    await page.screenshot(path=f"{directory}/{name}.png")
    await page.set_viewport_size(size)
