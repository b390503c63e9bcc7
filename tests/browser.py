"""A headless Chromium for tests: pages opened from a file, that may load nothing and must raise no error."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
CHECKS = Path(__file__).with_name("browser_checks.js")
OWN = ("file:", "data:", "blob:", "about:")


def find_chromium() -> str | None:
    """Return what tests/standin/fetch.sh left beside this environment's python, or one on PATH."""
    own = Path(sys.prefix) / "standin" / "browser" / "chromium"
    return str(own) if own.exists() else next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser, as Playwright has it."""
    program = find_chromium()
    if program is None:
        pytest.skip("needs a Chromium: tests/standin/fetch.sh .venv/standin, or Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the dev extra: pip install 'mobench[dev]'")
    with playwright.sync_playwright() as driver:
        # In a container there is no other user for a sandbox to be; the pages are our own.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium: Any, file: Path, *, width: int = 1440, scheme: str = "light", idle: bool = True) -> Iterator[Any]:
    """Open a file in a window of its own. Whatever the page says in its console, asks for or throws fails the test.

    Without ``idle`` the page is never told that it has time, so that it does not unpack what it may need later.
    """
    problems: list[str] = []
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", accept_downloads=True
    )
    with contextlib.closing(context):
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: problems.append(f"console, {said.type}: {said.text}"))
        page.on("pageerror", lambda error: problems.append(f"thrown: {error}"))
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda other: problems.append(f"opened {other.url}"))

        def answer(route: Any) -> None:
            if route.request.url.startswith(OWN):
                route.continue_()
            else:
                problems.append(f"asked for {route.request.url}")
                route.abort()

        page.route("**/*", answer)
        if not idle:
            page.add_init_script("window.requestIdleCallback = () => 0")
        page.goto(file.as_uri())
        yield page
        page.evaluate("() => new Promise((done) => setTimeout(done))")  # what it said before has arrived by then
        assert not problems, problems
