"""A real browser for tests: Debian's Chromium, driven by Playwright, without a network."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str:
    """Return the browser's path: what TEST_BROWSER names, or one that is installed."""
    found = os.environ.get("TEST_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("needs a browser: apt-get install --no-install-recommends chromium")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run the browser."""
    path = browser_path()
    with sync_playwright() as playwright:
        # Root, as which containers run, has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Seen:
    """What a page did that it must not do."""

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened_page(
    browser: Browser, file: Path, *, width: int = 1400, dark: bool = False
) -> Iterator[tuple[Page, Seen]]:
    """Open a file, as a user does with a double click, and note errors and requests."""
    with opened_site(browser, file.as_uri(), width=width, dark=dark) as (page, seen):
        for chart in page.locator(".chart").all():
            chart.locator(".main-svg").first.wait_for()
        yield page, seen


@contextmanager
def opened_site(
    browser: Browser, url: str, *, width: int = 1400, dark: bool = False
) -> Iterator[tuple[Page, Seen]]:
    """Open a URL, and note errors and requests that go elsewhere than below it."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    page, seen = context.new_page(), Seen()
    page.on("console", lambda message: seen.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.messages.append(f"error: {error}"))
    page.on("dialog", lambda dialog: seen.messages.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: _note_request(seen, request.url, url))
    try:
        page.goto(url)
        yield page, seen
    finally:
        context.close()


def _note_request(seen: Seen, url: str, own: str) -> None:
    # What is below a site's address, which ends with a slash, is its own.
    is_own = url.startswith(own) if own.endswith("/") else url == own
    if not is_own and not url.startswith(("data:", "blob:")):
        seen.requests.append(url)
